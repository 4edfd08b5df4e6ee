-- Reads what there is to know of groups. Writes nothing.
-- KEYS: waiting leased dead meta
-- KEYS if grouped: group groups ready resting upcoming busy limits
-- TIME
-- ARGV: `one`, name of a group; or `all`, how many at most: those with the most leases first
-- Returns the time, the limits of groups that have none of their own, and for each group: name, waiting, leases, the field in
-- `limits`, the moment until which it rests, the score of its first item, `''` for what there is not.
-- include groups
local refusal = wrong_type()
if refusal then return refusal end

local names = {ARGV[2]}
if ARGV[1] == 'all' then
    local most, live, found, is_named = tonumber(ARGV[2]), redis.call('HGETALL', busy), {}, {}
    for i = 1, #live, 2 do found[#found + 1] = {live[i], tonumber(live[i + 1]) or 0} end
    table.sort(found, function(one, other) return one[2] > other[2] end)
    names = {}
    local function add(name)
        if #names < most and not is_named[name] then
            names[#names + 1], is_named[name] = name, true
        end
    end
    for _, one in ipairs(found) do add(one[1]) end
    for _, key in ipairs({ready, resting, upcoming}) do
        for _, name in ipairs(#names < most and redis.call('ZRANGE', key, '0', 2 * most) or {}) do add(name) end
    end
end

local reply = {clock, redis.call('HMGET', meta, 'per_group')[1] or '0 0'}
for _, name in ipairs(names) do
    local begins = beginning_of(name)
    local first = entries_of(begins, '0', '1')[1]
    for _, word in ipairs({
        name,
        string.format('%d', redis.call('ZLEXCOUNT', groups, '[' .. begins, '(' .. begins .. '\255\255')),
        redis.call('HGET', busy, name) or '0',
        redis.call('HGET', limits, name) or '',
        redis.call('ZSCORE', resting, name) or '',
        first and redis.call('ZSCORE', waiting, string.sub(first, #begins + 9)) or '',
    }) do
        reply[#reply + 1] = word
    end
end
return reply
