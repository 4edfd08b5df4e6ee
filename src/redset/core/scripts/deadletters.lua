-- Ends dead letters: brings them back, or forgets them.
-- KEYS: call, waiting, dead, letters, wake, waiters; on keyed sets values
-- ARGV: number, seen; retry or forget; how many of the oldest, or 0 and then item, item, ...
-- Returns how many there were.
local call, waiting, dead, letters, wake, waiters, values = unpack(KEYS)
local verb, oldest = ARGV[3], tonumber(ARGV[4])
-- include calls
-- include answer
-- include wakeups

local refusal = wrong_type(waiting, 'zset', dead, 'zset', letters, 'hash')
if values then refusal = refusal or wrong_type(values, 'hash') end
refusal = refusal or denied(call and 'SET', verb == 'retry' and 'ZADD', 'HDEL', 'HMGET', 'ZMSCORE')
if refusal then return refusal end

local items = {unpack(ARGV, 5)}
if oldest > 0 then items = redis.call('ZRANGE', dead, '0', oldest - 1) end

local ended = 0
for _, item in ipairs(items) do
    local known = redis.call('HMGET', letters, item)[1]
    if redis.call('ZREM', dead, item) == 1 then
        ended = ended + 1
        redis.call('HDEL', letters, item)
        -- It starts afresh, with the score it had; if it was added again since, that is the newer one.
        if verb == 'retry' then
            redis.call('ZADD', waiting, 'NX', string.match(known, '^%S+ (%S+)'), item)
        elseif values and not redis.call('ZMSCORE', waiting, item)[1] then
            redis.call('HDEL', values, item)
        end
    end
end
if verb == 'retry' and ended > 0 then wake_one() end
return answer(tostring(ended))
