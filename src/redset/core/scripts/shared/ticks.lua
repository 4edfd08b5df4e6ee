-- Periodic items: each has the set's `interval` in seconds, or one of its own in front of its value, "interval\nvalue", where either
-- may be missing. Needs the clock, `waiting` and `values`.
local function seconds_between(value)
    local own = value and tonumber(string.match(value, '^[^\n]*'))
    -- Any program may write there.
    return own and own > 0 and own < math.huge and own or interval
end

-- Has items wait for their next tick: a whole number of intervals, at least one, after the planned one, and not past. So nothing
-- drifts, and missed ticks are not made up for. Items that wait already are left alone. `found` are their values, if known.
-- Returns the ticks, as numbers: a server is given all their digits.
local function schedule_next(items, planned, found)
    found = found or redis.call('HMGET', values, unpack(items))
    local ticks, rows = {}, {}
    for i = 1, #items do
        local every, from = found[i] and seconds_between(found[i]) or interval, tonumber(planned[i])
        local tick = from + every
        if tick <= time then
            tick = from + (math.floor((time - from) / every) + 1) * every
            -- The rhythm of a moment so far away that a float has no seconds there begins now.
            if not (tick > time and tick <= time + 2 * every) then tick = time + every end
        end
        ticks[i] = tick
        rows[2 * i - 1], rows[2 * i] = tick, items[i]
    end
    redis.call('ZADD', waiting, 'NX', unpack(rows))
    return ticks
end
