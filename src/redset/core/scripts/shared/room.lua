-- The room of a set with a `maxsize`: that many, less the items that wait, are leased or delayed. Needs `waiting` and `leased`.

-- WHEN NEEDED: gates

-- Marks with 'full' each of `items` for which there is no room, in `is_out`, which has those that are left out anyway. A known item,
-- which waits, is leased or delayed, needs no room. Where it `stops`, all behind the first without room are marked too. Returns
-- their positions, from 0, behind a slash; '' if there are none.
local function mark_full(items, is_out, maxsize, stops)
    local room = maxsize - redis.call('ZCARD', waiting) - redis.call('ZCARD', leased)
    if #items <= room then return '' end
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
    return #positions > 0 and '/' .. table.concat(positions, ' ') or ''
end

-- ALWAYS
