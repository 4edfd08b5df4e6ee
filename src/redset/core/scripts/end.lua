-- Ends reservations, or extends them. One whose lease is over already is left alone, whoever has the item by now.
-- KEYS: call, waiting, leased, deliveries, parked, dead, letters, wake, waiters; on sets that are keyed or remember
--       values, done
-- ARGV: number, seen; "max_attempts max_dead keyed remember digest": 0 for without limit, for no, for never;
--       then for each: ack, nack, again, extend or bury; item, token; seconds, text: for
--       nack: until it may be tried again, why        again: until then, the new score or ''
--       extend: the new lease, ''                     bury: 0, why           ack: 0, ''
-- Returns "died forgotten now lost ...": dead letters made and dropped; the time, to which a lease adds; the positions,
-- from 0, of those that were over.
local call, waiting, leased, deliveries, parked, dead, letters, wake, waiters, values, done = unpack(KEYS)
local max_attempts, max_dead, keyed, remember, digest = string.match(ARGV[3], '^(%d+) (%d+) (%d) (%S+) (%d)$')
max_attempts, max_dead, remember, digest = tonumber(max_attempts), tonumber(max_dead), tonumber(remember), digest == '1'
if keyed == '0' then values = nil end
if remember == 0 then done = nil end
-- include calls
-- include clock
-- include wakeups
-- include leases

local refusal = wrong_type(waiting, 'zset', leased, 'zset', deliveries, 'hash', parked, 'zset', dead, 'zset', letters, 'hash')
if values then refusal = refusal or wrong_type(values, 'hash') end
if done then refusal = refusal or wrong_type(done, 'zset') end
if refusal then return refusal end

-- Deleting is always allowed, and what has written once may go on writing on a server that is full.
if call then redis.call('DEL', call) end
local items, tokens = {}, {}
for i = 4, #ARGV, 5 do
    items[#items + 1], tokens[#tokens + 1] = ARGV[i + 1], ARGV[i + 2]
end
local lost = end_leases(items, tokens, function(i)
    local at = 5 * i - 1
    return ARGV[at], tonumber(ARGV[at + 3]), ARGV[at + 4]
end)
if brought_back then wake_one() end
return answer(died .. ' ' .. forgotten .. ' ' .. clock .. lost)
