-- Puts items that were taken for good and cannot be loaded among the dead letters.
-- KEYS: call, waiting, leased, dead, letters; on sets that are keyed or remember values, done
-- ARGV: number, seen; "max_dead keyed remember digest interval": 0 for without limit, for no, for never; then for each item, score,
--       reason, value ('' on a set without keys)
-- Returns how many old dead letters were dropped to make room.
local call, waiting, leased, dead, letters, values, done = unpack(KEYS)
local max_dead, keyed, remember, digest, interval = string.match(ARGV[3], '^(%d+) (%d) (%S+) (%d) (%S+)$')
max_dead, remember, digest = tonumber(max_dead), tonumber(remember), digest == '1'
if keyed == '0' then values = nil end
if remember == 0 then done = nil end
-- include calls
-- include answer
-- include clock
-- include deaths
-- include memory

local refusal = wrong_type(waiting, 'zset', leased, 'zset', dead, 'zset', letters, 'hash')
if values then refusal = refusal or wrong_type(values, 'hash') end
if done then refusal = refusal or wrong_type(done, 'zset') end
if refusal then return refusal end

-- Makes the script one that has written, and may go on on a server that is full.
redis.call('ZREM', dead, ARGV[4])
for i = 4, #ARGV, 4 do
    local item = ARGV[i]
    -- It was taken for good, but it is not done, and has no next tick.
    if done then redis.call('ZREM', done, unpack(memories_of({item}))) end
    if interval ~= '0' then redis.call('ZREM', waiting, item) end
    -- What was added since is newer; whoever takes that will see what is wrong with it, if anything is.
    if not (redis.call('ZSCORE', waiting, item) or redis.call('ZSCORE', leased, item)) then
        if values then redis.call('HSET', values, item, ARGV[i + 3]) end
        die(item, '1', ARGV[i + 1], ARGV[i + 2])
    end
end
return answer(tostring(forgotten))
