-- Removes items, whether they wait or are leased; who holds one of them finds its lease lost.
-- KEYS: call, waiting, leased, deliveries, parked; on keyed sets dead, values
-- ARGV: number, seen; item, item, ...
-- Returns the positions, from 0, of those that were there.
local call, waiting, leased, deliveries, parked, dead, values = unpack(KEYS)
-- include calls
-- include answer

local refusal = wrong_type(waiting, 'zset', leased, 'zset', deliveries, 'hash', parked, 'zset')
if values then refusal = refusal or wrong_type(dead, 'zset', values, 'hash') end
refusal = refusal or denied(call and 'SET', 'HDEL', values and 'ZMSCORE')
if refusal then return refusal end

local removed = {}
for i = 3, #ARGV do
    local item = ARGV[i]
    local waited, was_leased = redis.call('ZREM', waiting, item), redis.call('ZREM', leased, item)
    redis.call('HDEL', deliveries, item)
    redis.call('ZREM', parked, item)
    if values and not redis.call('ZMSCORE', dead, item)[1] then redis.call('HDEL', values, item) end
    if waited + was_leased > 0 then removed[#removed + 1] = i - 3 end
end
return answer(table.concat(removed, ' '))
