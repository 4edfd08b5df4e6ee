-- How a claim chooses its rows where items have groups: `next_rows` and `remove_next` in the place of those of `waiting`. It never
-- looks at items of groups that may not be claimed from. Needs what `claims` and `groups` need.
-- include watching
under_lease, defaults, has_own_limits = tonumber(ARGV[6]) > 0, string.match(ARGV[3], '(%S+ %S+) %S+$'), facts[13]

-- How many rested groups one claim puts back, and how often it reads which groups are ready.
local RESTED = 20

-- What the last plan chose: for each row its group; and whether it has passed over something, so that more may be found at once.
local planned, has_passed = {}, false

local function end_rests(key)
    local names = redis.call('ZRANGE', key, '-inf', clock, 'BYSCORE', 'LIMIT', '0', RESTED)
    has_passed = has_passed or #names == RESTED
    for _, name in ipairs(names) do
        -- The first write: it frees memory, and shows whether `ready` is of another type.
        redis.call('ZREM', ready, name)
        turns().place_group(name)
    end
end

-- Adds the rows of some entries to a group's. Behind an old entry, which is mended when it is the first one, no more are read now.
local function add_rows(one, entries, scores, first)
    local length = #one.begins
    for i, entry in ipairs(entries) do
        local item, score = string.sub(entry, length + 9), scores[first + i - 1]
        if not score or one.begins .. sortable(score) .. item ~= entry then
            one.is_old, one.is_whole, has_passed = true, false, true
            return
        elseif is_due and tonumber(score) > time then
            one.is_whole = false
            return
        else
            one[#one + 1] = {item, score, tonumber(score)}
        end
    end
end

-- Returns those of some ready groups that have rows, each with its first `number` rows and how many the claim may have of it; and
-- whether all have. Puts the others where they belong.
local function heads_of(names, count)
    read_groups(names)
    local number = math.ceil(2 * count / #names)
    local found, heads, entries, items = {}, {}, {}, {}
    for rank, name in ipairs(names) do
        local most, pause = limits_of(name)
        local left = pause > 0 and 1 or count
        if under_lease and most > 0 then left = math.min(left, most - leases_of(name)) end
        local one = {name = name, rank = rank, left = left, at = 1, begins = beginning_of(name)}
        local wanted = math.min(left, number) + 1
        entries[rank] = left > 0 and entries_of(name, '0', wanted) or {}
        one.offset, one.is_whole = #entries[rank], #entries[rank] < wanted
        for _, entry in ipairs(entries[rank]) do items[#items + 1] = string.sub(entry, #one.begins + 9) end
        found[rank] = one
    end
    local scores, first = #items > 0 and redis.call('ZMSCORE', waiting, unpack(items)) or {}, 1
    for rank, one in ipairs(found) do
        add_rows(one, entries[rank], scores, first)
        first = first + #entries[rank]
        if one[1] then
            heads[#heads + 1] = one
        else
            -- It was ready under other limits, or by an old entry.
            turns().place_group(one.name)
            has_passed = true
        end
    end
    return heads, #heads == #names
end

-- The groups that are ready, in their order. A group that was put elsewhere may come later, so the order is then read again.
local function ready_groups(count)
    for tries = 1, RESTED do
        local names = is_due and not fair and redis.call('ZRANGE', ready, '-inf', clock, 'BYSCORE', 'LIMIT', '0', count)
            or redis.call('ZRANGE', ready, '0', count - 1)
        if #names == 0 then return {} end
        local heads, are_right = heads_of(names, count)
        if are_right or tries == RESTED then return heads end
    end
end

-- The next rows: of the ready group with the lowest score, or of each ready group in turn.
local function choose_rows(count)
    end_rests(resting)
    if fair and scheduled then end_rests(upcoming) end
    local heads, rows, first = ready_groups(count), {}, 1
    planned = {}
    while #planned < count and first <= #heads do
        local one = heads[first]
        local row = one[one.at]
        planned[#planned + 1], group_in_plan[row[1]] = one, one.name
        rows[#rows + 1], rows[#rows + 2] = row[1], row[2]
        if #planned == count then break end
        one.left, one.at = one.left - 1, one.at + 1
        local goes_on = one.left > 0 and turns().next_row(one)
        -- The row behind an old entry is not known, and may come before the rows of other groups.
        if one.is_old and one.left > 0 and not goes_on then break end
        if fair then
            first = first + 1
            if goes_on then heads[#heads + 1] = one end
        elseif goes_on then
            turns().sink(heads)
        else
            heads[1] = heads[#heads]
            heads[#heads] = nil
            if #heads > 0 then turns().sink(heads) end
        end
    end
    return rows
end

-- As the other function of this name, it returns an error instead of raising it.
local function next_rows(count)
    if count < 1 then return {} end
    local is_done, rows = pcall(choose_rows, math.floor(count))
    return is_done and rows or wrong_type() or error(rows)
end

-- WHEN NEEDED: turns

-- The next row of a group, or nil.
local function next_row(one)
    if not one[one.at] and not one.is_old and one.at > one.offset then
        local entries, items = entries_of(one.name, one.offset, one.offset), {}
        one.offset, one.is_whole = one.offset + #entries, #entries < one.offset
        for i, entry in ipairs(entries) do items[i] = string.sub(entry, #one.begins + 9) end
        add_rows(one, entries, #items > 0 and redis.call('ZMSCORE', waiting, unpack(items)) or {}, 1)
    end
    return one[one.at]
end

local function is_before(one, other)
    local mine, others = one[one.at][3], other[other.at][3]
    return mine < others or mine == others and one.rank < other.rank
end

-- Has the first of `heap` sink to its place: the group whose next row comes before all others is the first.
local function sink(heap)
    local at, moved = 1, heap[1]
    while true do
        local child = 2 * at
        if child < #heap and is_before(heap[child + 1], heap[child]) then child = child + 1 end
        if child > #heap or is_before(moved, heap[child]) then break end
        heap[at], at = heap[child], child
    end
    heap[at] = moved
end

-- ALWAYS
-- include leaving
