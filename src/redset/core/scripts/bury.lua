-- Puts items that were taken for good and cannot be loaded among the dead letters.
-- KEYS: call, waiting, leased, dead, letters; on sets that are keyed, periodic or remember values, done
-- ARGV: number, seen; "max_dead keyed remember digest interval": 0 for without limit, for no, for never; then for each item,
--       score, reason, value ('' on a set without keys)
-- Returns how many old dead letters were dropped to make room.
local call, waiting, leased, dead, letters, values, done = unpack(KEYS)
local options = ARGV[3]
local max_dead = tonumber(string.match(options, '^%d+'))
-- include rules
-- include calls
-- include answer
-- include clock
-- include deaths
-- include memory

local refusal = wrong_type(waiting, 'zset', leased, 'zset', dead, 'zset', letters, 'hash')
if values then refusal = refusal or wrong_type(values, 'hash') end
if done then refusal = refusal or wrong_type(done, 'zset') end
refusal = refusal or denied(call and 'SET', 'ZADD', 'HSET', 'ZMSCORE', 'HDEL', 'HMGET')
    or max_dead > 0 and denied('ZCARD', 'ZPOPMIN')
if refusal then return refusal end

-- Whether nothing newer was added since; whoever takes that will see what is wrong with it, if anything is.
local function is_newest(item, value)
    if not interval then return not (redis.call('ZMSCORE', waiting, item)[1] or redis.call('ZMSCORE', leased, item)[1]) end
    -- It waits for its next tick, which there will not be.
    return not (keyed and redis.call('HMGET', values, item)[1] ~= value) and redis.call('ZREM', waiting, item) == 1
end

-- Makes the script one that has written, and may go on on a server that is full.
redis.call('ZREM', dead, ARGV[4])
for i = 4, #ARGV, 4 do
    local item = ARGV[i]
    -- It was taken for good, but it is not done.
    if done then redis.call('ZREM', done, unpack(memories_of({item}))) end
    if is_newest(item, ARGV[i + 3]) then
        if keyed then redis.call('HSET', values, item, ARGV[i + 3]) end
        die(item, '1', ARGV[i + 1], ARGV[i + 2])
    end
end
return answer(tostring(forgotten))
