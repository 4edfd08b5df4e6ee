-- How a claim takes rows from the beginning of `waiting`. Needs what `claim.lua` has read: `in_work`, `is_rare`, `lease`, `caller`.

-- The claimed rows, and what `deliveries` has of each. `meets_suspect` if it stops at a suspect item, `is_suspect` if it claims that.
local rows, claimed, delivered, meets_suspect, is_suspect = {}, {}, false, false, false

-- Removes rows from the beginning of `waiting`, and claims those that are to be claimed. Returns how many are not. `known` has what
-- `deliveries` has of them, behind the first `offset`, and `scores`, if given, what `leased` has.
local function take(met, known, offset, scores)
    meets_suspect, is_suspect = false, false
    if #met == 0 then return 0 end
    local items, fields, deadlines, is_known = column(met, 2, 1), {}, {}, is_rare or done
    -- Of many items, each would be looked for from one end of a small sorted set to the other.
    if in_work and not scores and (#items <= 10 or redis.call('ZCARD', leased) > 0) then
        deadlines = redis.call('ZMSCORE', leased, unpack(items))
    end
    for i = 1, in_work and #items or 0 do
        fields[i], deadlines[i] = known[offset + i], scores and scores[offset + i] or deadlines[i]
        is_known = is_known or fields[i] or deadlines[i]
    end
    local count = #rows / 2
    if not is_known and count == 0 then
        -- None of them is in another state, or was ever delivered.
        remove_next(#items, met)
        rows = met
        if grouped then settle_planned(#items, rows, 0) end
        return 0
    end
    local deaths = is_rare and redis.call('ZMSCORE', dead, unpack(items)) or {}
    local dones = done and are_living(done, remembered_as(items)) or {}
    local rest = rare()
    local reach, suspect = #items, lease > 0 and rest.first_suspect(fields, deadlines, dones)
    if suspect then
        meets_suspect, is_suspect = true, suspect == 1 and count == 0 and caller ~= 'follows'
        reach = is_suspect and 1 or suspect - 1
        if reach == 0 then return 0 end
    end
    remove_next(reach, met)
    for i = 1, reach do
        local is_taken, afresh = rest.is_claimed(items[i], met[2 * i], fields[i], deadlines[i], deaths[i], dones[i])
        if is_taken then
            rows[#rows + 1], rows[#rows + 2] = items[i], met[2 * i]
            claimed[#rows / 2] = not afresh and fields[i]
            delivered = delivered or claimed[#rows / 2]
        end
    end
    if grouped then settle_planned(reach, rows, 2 * count) end
    return reach - (#rows / 2 - count)
end

local function take_next(count)
    local met = next_rows(count)
    return take(met, in_work and read_fields({}, column(met, 2, 1)) or {}, 0)
end
