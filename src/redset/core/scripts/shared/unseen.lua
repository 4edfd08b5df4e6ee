-- Rolls back what the caller's last call claimed when nobody read its reply: the claim counts for nothing. Needs `call`,
-- `unseen`, `cleared` (the number of the last clear()) and what `leases` need.
-- include unpacking
-- include values

-- `positions` of the rows, from 1; nil for all.
local function roll_back_unseen(positions)
    -- DEL comes first: it frees memory, so the other writes pass on a full server.
    redis.call('DEL', call)
    if unseen.kind == 'done' then return end
    local rows, undo = unpacked(unseen.packed)
    local taken, items, back = unseen.kind == 'taken', {}, {}
    local all = column(rows, 2, 1)
    for i = 1, positions and #positions or #all do
        back[i] = positions and positions[i] or i
        items[i] = all[back[i]]
    end
    if #items == 0 then return end
    if taken and unseen.cleared >= tonumber(cleared) then
        if done then redis.call('ZREM', done, unpack(memories_of(items))) end
        for i, item in ipairs(items) do
            local score, needed = rows[2 * back[i]], undo[back[i]]
            if interval then
                -- It waits for its next tick, unless something else became of it since.
                local tick = redis.call('ZMSCORE', waiting, item)[1]
                if tick and tonumber(tick) == tonumber(needed) then
                    redis.call('ZADD', waiting, score, item)
                    brought_back = true
                end
            else
                if values and needed then redis.call('HSETNX', values, item, needed) end
                wait_again(item, score)
            end
        end
    elseif not taken then
        local given_out = {}
        for i = 1, #items do given_out[i] = rows[2 * back[i]] end
        end_leases(items, given_out, function(i) return 'roll_back', 0, undo[back[i]] or '0' end, true)
    end
end
