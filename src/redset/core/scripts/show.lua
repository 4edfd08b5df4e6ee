-- Reads some rows of a set, with everything cut, since an item may be large. Writes nothing.
-- KEYS: waiting leased deliveries parked dead letters values
-- TIME
-- ARGV: a state: `waiting`, `living`, `leased` (first deadline first), `delayed` (first end first), `parked`, `dead` (newest first),
--       `oldest` (dead ones, oldest first); the first row; how many; how many bytes of an item; and one of
--   `rows`: returns item, its length, its digest or '' if it is whole, score, delivery or letter, its value, the length of that, ...
--   `find`, digest: returns the whole items of this digest, and their deliveries or letters: item, delivery, ...
--   `reasons`: returns the beginnings of the letters of the rows
local refusal = wrong_type()
if refusal then return refusal end

local state, first, count, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local sources = {
    ['waiting'] = waiting, ['living'] = waiting, ['leased'] = leased, ['delayed'] = leased, ['parked'] = parked,
    ['dead'] = dead, ['oldest'] = dead,
}
local key = sources[state]
local is_dead = key == dead
-- Delayed items come first in `leased`, with scores below 0. Expired items come first in `living`.
local before = state == 'leased' and redis.call('ZCOUNT', key, '-inf', '0')
    or state == 'living' and redis.call('ZCOUNT', key, '-inf', clock) or 0
local found
if state == 'delayed' then
    local last = redis.call('ZCOUNT', key, '-inf', '(0') - 1
    found = first > last and {} or redis.call('ZREVRANGE', key, redis.call('ZCARD', key) - 1 - last + first,
        redis.call('ZCARD', key) - 1 - math.max(0, last - first - count + 1), 'WITHSCORES')
else
    local read = state == 'dead' and 'ZREVRANGE' or 'ZRANGE'
    found = redis.call(read, key, before + first, before + first + count - 1, 'WITHSCORES')
end

-- Another program may keep other things under the keys that go with a waiting item.
local function beside(item)
    return redis.call('HGET', is_dead and letters or deliveries, item) or ''
end

local function digest_of(item)
    return redis.sha1hex(#item .. ':' .. string.sub(item, 1, 4096) .. string.sub(item, -4096))
end

local reply = {}
local function put(...)
    for _, word in ipairs({...}) do reply[#reply + 1] = word end
end

for i = 1, #found, 2 do
    local item = found[i]
    if ARGV[5] == 'reasons' then
        put(string.sub(beside(item), 1, limit))
    elseif ARGV[5] == 'find' then
        if #item > limit and digest_of(item) == ARGV[6] then put(item, beside(item)) end
    else
        local value = state ~= 'living' and redis.call('HGET', values, item) or ''
        put(string.sub(item, 1, limit), #item, #item > limit and digest_of(item) or '', found[i + 1],
            string.sub(beside(item), 1, 1000), string.sub(value, 1, math.min(limit, 1000)), #value)
    end
end
return reply
