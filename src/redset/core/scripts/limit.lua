-- Pauses and resumes a set, and sets its limits; `shared/gates.lua` and `shared/room.lua` say what they mean.
-- KEYS: call waiting meta leased wake looks
-- TIME
-- ARGV: number, seen; `pause`, the time at which it ends or -1; or `resume`; or `limit`, rate, per, burst, leases, maxsize, with 0 for
--       what is not limited
-- Returns nothing.
-- include record
-- include wakeups
-- include totals
-- include gates
local verb = ARGV[3]
local refusal = wrong_type() or stored_otherwise(redis.call('HMGET', meta, 'layout')[1]) or find_waiters()
    or denied(call and 'SET', 'HSET')
if refusal then return refusal end

-- The bucket keeps the claims that it holds, so that no change of the rate lets more through than the greater burst.
local NO_LIMITS = '0 1 0 0'
local level, pause, limits = 0, '0', NO_LIMITS
local field = redis.call('HMGET', meta, 'gate')[1]
local gate = field and gates().read_gate(field, 0, 0)
if gate then
    level = gate.level
    pause, limits = string.match(field, '^%S+ %S+ (%S+) (.*)$')
end
if verb == 'limit' then limits = table.concat(ARGV, ' ', 4, 7) else pause = ARGV[4] or '0' end
if string.sub(limits, 1, 2) == '0 ' then level = 0 end

-- The first write frees memory, so that a full server can be paused.
redis.call('HDEL', meta, 'gate', verb == 'limit' and 'maxsize' or 'gate')
if pause ~= '0' or limits ~= NO_LIMITS then
    redis.call('HSET', meta, 'gate', string.format('%.17g %s %s %s', level, clock, pause, limits))
end
if verb == 'limit' and ARGV[8] ~= '0' then redis.call('HSET', meta, 'maxsize', ARGV[8]) end
-- A caller that waits plans its next look by the new moment; a pause without an end has none.
if not (verb == 'pause' and pause == '-1') and wake_one then wake_one() end
return answer('')
