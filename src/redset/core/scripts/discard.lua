-- Removes items, whether they wait or are leased; who holds one of them finds its lease lost.
-- KEYS: waiting, leased, deliveries, parked[, call]
-- ARGV: number, seen; item, item, ...
-- Returns the positions, from 0, of those that were there.
local waiting, leased, deliveries, parked, call = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
-- include calls

local refusal = wrong_type(waiting, 'zset', leased, 'zset', deliveries, 'hash', parked, 'zset')
if refusal then return refusal end

local removed = {}
for i = 3, #ARGV do
    local item = ARGV[i]
    local waited, was_leased = redis.call('ZREM', waiting, item), redis.call('ZREM', leased, item)
    redis.call('HDEL', deliveries, item)
    redis.call('ZREM', parked, item)
    if waited + was_leased > 0 then removed[#removed + 1] = i - 3 end
end
return answer(table.concat(removed, ' '))
