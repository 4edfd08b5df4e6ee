-- Puts back some of what the caller's last call handed out, for those who went away before it reached them.
-- KEYS: call, waiting, leased, deliveries, parked, dead, letters, token, wake, waiters; on sets that are keyed, periodic
--       or remember values, done
-- ARGV: number, seen; "max_attempts max_dead waits keyed remember digest interval": 0 for without limit, for no, for never;
--       then the positions of the rows, from 1
-- Returns ''.
local call, waiting, leased, deliveries, parked, dead, letters, token, wake, waiters, values, done = unpack(KEYS)
local options = ARGV[3]
local max_attempts, max_dead = string.match(options, '^(%d+) (%d+)')
max_attempts, max_dead = tonumber(max_attempts), tonumber(max_dead)
-- include rules
-- include calls
-- include answer
if not unseen then
    -- Deleting is always allowed, and what has written once may go on writing on a server that is full.
    redis.call('DEL', call)
    return answer('')
end
local cleared = redis.pcall('HGET', token, 'cleared') or '0'
if type(cleared) == 'table' then return wrong_type(token, 'hash') end
-- include clock
-- include wakeups
-- include leases
-- include unseen

local refusal = wrong_type(waiting, 'zset', leased, 'zset', deliveries, 'hash', parked, 'zset', dead, 'zset',
    letters, 'hash', token, 'hash')
if values then refusal = refusal or wrong_type(values, 'hash') end
if done then refusal = refusal or wrong_type(done, 'zset') end
if refusal then return refusal end

local positions = {}
for i = 4, #ARGV do positions[i - 3] = tonumber(ARGV[i]) end
put_back_unseen(positions)
if brought_back then wake_one() end
return answer('')
