-- Keyed sets: what waits is an identity, and its newest value stands beside, in `values` (nil on other sets). A value
-- is there as long as its identity is anywhere in the set, and no longer.

-- One column of `rows`, which have `width` of them.
local function column(rows, width, which_one)
    local cells = {}
    for i = 1, #rows / width do cells[i] = rows[width * (i - 1) + which_one] end
    return cells
end

-- How many items one command is given. Lua refuses to unpack 8,000.
local PIECE = 1000

-- The value of each item, false where there is none; of any number of items.
local function values_of(items)
    local found, count = {}, #items
    for first = 1, count, PIECE do
        local piece = redis.call('HMGET', values, unpack(items, first, math.min(first + PIECE - 1, count)))
        if count <= PIECE then return piece end
        for i = 1, #piece do found[first + i - 1] = piece[i] end
    end
    return found
end
