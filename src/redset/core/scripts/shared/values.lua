-- Keyed sets: what waits is an identity, and its newest value stands beside, in `values` (nil on other sets). A value
-- is there as long as its identity is anywhere in the set, and no longer.

-- One column of `rows`, which have `width` of them.
local function column(rows, width, which_one)
    local cells = {}
    for i = 1, #rows / width do cells[i] = rows[width * (i - 1) + which_one] end
    return cells
end

-- The value of each item, false where there is none.
local function values_of(items)
    return #items == 0 and {} or redis.call('HMGET', values, unpack(items))
end
