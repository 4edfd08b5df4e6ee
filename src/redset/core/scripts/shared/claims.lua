-- The records of claims. Needs `call` and `meta`, and what `leases` needs.
-- include record
-- include leases
local facts = redis.pcall('HMGET', meta, 'cleared', 'last', 'layout', 'registered', 'minute', 'taken', 'leased', 'remembers', 'gate', 'acked', 'strays', 'per_group', 'limited')
if facts.err then return wrong_type() or facts end
-- A record says which clear() it came after: what is rolled back must not come back from before one.
-- Any program may write into `meta`: what is no number counts as none, so that it fails no call behind its first write.
local cleared, last_token = facts[1] and string.match(facts[1], '^%d+$') or '0', facts[2]

-- A server packs in C; a fake one may not.
local cmsgpack_there = rawget(_G, 'cmsgpack')

-- WHEN NEEDED: rare

-- Two lists as one string: one behind the other, after their lengths, numbers as strings.
local function packed(rows, undo)
    local lengths, texts = {#rows}, {}
    for _, list in ipairs({rows, undo}) do
        for i = 1, #list do
            local text = list[i]
            if type(text) == 'number' then text = string.format('%.17g', text) end
            lengths[#lengths + 1] = text and #text or -1
            texts[#texts + 1] = text or ''
        end
    end
    return table.concat(lengths, ' ') .. '\n' .. table.concat(texts)
end

-- Rolls back leases of a claim that nobody received, unless another call has ended or taken them; expired ones too. `words` has what
-- stood in the place of each item's token before.
local function roll_back_leases(items, given, words)
    if #items == 0 then return end
    if grouped then turns().watch(items) end
    local fields, deadlines = redis.call('HMGET', deliveries, unpack(items)), redis.call('ZMSCORE', leased, unpack(items))
    moves.end_leases(items, given, fields, deadlines, 0, function(i) return 'roll_back', 0, words[i] or '0' end)
end

local function unpacked(packed)
    if cmsgpack_there then return cmsgpack.unpack(packed) end
    local count, lengths, text = string.match(packed, '^(%d+)([^\n]*)\n(.*)$')
    local rows, undo, start = {}, {}, 1
    for length in string.gmatch(lengths, '%S+') do
        length = tonumber(length)
        local list = #rows < tonumber(count) and rows or undo
        list[#list + 1] = length >= 0 and string.sub(text, start, start + length - 1)
        start = start + math.max(length, 0)
    end
    return rows, undo
end

-- Rolls back what the last call claimed if nobody read its reply. `positions` of the rows, from 1; nil for all.
local function roll_back(positions)
    free_record()
    if unread.kind == 'done' then return end
    local rows, undo = unpacked(unread.packed)
    local all, items, cells, undos = column(rows, 2, 1), {}, {}, {}
    for i = 1, positions and #positions or #all do
        local at = positions and positions[i] or i
        items[i], cells[i], undos[i] = all[at], rows[2 * at], undo[at]
    end
    if unread.kind == 'leased' then
        roll_back_leases(items, cells, undos)
    elseif #items > 0 and unread.cleared >= tonumber(cleared) then
        if done then redis.call('ZREM', done, unpack(remembered_as(items))) end
        if grouped then
            turns().enter_again(items, undo, positions, #all)
            turns().watch(items)
        end
        for i, item in ipairs(items) do
            if periodic then
                -- It waits for its next tick, unless something else became of it since.
                local tick = redis.call('ZMSCORE', waiting, item)[1]
                if tick and tonumber(tick) == tonumber(undos[i]) then
                    redis.call('ZADD', waiting, cells[i], item)
                    moves.count('takes_rolled_back', 1)
                    moves.count('merged', 1)
                    requeued = true
                end
            else
                moves.count('takes_rolled_back', 1)
                if values and undos[i] then redis.call('HSETNX', values, item, undos[i]) end
                to_waiting(item, cells[i])
            end
        end
    end
end

-- The reply to a claim that is repeated, and which of its leases have expired: items, deliveries and words. The reply has '' in the
-- place of a delivery whose lease has ended, so that rows keep their positions. Live leases stay: this may be a late copy, whose
-- reply nobody reads, and their holders are at work.
local function repeated_claim()
    local rows, undo = unpacked(repeated.packed)
    local items, head, found = column(rows, 2, 1), repeated.head, undo
    local ended = {items = {}, given = {}, words = {}}
    if repeated.kind == 'leased' then
        local fields, deadlines = redis.call('HMGET', deliveries, unpack(items)), redis.call('ZMSCORE', leased, unpack(items))
        for i, item in ipairs(items) do
            if not moves.is_held(fields[i], deadlines[i], rows[2 * i], time) then
                local at = #ended.items + 1
                ended.items[at], ended.given[at], ended.words[at] = item, rows[2 * i], undo[i] or '0'
                rows[2 * i] = ''
            end
        end
    end
    if keyed and (repeated.kind == 'leased' or periodic) then
        found = values_of(items, 1, values)
    elseif grouped then
        -- Behind the values are the groups.
        found = {unpack(undo, 1, #items)}
    end
    if #ended.items > 0 and #ended.items == #items then
        -- Nothing is left of it: the caller is told to claim again.
        local counts, others = string.match(head, '^%S+ %S+ (%S+ %S+) %S+(.*)$')
        rows, found, head = {}, {}, '1 0 ' .. counts .. ' 0' .. others
    end
    if keyed then rows[#rows + 1] = found end
    rows[#rows + 1] = head
    return rows, ended
end

-- ALWAYS

-- Records a claim and returns its reply. `beginning` and `rest` are the words of its head around the deaths. `found` are the values
-- of keyed items, `undo` what a roll-back needs besides the rows: values of items claimed for good, ticks of periodic ones, words of
-- leased ones.
local function answer_claim(kind, beginning, rest, rows, found, undo)
    -- Put together piece by piece, which is much faster here than a format.
    local head = beginning .. ' ' .. (died > 0 and died or '0') .. ' ' .. (dropped > 0 and dropped or '0') .. ' ' .. rest
    if call then
        if #rows == 0 then redis.call('DEL', call) end
        local made = number .. ' ' .. kind .. ' ' .. cleared .. ' ' .. head .. '\n'
        local pack = cmsgpack_there and cmsgpack.pack or rare().packed
        redis.call('SET', call, made .. pack(rows, undo or {}), 'EX', RECORD_LIFE)
    end
    if keyed then rows[#rows + 1] = found end
    rows[#rows + 1] = head
    return rows
end
