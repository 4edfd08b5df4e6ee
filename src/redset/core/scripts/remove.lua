-- Removes items by name, whether they wait or are leased: who holds a lease of one finds it lost. Or removes a stretch of what waits,
-- by position or by score: a lease of the same item stays.
-- KEYS: call waiting leased deliveries parked dead meta wake looks
-- KEYS if values: values
-- KEYS if grouped: group groups ready resting upcoming busy limits
-- TIME if grouped
-- ARGV: number, seen; then `items` and item, item, ...; or how many at most, `ranks` and the first and the last one, or `scores` and the
--       lowest and the highest, as ZRANGE takes them
-- Returns the positions, from 0, of the items that were there; or "removed found first": how many of how many there were to remove,
-- and the position of the first.
-- include record
-- include wakeups
-- include states
-- include places
-- include watching if grouped
local by_name = ARGV[3] == 'items'
local refusal = wrong_type() or stored_otherwise(redis.call('HMGET', meta, 'layout')[1]) or by_name and find_waiters()
    or denied(call and 'SET', 'ZRANGE', 'ZMSCORE', 'HDEL', 'ZREMRANGEBYRANK', 'HINCRBY', grouped and 'ZADD', grouped and 'HSET', grouped and 'HSETNX')
if refusal then return refusal end

if by_name then
    local removed, items, entries, leases = {}, {unpack(ARGV, 4)}, 0, 0
    if grouped then turns().watch(items) end
    local deadlines = redis.call('ZMSCORE', leased, unpack(items))
    for i, item in ipairs(items) do
        local waited, was_leased = redis.call('ZREM', waiting, item), redis.call('ZREM', leased, item)
        if waited + was_leased > 0 then removed[#removed + 1] = i - 1 end
        entries = entries + waited + was_leased
        if was_leased > 0 and tonumber(deadlines[i]) > 0 then leases = leases + 1 end
    end
    redis.call('HDEL', deliveries, unpack(items))
    entries = entries + redis.call('ZREM', parked, unpack(items))
    if values then drop_values(items, dead) end
    if grouped then turns().settle() end
    moves().count('removed', #removed)
    moves().count('merged', entries - #removed)
    moves().count('leases_removed', leases)
    moves().write_totals()
    -- A waiter may wait for a lease to end, if the set limits how many there are.
    if leases > 0 and wake_one then wake_one() end
    return answer(table.concat(removed, ' '))
end

local limit, lowest, highest = tonumber(ARGV[3]), ARGV[5], ARGV[6]
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

free_record()
if removed > 0 then
    local items = redis.call('ZRANGE', waiting, first, first + removed - 1)
    if grouped then turns().watch(items) end
    redis.call('ZREMRANGEBYRANK', waiting, first, first + removed - 1)
    if grouped then turns().settle() end
    local deadlines, delivered = redis.call('ZMSCORE', leased, unpack(items)), {}
    for i, item in ipairs(items) do
        if not deadlines[i] then delivered[#delivered + 1] = item end
    end
    if #delivered > 0 then redis.call('HDEL', deliveries, unpack(delivered)) end
    if values then drop_values(items, leased, dead) end
    redis.pcall('HINCRBY', meta, 'removed', removed)
end
return answer(removed .. ' ' .. found .. ' ' .. first)
