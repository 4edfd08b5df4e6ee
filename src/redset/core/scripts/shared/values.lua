-- Keyed sets: what waits is an identity, and its newest value stands beside, in `values` (nil on other sets). A value
-- is there as long as its identity is anywhere in the set, and no longer.

-- The identities in the first of `rows`' columns, of which there are `width`.
local function items_of(rows, width)
    local items = {}
    for i = 1, #rows / width do items[i] = rows[width * (i - 1) + 1] end
    return items
end

-- The value of each item, false where there is none.
local function values_of(items)
    return #items == 0 and {} or redis.call('HMGET', values, unpack(items))
end
