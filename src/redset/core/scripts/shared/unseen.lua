-- Puts back what the caller's last call was handed and nobody saw: that counts for nothing. Needs `call` and `unseen`,
-- `cleared`, the number of the last clear(), and what `leases` need.
-- include unpacking
-- include values

-- `positions` of the rows, from 1; nil for all.
local function put_back_unseen(positions)
    -- Deleting comes first: it frees memory, so the rest goes through on a full server.
    redis.call('DEL', call)
    if unseen.kind == 'done' then return end
    local rows, found = unpacked(unseen.packed)
    local taken, items, back = unseen.kind == 'taken', {}, {}
    local all = items_of(rows, taken and 2 or 3)
    for i = 1, positions and #positions or #all do
        back[i] = positions and positions[i] or i
        items[i] = all[back[i]]
    end
    if #items == 0 then return end
    if taken and unseen.cleared >= tonumber(cleared) then
        if done then redis.call('ZREM', done, unpack(memories_of(items))) end
        for i, item in ipairs(items) do
            if values and found[back[i]] then redis.call('HSETNX', values, item, found[back[i]]) end
            wait_again(item, rows[2 * back[i]])
        end
    elseif not taken then
        local first = tonumber(string.match(unseen.head, '^%S+ %S+ %S+ %S+ (%S+)'))
        local tokens = {}
        for i = 1, #items do tokens[i] = string.format('%d', first + back[i] - 1) end
        end_leases(items, tokens, function() return 'again', 0, '' end, true)
    end
end
