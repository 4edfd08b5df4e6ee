-- How rows that `turns` has planned leave `waiting`, and what then becomes of their groups.

-- Removes the first of the planned rows from `waiting` and from the index.
local function remove_next(count, met)
    local items = {}
    for i = 1, count do items[i] = met[2 * i - 1] end
    redis.call('ZREM', waiting, unpack(items))
    redis.call('ZREM', groups, unpack(planned_entries, 1, count))
end

-- Puts the groups of the first planned rows where they belong. Of the claimed `rows`, those behind `from` are new.
local function settle_planned(count, rows, from)
    local claimed, removed, order = {}, {}, {}
    for i = from + 1, #rows, 2 do
        local name = group_in_plan[rows[i]]
        claimed[name] = (claimed[name] or 0) + 1
    end
    for i = count, 1, -1 do
        local one = planned[i]
        if not removed[one] then order[#order + 1] = one end
        removed[one] = (removed[one] or 0) + 1
    end
    local rests, stays, leaves, others, turn = {}, {}, {}, {}, nil
    -- The last one to have had a row has the last turn.
    for at = #order, 1, -1 do
        local one = order[at]
        local name = one.name
        local number, next_one, most, pause = claimed[name] or 0, one[removed[one] + 1], limits_of(name)
        claimed_of[name] = (claimed_of[name] or 0) + number
        if number == 0 or not (next_one or one.is_whole and removed[one] == #one) then
            others[#others + 1] = name
        elseif pause > 0 then
            rests[#rests + 1], rests[#rests + 2] = string.format('%.6f', time + pause), name
            leaves[#leaves + 1] = name
        elseif next_one and not (most > 0 and under_lease and leases_of(name) >= most) then
            if fair then turn = string.format('%.0f', (turn or turns().next_turn() - 1) + 1) end
            stays[#stays + 1], stays[#stays + 2] = turn or next_one[2], name
        else
            leaves[#leaves + 1] = name
        end
    end
    if #leaves > 0 then redis.call('ZREM', ready, unpack(leaves)) end
    if #rests > 0 then redis.call('ZADD', resting, unpack(rests)) end
    if #stays > 0 then redis.call('ZADD', ready, unpack(stays)) end
    for _, name in ipairs(others) do turns().place_group(name, (claimed[name] or 0) > 0) end
end

-- Counts the new leases of each group. Items claimed for good have no group any more: what it takes to undo that tells which it was.
local function leave_turns(rows, undo)
    if #rows == 0 then return undo end
    if under_lease then
        count_leases(claimed_of)
        claimed_of = {}
        if facts[11] then turns().note_groups(column(rows, 2, 1)) end
        return undo
    end
    local items, count, with_groups = column(rows, 2, 1), #rows / 2, {}
    for i, item in ipairs(items) do
        with_groups[i], with_groups[count + i] = undo and undo[i] or false, group_in_plan[item]
    end
    redis.call('HDEL', group, unpack(items))
    return with_groups
end

-- An error where `group` is of another type; of the other keys, the choice of rows has told. Each call asks this, so it takes no TYPE.
local function is_other_type()
    local length = redis.pcall('HLEN', group)
    return type(length) == 'table' and (wrong_type(group) or length) or nil
end

-- Has the server know the limits of groups that have none of their own, if it `knew` others.
local function note_defaults(knew)
    if knew ~= defaults then redis.call('HSET', meta, 'per_group', defaults) end
end

-- Whether items may wait that are not in the index. `strays` is how many old entries it is known to have. The numbers are the same
-- when another program has replaced one item by another: so each minute some items are looked at, whatever the numbers are.
--
-- `may_go_on`: whether a caller that got nothing goes on until these are found. After another program has removed items there may be
-- none of these; each call then looks at some items only, unless that is all.
local may_go_on
local function are_there_strangers()
    local strays, minute = tonumber(facts[11] or nil) or 0, tonumber(facts[5] or nil)
    local waits, indexed = redis.call('ZCARD', waiting), redis.call('ZCARD', groups) - strays
    may_go_on = waits >= indexed or waits <= LOOKED_AT
    return waits ~= indexed or minute and minute ~= math.floor(moment[1] / 60)
end

-- WHEN NEEDED: turns

-- An item that another program has added where the index has an old entry of it is claimed before anybody has told its group.
local function note_groups(items)
    for i, name in ipairs(redis.call('HMGET', group, unpack(items))) do
        if not name then redis.call('HSET', group, items[i], group_in_plan[items[i]]) end
    end
end

-- The moments at which a group is ready again, or the first item of a ready one falls due.
local function consider_groups(consider)
    local function next_in(key)
        local found = redis.call('ZRANGE', key, '(' .. clock, '+inf', 'BYSCORE', 'LIMIT', '0', '1', 'WITHSCORES')
        if found[2] and found[2] ~= 'inf' then consider(found, 1) end
    end
    next_in(resting)
    if is_due then next_in(fair and upcoming or ready) end
end

-- ALWAYS
