-- Removes all items. The set's own hash stays, so that later tokens are greater and totals go on.
-- KEYS: call meta waiting leased deliveries parked dead letters values done
-- KEYS if grouped: group groups ready resting upcoming busy limits
-- TIME
-- ARGV: number, seen
-- Returns how many keys there were to remove.
-- include record
-- include totals
local known = redis.call('EXISTS', meta) == 1
local refusal = wrong_type() or stored_otherwise(redis.call('HMGET', meta, 'layout')[1])
    or denied(call and 'SET', 'HSET', 'HMGET', 'HINCRBY')
if refusal then return refusal end

local function count_all(key)
    return redis.call('ZCARD', key)
end
moves().count('removed', count_all(waiting) + count_all(leased) + count_all(parked))
moves().count('leases_removed', redis.call('ZCOUNT', leased, '(0', '+inf'))
moves().count('dead_removed', count_all(dead))

local removed = redis.call('UNLINK', waiting, leased, deliveries, parked, dead, letters, values, done, unpack(grouped and {group, groups, ready, upcoming, busy} or {}))
if known or removed > 0 then
    local micros = moment[1] * 1000000 + moment[2]
    local before = tonumber(redis.call('HMGET', meta, 'cleared')[1]) or 0
    redis.call('HSET', meta, 'cleared', string.format('%.0f', math.max(before + 1, micros)))
    moves().write_totals()
else
    -- Nothing has ever happened to the set, so no claim from before can be rolled back.
    free_record()
end
return answer(tostring(removed))
