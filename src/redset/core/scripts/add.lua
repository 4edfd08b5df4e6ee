-- Adds items to `waiting`. The claim decides about those that are leased or dead. What is remembered as done is left out, and so is
-- what is dead on a set that remembers; a `forced` addition ends the memory and the death of its items instead.
-- KEYS: call waiting wake waiters
-- KEYS if values: values
-- KEYS if done: done dead
-- KEYS if forced: letters
-- TIME if done
-- TIME if delayed
-- ARGV: number, seen; "want replaces flags"; as many flags of ZADD, where INCR takes one row; then rows: score, item, on keyed
--       sets score, item, value; of a `delayed` addition the score is in seconds from now
--   want: `added` or `scores`
--   replaces: whose value is replaced: that of `all`, of `new` items, or of those that are `known` to wait already
-- Returns "added left ...": how many did not wait before; the positions, from 0, of those left out. Where scores are wanted
-- the score that each item has when all is done, or '-' if it was left out or does not wait; 'nan' if a sum is none.
-- include record
-- include wakeups
-- include expiry if done
-- include values if keyed
-- include delays if delayed
-- include states if forced
local want, replaces, flags = string.match(ARGV[3], '(%l+) (%l+) (%d)')
local refusal = find_waiters() or done and wrong_type(waiting, values, done, dead, letters) or keyed and wrong_type(values)
    or denied(call and 'SET', keyed and 'HSET', (values or done or want == 'scores') and 'ZMSCORE')
    or forced and denied('ZREM', 'HDEL')
if refusal then return refusal end

-- A local variable is read faster than a global one, which tells when there are thousands of columns.
local columns, first, width, items = ARGV, 4 + flags, keyed and 3 or 2, {}
local count = (#columns - first + 1) / width
if keyed or done or want == 'scores' then
    for i = 1, count do items[i] = columns[first + 1 + width * (i - 1)] end
end

local is_out, left = nil, ''
if done and not forced then
    local dones, deaths = are_living(done, remembered_as(items)), redis.call('ZMSCORE', dead, unpack(items))
    is_out = {}
    for i = 1, count do
        is_out[i] = dones[i] or deaths[i]
        if is_out[i] then left = left .. ' ' .. i - 1 end
    end
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
if keyed or left ~= '' then
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

local added = 0
if length - start + 1 > flags + 0 then
    -- The first write: refused whole on a server that is full, and where the key is no sorted set.
    added = redis.pcall('ZADD', waiting, unpack(rows, start, length))
    if type(added) == 'table' then
        if string.find(tostring(added.err), 'NaN', 1, true) then return answer('nan') end
        return wrong_type() or added
    end
    if field_count > 0 then replace_values(fields) end
    if forced then
        redis.call('ZREM', done, unpack(remembered_as(items)))
        for i = 1, count do rare().from_dead(items[i]) end
    end
    if wake_one then wake_one() end
else
    free_record()
end
if want == 'added' then return answer(added .. left) end

local scores = redis.call('ZMSCORE', waiting, unpack(items))
for i = 1, count do scores[i] = not (is_out and is_out[i]) and scores[i] or '-' end
return answer(table.concat(scores, ' '))
