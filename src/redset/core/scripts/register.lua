-- Notes a set in the registry of all sets on the server.
-- KEYS: sets until
-- TIME
-- ARGV: name of the set; its record; 0, or for an expiring set the seconds after which it may be forgotten
-- Returns the record that the registry had of it, or nil.
local refusal = wrong_type()
if refusal then return refusal end
local name, record, seconds = ARGV[1], ARGV[2], tonumber(ARGV[3])

local before = redis.call('HGET', sets, name)
if before ~= record then redis.call('HSET', sets, name, record) end
if seconds > 0 then
    redis.call('ZADD', until, string.format('%.6f', time + seconds), name)
else
    -- An expiring set of this name may have been there before.
    redis.call('ZREM', until, name)
end
-- Expiring sets are made for each user, so the registry forgets old ones as fast as it gets to know new ones, and faster.
for _, old in ipairs(redis.call('ZRANGE', until, '-inf', clock, 'BYSCORE', 'LIMIT', '0', '10')) do
    redis.call('ZREM', until, old)
    if old ~= name then redis.call('HDEL', sets, old) end
end
return before
