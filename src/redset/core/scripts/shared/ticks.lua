-- Periodic items: those of a set with an `interval` in seconds, nil on other sets, unless they have one of their own, which
-- stands in front of their value: "interval\nvalue", where either may be missing. Needs the clock, `waiting` and `values`.
local schedule_next
if interval then
    local function seconds_between(value)
        local own = value and tonumber(string.match(value, '^[^\n]*'))
        -- Anybody may write there.
        return own and own > 0 and own < math.huge and own or interval
    end

    -- Has items wait for their next tick: a whole number of intervals after the one that was planned, at least one, and not
    -- past, so that nothing drifts and what was missed is not made up for. Those that wait already are left alone. Returns
    -- the ticks.
    schedule_next = function(items, planned)
        local found, ticks, rows = redis.call('HMGET', values, unpack(items)), {}, {}
        for i, item in ipairs(items) do
            local every, from = seconds_between(found[i]), tonumber(planned[i])
            if from == -math.huge or from == math.huge then from = time end
            local tick = from + math.max(1, math.floor((time - from) / every) + 1) * every
            if tick <= time then tick = time + every end
            ticks[i] = string.format('%.17g', tick)
            rows[2 * i - 1], rows[2 * i] = ticks[i], item
        end
        redis.call('ZADD', waiting, 'NX', unpack(rows))
        return ticks
    end
end
