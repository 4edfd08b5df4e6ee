-- Keyed sets: what waits is an identity, and its newest value stands beside, in `values` (nil on other sets). A value
-- is there as long as its identity is anywhere in the set, and no longer.
-- Behind the columns of `rows`, each of `width`, puts two more: '1' and the value, or '0' and '' where there is none.
local function with_values(rows, width)
    if not values or #rows == 0 then return rows end
    local items, count = {}, #rows / width
    for i = 1, count do items[i] = rows[width * (i - 1) + 1] end
    local found, wider = redis.call('HMGET', values, unpack(items)), {}
    for i = 1, count do
        for column = 1, width do wider[#wider + 1] = rows[width * (i - 1) + column] end
        wider[#wider + 1] = found[i] and '1' or '0'
        wider[#wider + 1] = found[i] or ''
    end
    return wider
end
