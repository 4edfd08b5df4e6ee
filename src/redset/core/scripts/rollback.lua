-- Rolls back what the caller's last call claimed, if nobody read its reply: all of its rows, or only those at some positions.
-- Whatever it finds, the caller's record then holds this call, so a record of many rows is emptied.
-- KEYS: call, waiting, leased, deliveries, parked, dead, letters, token, wake, waiters; on sets that are keyed, periodic
--       or remember values, done
-- ARGV: number, seen; "max_attempts max_dead waits keyed remember digest interval": 0 for without limit, for no, for never;
--       then the positions of the rows, from 1, or none for all
-- Returns the head of the reply that nobody read, see handout.lua; '' when the last call was never executed, or was read.
local call, waiting, leased, deliveries, parked, dead, letters, token, wake, waiters, values, done = unpack(KEYS)
local options = ARGV[3]
local max_attempts, max_dead = string.match(options, '^(%d+) (%d+)')
max_attempts, max_dead = tonumber(max_attempts), tonumber(max_dead)
-- include rules
-- include calls
-- include answer
if not (unseen and unseen.kind ~= 'done') then
    local refusal = denied('SET')
    if refusal then return refusal end
    -- DEL is always allowed, and a script that has written may continue to write on a full server.
    redis.call('DEL', call)
    return answer(unseen and unseen.head or '')
end
local cleared = redis.pcall('HGET', token, 'cleared') or '0'
if type(cleared) == 'table' then return wrong_type(token, 'hash') or cleared end
-- include clock
-- include wakeups
-- include leases
-- include unseen

local refusal = wrong_type(waiting, 'zset', leased, 'zset', deliveries, 'hash', parked, 'zset', dead, 'zset',
    letters, 'hash', token, 'hash')
if values then refusal = refusal or wrong_type(values, 'hash') end
if done then refusal = refusal or wrong_type(done, 'zset') end
refusal = refusal or denied(values and 'HSETNX') or may_not_end_leases()
if refusal then return refusal end

local positions = {}
for i = 4, #ARGV do positions[i - 3] = tonumber(ARGV[i]) end
roll_back_unseen(#positions > 0 and positions or nil)
if brought_back then wake_one() end
return answer(unseen.head)
