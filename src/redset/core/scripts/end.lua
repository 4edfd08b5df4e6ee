-- Ends reservations, or extends them. One whose lease is over already is left alone, whoever has the item by now.
-- KEYS: waiting, leased, deliveries, parked, dead, letters, wake, waiters[, call]
-- ARGV: number, seen; max_attempts, max_dead (0: without limit);
--       then for each: ack, nack, again, extend or bury; item, token; seconds, text: for
--       nack: until it may be tried again, why        again: until then, the new score or ''
--       extend: the new lease, ''                     bury: 0, why           ack: 0, ''
-- Returns "died forgotten deadline lost ...": dead letters made and dropped; now, to which a lease adds; the
-- positions, from 0, of those that were over.
local waiting, leased, deliveries, parked, dead, letters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local wake, waiters, call = KEYS[7], KEYS[8], KEYS[9]
local max_attempts, max_dead = tonumber(ARGV[3]), tonumber(ARGV[4])
-- include calls
-- include clock
-- include wakeups
-- include leases

local refusal = wrong_type(waiting, 'zset', leased, 'zset', deliveries, 'hash', parked, 'zset', dead, 'zset', letters, 'hash')
if refusal then return refusal end

-- Deleting is always allowed, and what has written once may go on writing on a server that is full.
if call then redis.call('DEL', call) end
local items, tokens = {}, {}
for i = 5, #ARGV, 5 do
    items[#items + 1], tokens[#tokens + 1] = ARGV[i + 1], ARGV[i + 2]
end
local lost = end_leases(items, tokens, function(i)
    local at = 5 * i
    return ARGV[at], tonumber(ARGV[at + 3]), ARGV[at + 4]
end)
if brought_back then wake_one() end
return answer(died .. ' ' .. forgotten .. ' ' .. clock .. lost)
