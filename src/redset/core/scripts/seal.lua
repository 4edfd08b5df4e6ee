-- Moves the items of a shard to other keys, and leaves keys of another type behind, so that every call on the shard fails.
-- A reshard then copies the items, which nothing changes any more. Sealing what is sealed changes nothing.
-- KEYS, without names: those to seal, `waiting` first, and as many to move them to.
-- ARGV: field and value for the hash in the place of `waiting`
-- Returns how many keys were moved.
local half, moved = #KEYS / 2, 0
for i = 1, half do
    local key, to = KEYS[i], KEYS[half + i]
    local found = redis.call('TYPE', key).ok
    -- A sorted set is replaced by a hash, and a hash by a string.
    local is_hash = i > 1 and string.sub(ARGV[3], i, i) == 'h'
    if found ~= (is_hash and 'string' or 'hash') then
        if found ~= 'none' then
            redis.call('RENAME', key, to)
            moved = moved + 1
        end
        if is_hash then redis.call('SET', key, 'moved') else redis.call('HSET', key, ARGV[1], ARGV[2]) end
    end
end
return moved
