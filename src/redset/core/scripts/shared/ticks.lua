-- Periodic items: those of a set with an `interval` in seconds, nil on other sets, unless they have one of their own, which
-- stands in front of their value: "interval\nvalue", where either may be missing. Needs the clock, `waiting` and `values`.
local seconds_between, schedule_next
if interval then
    local math, tonumber = math, tonumber

    seconds_between = function(value)
        local own = value and tonumber(string.match(value, '^[^\n]*'))
        -- Anybody may write there.
        return own and own > 0 and own < math.huge and own or interval
    end

    -- Has items wait for their next tick: a whole number of intervals after the one that was planned, at least one, and not
    -- past, so that nothing drifts and what was missed is not made up for. Those that wait already are left alone. `found`
    -- are their values, where these are known. Returns the ticks, as numbers: a server is given all their digits.
    schedule_next = function(items, planned, found)
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
end
