-- Ends reservations, or extends them. One whose lease is over already is left alone, whoever has the item by now.
-- KEYS: call, waiting, leased, deliveries, parked, dead, letters, wake, waiters; on sets that are keyed, periodic
--       or remember values, done
-- ARGV: number, seen; "max_attempts max_dead keyed remember digest interval": 0 for without limit, for no, for never;
--       then 'ack', and for each: item, delivery, which is what `deliveries` had of it when it was handed out; or
--       'each', and for each: item, delivery; ack, nack, again, extend or bury; seconds, text: for
--       nack: until it may be tried again, why        again: until then, the new score or ''
--       extend: the new lease, ''                     bury: 0, why           ack: 0, ''
-- Returns "died forgotten now lost ...": dead letters made and dropped; the time, to which a lease adds; the positions,
-- from 0, of those that were over.
local call, waiting, leased, deliveries, parked, dead, letters, wake, waiters, values, done = unpack(KEYS)
local options = ARGV[3]
local max_attempts, max_dead = string.match(options, '^(%d+) (%d+)')
max_attempts, max_dead = tonumber(max_attempts), tonumber(max_dead)
-- include rules
-- include calls
-- include answer
-- include clock
-- include finished

local only_acks = ARGV[4] == 'ack'
local items, given_out, width = {}, {}, only_acks and 2 or 5
for i = 5, #ARGV, width do
    items[#items + 1], given_out[#given_out + 1] = ARGV[i], ARGV[i + 1]
end

-- The reply where all is as it mostly is: acks of what is held, and nothing is parked. It does in fewer steps what the rules
-- in `leases` do; nil, and nothing was changed, for when it takes these.
local function common_case()
    if #items == 0 or redis.call('EXISTS', parked) == 1 then return nil end
    local known, deadlines = redis.pcall('HMGET', deliveries, unpack(items)), redis.pcall('ZMSCORE', leased, unpack(items))
    if known.err or deadlines.err then return nil end
    if values and wrong_type(waiting, 'zset', values, 'hash') or done and wrong_type(done, 'zset') then return nil end
    local met = {}
    for i, item in ipairs(items) do
        if met[item] or not is_held(known[i], deadlines[i], given_out[i]) then return nil end
        met[item] = true
    end
    local refusal = may_not_finish()
    if refusal then return refusal end
    redis.call('ZREM', leased, unpack(items))
    finish(items, planned_of(known, #items))
    return answer('0 0 ' .. clock)
end
local reply = only_acks and common_case()
if reply then return reply end

-- include wakeups
-- include leases

local refusal = wrong_type(waiting, 'zset', leased, 'zset', deliveries, 'hash', parked, 'zset', dead, 'zset', letters, 'hash')
if values then refusal = refusal or wrong_type(values, 'hash') end
if done then refusal = refusal or wrong_type(done, 'zset') end
refusal = refusal or may_not_end_leases()
if refusal then return refusal end

-- Deleting is always allowed, and what has written once may go on writing on a server that is full.
if call then redis.call('DEL', call) end
local lost = end_leases(items, given_out, function(i)
    if only_acks then return 'ack' end
    local at = 5 * i + 2
    return ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
end)
if brought_back then wake_one() end
return answer(died .. ' ' .. forgotten .. ' ' .. clock .. lost)
