-- Sets the limits of a group, or pauses or resumes it; `shared/groups.lua` says what that means.
-- KEYS: call waiting leased dead meta wake looks
-- KEYS if grouped: group groups ready resting upcoming busy limits
-- TIME
-- ARGV: number, seen, the name of the group; `limit`, leases, pause, each `-` for that of the set; or `pause`, the time at which it
--       ends or -1; or `resume`
-- Returns nothing.
-- include record
-- include wakeups
-- include totals
-- include groups
local name, verb = ARGV[3], ARGV[4]
local refusal = wrong_type() or stored_otherwise(redis.call('HMGET', meta, 'layout')[1]) or find_waiters()
    or denied(call and 'SET', 'HSET', 'HLEN', 'ZADD', 'ZREM', 'HMGET', 'ZMSCORE', 'ZRANGE')
if refusal then return refusal end

local own = redis.call('HMGET', limits, name)[1] or '- - 0 0'
local leases, pause, paused_until, rests_until = string.match(own, '^(%S+) (%S+) (%S+) (%S+)$')
-- The first write frees memory, so that a full server can be paused.
redis.call('HDEL', limits, name)
if verb == 'limit' then
    leases, pause = ARGV[5], ARGV[6]
else
    -- Between two claims it rests also when it is resumed. After the end of a pause there may have been another claim.
    if paused_until ~= '-1' and tonumber(paused_until) <= time then rests_until = redis.call('ZMSCORE', resting, name)[1] or '0' end
    redis.call('ZREM', resting, name)
    paused_until = verb == 'pause' and ARGV[5] or '0'
    local ends = paused_until == '-1' and math.huge or tonumber(paused_until)
    ends = math.max(ends, tonumber(rests_until))
    if ends > time then redis.call('ZADD', resting, ends == math.huge and '+inf' or string.format('%.6f', ends), name) end
    if verb == 'resume' then rests_until = '0' end
end
local field = table.concat({leases, pause, paused_until, rests_until}, ' ')
if field ~= '- - 0 0' then redis.call('HSET', limits, name, field) end
local count = redis.call('HLEN', limits)
if count > 0 then redis.call('HSET', meta, 'limited', count) else redis.call('HDEL', meta, 'limited') end
turns().place_group(name)
-- A caller that waits plans its next look by the new moment; a pause without an end has none.
if not (verb == 'pause' and paused_until == '-1') and wake_one then wake_one() end
return answer('')
