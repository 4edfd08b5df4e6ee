-- How a claim chooses its rows where items have groups: `next_rows` and `remove_next` in the place of those of `waiting`. It never
-- looks at items of groups that may not be claimed from. Needs what `claims` and `groups` need.
-- include watching
under_lease, defaults, has_own_limits = tonumber(ARGV[6]) > 0, string.match(ARGV[3], '(%S+ %S+) %S+$'), facts[13]

-- How many rested groups one claim puts back, and how often it reads which groups are ready.
local RESTED = 20

-- The last plan: the group and the entry of each row; and whether it passed over something, so that more may be found at once.
local planned, planned_entries, has_passed = {}, {}, false

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
-- Those of `items` and `scores` behind the first `offset` are theirs.
local function add_rows(one, entries, items, scores, offset)
    local length = #one.begins
    for i, entry in ipairs(entries) do
        local item, score = items[offset + i], scores[offset + i]
        if not score or string.sub(entry, length + 1, length + 8) ~= sortable(score) then
            one.is_old, one.is_whole, has_passed = true, false, true
            return
        elseif is_due and tonumber(score) > time then
            one.is_whole = false
            return
        else
            one[#one + 1] = {item, score, tonumber(score), entry}
        end
    end
end

-- Returns those of some ready groups that have rows, each with its first `number` rows and how many the claim may have of it; and
-- whether all have. Puts the others where they belong.
local function heads_of(names, count)
    read_groups(names)
    local number = math.ceil(count / #names)
    local found, heads, entries, items = {}, {}, {}, {}
    for rank, name in ipairs(names) do
        local most, pause = limits_of(name)
        local left = pause > 0 and 1 or count
        if under_lease and most > 0 then left = math.min(left, most - leases_of(name)) end
        local one = {name = name, rank = rank, left = left, at = 1, begins = beginning_of(name)}
        local wanted = math.min(left, number) + 1
        entries[rank] = left > 0 and entries_of(one.begins, '0', wanted) or {}
        one.offset, one.is_whole = #entries[rank], #entries[rank] < wanted
        for _, entry in ipairs(entries[rank]) do items[#items + 1] = string.sub(entry, #one.begins + 9) end
        found[rank] = one
    end
    local scores, offset = #items > 0 and redis.call('ZMSCORE', waiting, unpack(items)) or {}, 0
    for rank, one in ipairs(found) do
        add_rows(one, entries[rank], items, scores, offset)
        offset = offset + #entries[rank]
        if one[1] then
            heads[#heads + 1], one.score = one, one[1][3]
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
        group_in_plan[row[1]], planned[#planned + 1], planned_entries[#planned + 1] = one.name, one, row[4]
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
        local entries, items = entries_of(one.begins, one.offset, one.offset), {}
        one.offset, one.is_whole = one.offset + #entries, #entries < one.offset
        for i, entry in ipairs(entries) do items[i] = string.sub(entry, #one.begins + 9) end
        add_rows(one, entries, items, #items > 0 and redis.call('ZMSCORE', waiting, unpack(items)) or {}, 0)
    end
    local row = one[one.at]
    one.score = row and row[3]
    return row
end

-- Has the first of `heap` sink to its place: the group whose next row comes before all others is the first.
local function sink(heap)
    local at, moved = 1, heap[1]
    while true do
        local child, least, other = 2 * at, heap[2 * at], heap[2 * at + 1]
        if other and (other.score < least.score or other.score == least.score and other.rank < least.rank) then
            child, least = child + 1, other
        end
        if not least or moved.score < least.score or moved.score == least.score and moved.rank < least.rank then break end
        heap[at], at = least, child
    end
    heap[at] = moved
end

-- ALWAYS
-- include leaving
