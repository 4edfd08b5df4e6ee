-- The room of a set with a `maxsize`: that many, less the items that wait, are leased or delayed. Needs `waiting` and `leased`.
-- Marks with 'full' each of `items` that it has no room for, in `is_out`, which has those that are left out anyway, and adds their
-- positions, from 0, to `full`, behind a slash. A known item, which waits, is leased or delayed, needs no room; but one that is leased
-- or delayed and comes to wait as well takes some. Where it `stops`, all behind the first without room are marked too.
local room = (tonumber(maxsize) or math.huge) - redis.call('ZCARD', waiting) - redis.call('ZCARD', leased)
if #items > room then
    local scores, deadlines = redis.call('ZMSCORE', waiting, unpack(items)), redis.call('ZMSCORE', leased, unpack(items))
    local positions, met, has_stopped = {}, {}, false
    for i, item in ipairs(items) do
        local comes_to_wait = not (is_out[i] or scores[i] or met[item])
        if has_stopped or comes_to_wait and not deadlines[i] and room <= 0 then
            is_out[i], has_stopped = 'full', stops
            positions[#positions + 1] = i - 1
        elseif comes_to_wait then
            room, met[item] = room - 1, true
        end
    end
    if #positions > 0 then full = '/' .. table.concat(positions, ' ') end
end
