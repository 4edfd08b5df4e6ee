-- The room of a set with a `maxsize`: that many, less the items that wait, are leased or delayed. Needs `waiting` and `leased`.
-- Marks with 'full' each of `items` that it has no room for, in `is_out`, which has those that are left out anyway, and adds their
-- positions, from 0, to `full`, behind a slash. A known item, which waits, is leased or delayed, needs no room. Where it `stops`,
-- all behind the first without room are marked too.
local room = (tonumber(maxsize) or math.huge) - redis.call('ZCARD', waiting) - redis.call('ZCARD', leased)
if #items > room then
    local scores, deadlines = redis.call('ZMSCORE', waiting, unpack(items)), redis.call('ZMSCORE', leased, unpack(items))
    local positions, met, has_stopped = {}, {}, false
    for i, item in ipairs(items) do
        local needs_room = not (is_out[i] or scores[i] or deadlines[i] or met[item])
        if has_stopped or needs_room and room <= 0 then
            is_out[i], has_stopped = 'full', stops
            positions[#positions + 1] = i - 1
        elseif needs_room then
            room, met[item] = room - 1, true
        end
    end
    if #positions > 0 then full = '/' .. table.concat(positions, ' ') end
end
