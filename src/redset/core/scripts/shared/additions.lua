-- The groups of items that are added. Needs what `groups` needs. ARGV[3] ends with the limits of groups that have none of their own.
defaults = string.match(ARGV[3], '(%S+ %S+)$')
local names_before, scores_before, entries, is_new = nil, nil, {}, false

-- Returns an error where one of the keys is of another type. Most additions are of a `single` item, most of these of a new one: then
-- the first write gives it its group, and there is nothing to be read.
local function watch_additions(items, names, single)
    local set = single and redis.pcall('HSETNX', group, items[1], names[1])
    is_new = set == 1
    if is_new then return nil end
    scores_before, names_before = redis.pcall('ZMSCORE', waiting, unpack(items)), redis.pcall('HMGET', group, unpack(items))
    local problem = scores_before.err and scores_before or names_before.err and names_before
    return problem and (wrong_type() or problem) or type(set) == 'table' and set or nil
end

-- Takes back what `watch_additions` has written, when items cannot be added.
local function forget_addition(items)
    if is_new then redis.pcall('HDEL', group, items[1]) end
end

-- Puts a group where it belongs after an addition; mostly it is ready already, with an item that comes before.
local function place_added(name, score)
    local place = redis.call('ZMSCORE', ready, name)[1]
    if not (place and (fair or score >= tonumber(place))) then turns().place_group(name) end
end

-- `names` has the group of each of `items`; those of `is_out` were not added. `scores` are those that they have now, if known; the
-- server `knew` other limits of groups. The group of a known item stays as it is.
local function settle_additions(items, names, is_out, scores, knew)
    scores = scores or redis.call('ZMSCORE', waiting, unpack(items))
    if knew ~= defaults then redis.call('HSET', meta, 'per_group', defaults) end
    if is_new then
        entries = {'0', beginning_of(names[1]) .. sortable(scores[1]) .. items[1]}
        redis.call('ZADD', groups, unpack(entries))
        return place_added(names[1], tonumber(scores[1]))
    end
    local fields, gone = {}, {}
    local given, lowest, has_moved, order = {}, {}, {}, {}
    for i, item in ipairs(items) do
        local known, before, score = names_before[i], scores_before[i], scores[i]
        local name = known or given[item] or names[i]
        if score and not is_out[i] and not (known and before and tonumber(score) == tonumber(before)) then
            if not known and not given[item] then
                given[item] = name
                fields[#fields + 1], fields[#fields + 2] = item, name
            end
            local begins = beginning_of(name)
            if known and before then
                gone[#gone + 1] = begins .. sortable(before) .. item
                has_moved[name] = true
            end
            entries[#entries + 1], entries[#entries + 2] = '0', begins .. sortable(score) .. item
            if not lowest[name] then order[#order + 1] = name end
            lowest[name] = math.min(lowest[name] or math.huge, tonumber(score) or -math.huge)
        end
    end
    if #fields > 0 then redis.call('HSET', group, unpack(fields)) end
    if #gone > 0 then redis.call('ZREM', groups, unpack(gone)) end
    if #entries > 0 then redis.call('ZADD', groups, unpack(entries)) end
    for _, name in ipairs(order) do
        if has_moved[name] then turns().place_group(name) else place_added(name, lowest[name]) end
    end
end

-- As `settle_additions`, but returns an error where a key of groups is of another type. The items wait already: what is missing in the
-- index is found by later claims, as what other programs add.
local function refusal_of_groups(...)
    local is_settled, problem = pcall(settle_additions, ...)
    if is_settled then return nil end
    for i = 2, #entries, 2 do redis.pcall('ZREM', groups, entries[i]) end
    return wrong_type() or error(problem)
end
