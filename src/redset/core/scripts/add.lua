-- Adds items to `waiting`. The claim decides about those that are leased or dead. What is remembered as done is left out, and so is
-- what is dead on a set that remembers; a `forced` addition ends the memory and the death of its items instead.
-- KEYS: call waiting wake looks meta leased
-- KEYS if values: values
-- KEYS if done: done dead
-- KEYS if forced: letters
-- KEYS if grouped: group groups ready resting upcoming busy limits
-- TIME if done
-- TIME if fair
-- TIME if delayed
-- ARGV: number, seen; "want replaces flags"; as many flags of ZADD, where INCR takes one row; then rows: score, item, on keyed
--       sets score, item, value, on sets with groups behind these the group; of a `delayed` addition the score is in seconds from now
--   want: `added` or `scores`; or `bulk`: as `added`, but no row behind the first that the set has no room for is added
--   replaces: whose value is replaced: that of `all`, of `new` items, or of those that are `known` to wait already
-- Returns "added left ...": how many did not wait before; the positions, from 0, of those left out, and behind a slash of those
-- that the set has no room for. Where scores are wanted the score that each item has when all is done, or '-' if it was left out or
-- does not wait, '!' if there is no room for it; 'nan' if a sum is none. A set that is not registered returns a list of that and
-- `register`.
-- include record
-- include wakeups
-- include totals
-- include expiry if done
-- include values if keyed
-- include delays if delayed
-- include states if forced
-- include groups if grouped
-- include additions if grouped
local want, replaces, flags = string.match(ARGV[3], '(%l+) (%l+) (%d)')
local compares = flags ~= '0' or want == 'scores'
local facts = redis.pcall('HMGET', meta, 'layout', 'registered', 'remembers', 'maxsize', 'per_group', 'limited')
local refusal = facts.err and (wrong_type() or facts) or stored_otherwise(facts[1], facts[3]) or find_waiters()
    or done and wrong_type(waiting, values, done, dead, letters) or keyed and wrong_type(values) or facts[4] and wrong_type(waiting, leased)
    or denied(call and 'SET', 'HINCRBY', (not facts[1] or keyed) and 'HSET', (values or done or compares or grouped) and 'ZMSCORE',
        compares and 'ZCARD', grouped and 'HSET', grouped and 'HSETNX', grouped and 'HDEL', grouped and 'ZREM', grouped and 'ZRANGE', forced and 'ZREM', forced and 'HDEL')
if refusal then return refusal end

-- A local variable is read faster than a global one, which tells when there are thousands of columns.
local columns, first, width, items = ARGV, 4 + flags, 2 + (keyed and 1 or 0) + (grouped and 1 or 0), {}
local count = (#columns - first + 1) / width
if keyed or grouped or done or compares or facts[4] then
    for i = 1, count do items[i] = columns[first + 1 + width * (i - 1)] end
end

local names, is_out, left, full, left_count = {}, (done or grouped or facts[4]) and {}, '', '', 0
if done and not forced then
    local dones, deaths = are_living(done, remembered_as(items)), redis.call('ZMSCORE', dead, unpack(items))
    for i = 1, count do is_out[i] = dones[i] or deaths[i] end
end
-- With XX nothing is added that does not wait.
if facts[4] and columns[4] ~= 'XX' then
    local maxsize, stops = facts[4], want == 'bulk'
-- inline room
end
for i = 1, done and count or 0 do
    if is_out[i] and is_out[i] ~= 'full' then left, left_count = left .. ' ' .. i - 1, left_count + 1 end
end

-- Whether each item waits before its row is in, if that decides about its value.
local waits = keyed and {}
if keyed and replaces ~= 'all' then
    local scores = redis.pcall('ZMSCORE', waiting, unpack(items))
    if scores.err then return wrong_type() or scores end
    for i, item in ipairs(items) do waits[item] = scores[i] ~= false end
end

-- What ZADD and HSET are given: all, or what is picked from the rows. Counted along, since `#` looks for the end of a table each time.
local rows, start, length, fields, field_count = columns, 4, #columns, keyed and {}, 0
if keyed or grouped or left ~= '' or full ~= '' then
    rows, start, length = {unpack(columns, 4, first - 1)}, 1, flags + 0
    for i = 1, count do
        local at, item = first + width * (i - 1), items[i]
        if not (is_out and is_out[i]) then
            rows[length + 1], rows[length + 2] = columns[at], item
            length = length + 2
            if keyed and (replaces == 'all' or waits[item] == (replaces == 'known')) then
                fields[field_count + 1], fields[field_count + 2] = item, columns[at + 2]
                field_count = field_count + 2
                if replaces == 'new' then waits[item] = true end
            end
        end
    end
end

for i = 1, grouped and count or 0 do names[i] = columns[first + width * i - 1] end
local picked, added = math.floor((length - start + 1 - flags) / 2), 0
local waited = compares and redis.pcall('ZCARD', waiting)
if picked > 0 then
    local single = flags == '0' and count == 1 and {columns[first]}
    refusal = grouped and watch_additions(items, names, single)
    if refusal then return refusal end
    -- The first write, but for a new item with a group: refused whole on a server that is full, and where the key is no sorted set.
    added = redis.pcall('ZADD', waiting, unpack(rows, start, length))
    if type(added) == 'table' then
        if grouped then forget_addition(items) end
        if string.find(tostring(added.err), 'NaN', 1, true) then return answer('nan') end
        return wrong_type() or added
    end
    if field_count > 0 then replace_values(fields) end
    refusal = grouped and refusal_of_groups(items, names, is_out, single, facts[5])
    if refusal then return refusal end
    if forced then
        for i = 1, count do
            -- One that there was no room for stays dead, or remembered.
            local is_in = not (is_out and is_out[i])
            if is_in then redis.call('ZREM', done, unpack(remembered_as({items[i]}))) end
            local was_dead = is_in and rare().from_dead(items[i]) and 1 or 0
            moves().count('revived', was_dead)
            moves().count('merged', was_dead)
        end
        moves().write_totals()
    end
    if wake_one then wake_one() end
    if not facts[1] or done and not facts[3] then moves().write_form() end
else
    free_record()
end

local scores, there = nil, picked
if waited then
    -- With a flag, ZADD may add none of the items, or return the score of one.
    added, scores, there = redis.call('ZCARD', waiting) - waited, redis.call('ZMSCORE', waiting, unpack(items)), 0
    for i = 1, count do
        if scores[i] and not (is_out and is_out[i]) then there = there + 1 else scores[i] = is_out and is_out[i] == 'full' and '!' or '-' end
    end
end
if added > 0 then redis.pcall('HINCRBY', meta, 'added', added) end
if there > added then redis.pcall('HINCRBY', meta, 'duplicates', there - added) end
if left_count > 0 then redis.pcall('HINCRBY', meta, 'left_out', left_count) end

local reply = answer(want ~= 'scores' and added .. left .. full or table.concat(scores, ' '))
return facts[2] and reply or {reply, 'register'}
