-- Removes a stretch of what waits, by position or by score. A lease of the same item stays.
-- KEYS: call, waiting, leased, deliveries; on keyed sets dead, values
-- ARGV: number, seen; how many at most; 'ranks' and the first and the last one, or 'scores' and the lowest and the
--       highest, as ZRANGE takes them
-- Returns "removed found first": how many there were to remove, and at which position.
local call, waiting, leased, deliveries, dead, values = unpack(KEYS)
local limit, lowest, highest = tonumber(ARGV[3]), ARGV[5], ARGV[6]
-- include calls
-- include answer
-- include places

local refusal = wrong_type(waiting, 'zset', leased, 'zset', deliveries, 'hash')
if values then refusal = refusal or wrong_type(dead, 'zset', values, 'hash') end
refusal = refusal or denied(call and 'SET', 'ZRANGE', 'ZMSCORE', 'HDEL', 'ZREMRANGEBYRANK')
if refusal then return refusal end

local first, last
if ARGV[4] == 'scores' then
    first, last = below(lowest), redis.call('ZCOUNT', waiting, '-inf', highest) - 1
else
    local count = redis.call('ZCARD', waiting)
    first, last = tonumber(lowest), tonumber(highest)
    if first < 0 then first = math.max(count + first, 0) end
    if last < 0 then last = count + last end
    last = math.min(last, count - 1)
end
local found = math.max(last - first + 1, 0)
local removed = math.min(found, limit)

-- Deleting is always allowed, and what has written once may go on writing on a server that is full.
if call then redis.call('DEL', call) end
if removed > 0 then
    local items = redis.call('ZRANGE', waiting, first, first + removed - 1)
    local leases, deaths = redis.call('ZMSCORE', leased, unpack(items)), {}
    if values then deaths = redis.call('ZMSCORE', dead, unpack(items)) end
    local delivered, valued = {}, {}
    for i, item in ipairs(items) do
        if not leases[i] then delivered[#delivered + 1] = item end
        if values and not (leases[i] or deaths[i]) then valued[#valued + 1] = item end
    end
    redis.call('ZREMRANGEBYRANK', waiting, first, first + removed - 1)
    if #delivered > 0 then redis.call('HDEL', deliveries, unpack(delivered)) end
    if #valued > 0 then redis.call('HDEL', values, unpack(valued)) end
end
return answer(removed .. ' ' .. found .. ' ' .. first)
