-- Keeps the groups up to date with what becomes of items. Needs what `groups` needs.
-- include groups
local watched, is_watched, are_all_ready, stay_there = {}, {}, false, false

-- WHEN NEEDED: turns

-- Gives items that were claimed for good the groups that they had before, from what it takes to undo a claim of so many.
local function enter_again(items, undo, positions, count)
    for i, item in ipairs(items) do
        local name = undo[count + (positions and positions[i] or i)]
        if name then redis.call('HSETNX', group, item, name) end
    end
end

-- Has the group of an item rest for so many seconds from now, and also when a pause ends before.
local function rest_group(item, seconds)
    local name = redis.call('HMGET', group, item)[1]
    if not name then return end
    local until_then = string.format('%.6f', time + seconds)
    redis.call('ZADD', resting, 'GT', until_then, name)
    redis.call('ZREM', ready, name)
    if fair and scheduled then redis.call('ZREM', upcoming, name) end
    local own = redis.call('HMGET', limits, name)[1] or ''
    local paused, rests = string.match(own, '^(%S+ %S+ %S+) (%S+)$')
    if paused and tonumber(rests) < time + seconds then redis.call('HSET', limits, name, paused .. ' ' .. until_then) end
end

-- Notes what items are before they change. `deadlines`, if given, has what `leased` has of them. Returns an error, or nil.
local function watch(items, deadlines)
    if #items == 0 then return nil end
    local names, scores = redis.pcall('HMGET', group, unpack(items)), redis.pcall('ZMSCORE', waiting, unpack(items))
    deadlines = deadlines or redis.pcall('ZMSCORE', leased, unpack(items))
    local problem = names.err and names or scores.err and scores or deadlines.err and deadlines
    for i, item in ipairs(problem and {} or items) do
        if names[i] and not is_watched[item] then
            is_watched[item] = true
            watched[#watched + 1] = {item, names[i], scores[i], deadlines[i] and tonumber(deadlines[i]) > 0, scores[i] or deadlines[i]}
        end
    end
    return problem
end

-- Reads the places and the leases of the groups of watched items, for a call that ends leases and changes nothing else, unless some
-- are parked (`may_move`). Returns an error, or nil.
local function look_at_groups(may_move)
    local names, is_known = {}, {}
    stay_there = not may_move
    for _, one in ipairs(watched) do
        if not is_known[one[2]] then is_known[one[2]], names[#names + 1] = true, one[2] end
        stay_there = stay_there and one[5]
    end
    local places = #names > 0 and redis.pcall('ZMSCORE', ready, unpack(names)) or {}
    local live = #names > 0 and redis.pcall('HMGET', busy, unpack(names)) or {}
    if places.err or live.err then return places.err and places or live end
    are_all_ready = true
    for i, name in ipairs(names) do
        are_all_ready, live_leases[name] = are_all_ready and places[i], tonumber(live[i] or nil) or 0
    end
    return not stay_there and wrong_type(dead) or not are_all_ready and wrong_type(groups, resting, upcoming, limits, meta) or nil
end

-- Brings the groups up to date with what became of the watched items.
local function settle()
    if #watched == 0 then return end
    local items, known, gone, entries, changes, touched, order = {}, watched, {}, {}, {}, {}, {}
    for i, one in ipairs(known) do items[i] = one[1] end
    local scores, deadlines = not stay_there and redis.call('ZMSCORE', waiting, unpack(items)), redis.call('ZMSCORE', leased, unpack(items))
    watched, is_watched = {}, {}
    local lost, has_vanished = {}, false
    local function touch(name)
        if not touched[name] then touched[name], order[#order + 1] = true, name end
    end
    for i, one in ipairs(known) do
        local item, name, before, was_leased = one[1], one[2], one[3], one[4]
        local score, deadline = before, deadlines[i]
        if scores then score = scores[i] end
        local is_leased = deadline and tonumber(deadline) > 0 or false
        if score ~= before then
            if before then gone[#gone + 1] = beginning_of(name) .. sortable(before) .. item end
            if score then
                entries[#entries + 1], entries[#entries + 2] = '0', beginning_of(name) .. sortable(score) .. item
            end
        end
        if is_leased ~= (was_leased or false) then changes[name] = (changes[name] or 0) + (is_leased and 1 or -1) end
        if score ~= before then touch(name) end
        if not score and not deadline then
            lost[#lost + 1] = item
            has_vanished = has_vanished or not one[5]
        end
    end
    if #gone > 0 then redis.call('ZREM', groups, unpack(gone)) end
    if #entries > 0 then redis.call('ZADD', groups, unpack(entries)) end
    count_leases(changes)
    for name, change in pairs(changes) do
        -- It may have been blocked, also by a limit that has changed since.
        if change < 0 and not (are_all_ready or redis.call('ZMSCORE', ready, name)[1]) then touch(name) end
    end
    forget_groups(lost, not stay_there and dead or nil)
    -- Another program may have removed such an item from `waiting`. The index still has its entry, which is right again when the item
    -- is added with the same score.
    if has_vanished then redis.call('HSETNX', meta, 'strays', '0') end
    for _, name in ipairs(order) do place_group(name) end
end

-- ALWAYS
