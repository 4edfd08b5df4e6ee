-- Puts items that were taken for good and cannot be loaded among the dead letters.
-- KEYS: call, waiting, dead, letters; on sets that are keyed or remember values, done
-- ARGV: number, seen; "max_dead keyed remember digest": 0 for without limit, for no, for never; item, score, reason, value, item, ... ('' for the value of a set without keys)
-- Returns how many old dead letters were dropped to make room.
local call, waiting, dead, letters, values, done = unpack(KEYS)
local max_dead, keyed, remember, digest = string.match(ARGV[3], '^(%d+) (%d) (%S+) (%d)$')
max_dead, remember, digest = tonumber(max_dead), tonumber(remember), digest == '1'
if keyed == '0' then values = nil end
if remember == 0 then done = nil end
-- include calls
-- include clock
-- include deaths
-- include memory

local refusal = wrong_type(waiting, 'zset', dead, 'zset', letters, 'hash')
if values then refusal = refusal or wrong_type(values, 'hash') end
if done then refusal = refusal or wrong_type(done, 'zset') end
if refusal then return refusal end

-- Makes the script one that has written, and may go on on a server that is full.
redis.call('ZREM', dead, ARGV[4])
for i = 4, #ARGV, 4 do
    -- What was added since is newer.
    if values then redis.call('HSETNX', values, ARGV[i], ARGV[i + 3]) end
    -- It was taken for good, but it is not done.
    if done then redis.call('ZREM', done, memory_of(ARGV[i])) end
    die(ARGV[i], '1', ARGV[i + 1], ARGV[i + 2])
end
return answer(tostring(forgotten))
