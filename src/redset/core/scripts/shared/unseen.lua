-- Puts back what the caller's last call was handed and nobody saw: it counts for nothing. Needs the keys by their names,
-- `call` and `unseen`, and what leases need. `cleared` is the number of the last clear(); `positions` of the rows, from 1,
-- nil for all.
local function put_back_unseen(cleared, positions)
    local taken = unseen.kind == 'taken'
    local rows, width = unseen.rows, not taken and 3 or values and 4 or 2
    if not positions then
        positions = {}
        for position = 1, #rows / width do positions[position] = position end
    end
    -- Deleting comes first: it frees memory, so the rest goes through on a full server.
    redis.call('DEL', call)
    if taken and unseen.cleared >= tonumber(cleared) then
        for _, position in ipairs(positions) do
            local at = width * (position - 1) + 1
            local item, score, has_value, value = unpack(rows, at, at + 3)
            if values and has_value == '1' then redis.call('HSETNX', values, item, value) end
            if done then redis.call('ZREM', done, memory_of(item)) end
            wait_again(item, score)
        end
    elseif unseen.kind == 'leased' then
        local first = tonumber(string.match(unseen.head, '^%S+ %S+ %S+ %S+ (%S+)'))
        local items, tokens = {}, {}
        for i, position in ipairs(positions) do
            items[i] = rows[width * (position - 1) + 1]
            tokens[i] = string.format('%.0f', first + position - 1)
        end
        end_leases(items, tokens, function() return 'again', 0, '' end, true)
    end
end
