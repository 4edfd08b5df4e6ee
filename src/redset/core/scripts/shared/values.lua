-- Keyed sets: the sorted sets hold identities, and `values` the newest value of each. A value is there as long as its identity is
-- anywhere in the set, and no longer.

-- How many items one command is given. Lua refuses to unpack 8,000.
local PIECE = 1000

-- What the hash `key` has of each item, false if it has nothing. The items are the first column of `rows`, which have `width` columns.
local function values_of(rows, width, key)
    local found, items, count = {}, {}, #rows / width
    for i = 1, count do items[i] = rows[width * (i - 1) + 1] end
    for first = 1, count, PIECE do
        local piece = redis.call('HMGET', key, unpack(items, first, math.min(first + PIECE - 1, count)))
        if count <= PIECE then return piece end
        for i = 1, #piece do found[first + i - 1] = piece[i] end
    end
    return found
end

-- Deletes the values of identities, unless they are in one of the given sorted sets.
local function drop_values(items, ...)
    for _, key in ipairs({...}) do
        if #items == 0 then return end
        local scores, absent = redis.call('ZMSCORE', key, unpack(items)), {}
        for i, item in ipairs(items) do
            if not scores[i] then absent[#absent + 1] = item end
        end
        items = absent
    end
    if #items > 0 then redis.call('HDEL', values, unpack(items)) end
end

-- Writes values: identity, value, identity, value, ...
local function replace_values(fields)
    redis.call('HSET', values, unpack(fields))
end
