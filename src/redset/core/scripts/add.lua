-- Adds items to what waits; what becomes of one that is leased or dead is decided when it is met at the hand-out.
-- KEYS: waiting, wake, waiters[, call]
-- ARGV: number, seen; 'any', or 'new' to leave what waits already as it is; score, item, score, item, ...
-- Returns how many of them did not wait before.
local waiting, wake, waiters, call = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
-- include calls
-- include wakeups

-- The first write: refused whole on a server that is full, and where the key is no sorted set.
local added
if ARGV[3] == 'new' then
    added = redis.pcall('ZADD', waiting, 'NX', unpack(ARGV, 4))
else
    added = redis.pcall('ZADD', waiting, unpack(ARGV, 4))
end
if type(added) == 'table' then return wrong_type(waiting, 'zset') or added end
if watched then wake_one() end
return answer(tostring(added))
