-- The groups of items: which of them may be claimed from now. Needs the clock, `waiting`, `leased`, `dead`, `meta` and the keys of
-- groups. After a script has changed items, it calls `settle`; before that, it calls `watch` with these items.
--
-- `groups` orders the waiting items by group, then score. A member is the length of the group's name in four digits, that name, the
-- score as eight bytes, the item. It may have old entries of items that another program has moved or removed: `head_of` mends these.
-- A group that rests is in `resting`; else one with as many leases as it may have is blocked, and in neither; else, if items wait,
-- it is in `ready` with the score of the first of them, or under fair turns with its turn. Under fair turns, a group of which nothing
-- is due yet is in `upcoming` instead.
-- include ordering

local function beginning_of(name)
    return string.format('%04x', #name) .. name
end

-- Some entries of the group whose members begin so.
local function entries_of(begins, first, number)
    return redis.call('ZRANGE', groups, '[' .. begins, '(' .. begins .. '\255\255', 'BYLEX', 'LIMIT', first, number)
end
-- include group_limits

-- How many items one request for items without a group looks at.
local LOOKED_AT = 100

-- Whether some group has become ready, for which a waiter is to be woken.
local has_turned_ready = false

-- Item -> its group, of all that a claim has planned: they may be in none of the states until it has leased them.
local group_in_plan = {}

-- WHEN NEEDED: turns

-- Forgets the groups of items that are in none of the given sorted sets.
local function forget_groups(items, ...)
    if #items == 0 then return end
    local there, gone = {}, {}
    for _, key in ipairs({...}) do
        for i, score in ipairs(redis.call('ZMSCORE', key, unpack(items))) do there[i] = there[i] or score end
    end
    for i, item in ipairs(items) do
        if not there[i] then gone[#gone + 1] = item end
    end
    if #gone > 0 then redis.call('HDEL', group, unpack(gone)) end
end

-- Item and score of the first waiting item of a group, or nil.
local function head_of(name)
    local begins = beginning_of(name)
    while true do
        local entry = entries_of(begins, '0', '1')[1]
        if not entry then return nil end
        local item = string.sub(entry, #begins + 9)
        local score = redis.call('ZMSCORE', waiting, item)[1]
        local right = score and begins .. sortable(score) .. item
        if right == entry then return item, score end
        redis.call('ZREM', groups, entry)
        if right then
            redis.call('ZADD', groups, '0', right)
        elseif not group_in_plan[item] then
            forget_groups({item}, leased, dead)
        end
    end
end

-- The turn behind those of all groups that are ready.
local function next_turn()
    local last = redis.call('ZRANGE', ready, '-1', '-1', 'WITHSCORES')[2]
    return string.format('%.0f', (tonumber(last or nil) or 0) + 1)
end

-- Puts a group where it belongs. Its turn stays as it is, unless it `was_claimed` from.
local function place_group(name, was_claimed)
    local most, pause = limits_of(name)
    if was_claimed and pause > 0 then redis.call('ZADD', resting, 'GT', string.format('%.6f', time + pause), name) end
    local rests_until = redis.call('ZMSCORE', resting, name)[1]
    -- An addition reads the clock only here.
    local moment = rests_until and not time and redis.call('TIME')
    local rests = rests_until and tonumber(rests_until) > (time or moment[1] + moment[2] / 1000000)
    local score
    if not rests and (most == 0 or leases_of(name) < most) then score = select(2, head_of(name)) end
    if not score then
        redis.call('ZREM', ready, name)
        if fair and scheduled then redis.call('ZREM', upcoming, name) end
    elseif not fair then
        local is_new = redis.call('ZADD', ready, score, name) == 1
        has_turned_ready = has_turned_ready or is_new
    elseif scheduled and tonumber(score) > time then
        redis.call('ZREM', ready, name)
        redis.call('ZADD', upcoming, score, name)
    else
        if scheduled then redis.call('ZREM', upcoming, name) end
        local is_new
        if was_claimed then
            is_new = redis.call('ZADD', ready, next_turn(), name) == 1
        else
            is_new = redis.call('ZADD', ready, 'NX', next_turn(), name) == 1
        end
        has_turned_ready = has_turned_ready or is_new
    end
    -- Last, so that no error of the others loses the group.
    if rests_until and not rests then redis.call('ZREM', resting, name) end
end

-- ALWAYS
