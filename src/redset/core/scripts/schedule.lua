-- Adds periodic items. What is there already, waiting or leased, keeps its place; its interval and value are replaced.
-- KEYS: call waiting wake waiters leased values
-- TIME
-- ARGV: number, seen; then for each item: "first interval": when it falls due first, seconds since the epoch or, behind a plus, from
--       now, behind a '!' only if the item is new: else it is left alone; and its own interval, nothing to leave that as it is; item; on keyed sets its value
-- Returns the positions, from 0, of those that were not there.
-- include record
-- include wakeups
local refusal = wrong_type() or find_waiters()
if refusal then return refusal end

local width, items, new, rows, fields = keyed and 3 or 2, {}, {}, {}, {}
for i = 4, #ARGV, width do items[#items + 1] = ARGV[i] end
local scores, deadlines = redis.call('ZMSCORE', waiting, unpack(items)), redis.call('ZMSCORE', leased, unpack(items))
local before, there = redis.call('HMGET', values, unpack(items)), {}
for i, item in ipairs(items) do
    local at = 3 + width * (i - 1)
    local only_new, first, interval = string.match(ARGV[at], '^(!?)(%S+) (.*)$')
    local value = keyed and ARGV[at + 2] or ''
    local is_new = not (scores[i] or deadlines[i] or there[item])
    if is_new then
        new[#new + 1] = i - 1
        if string.sub(first, 1, 1) == '+' then first = string.format('%.6f', time + tonumber(first)) end
        rows[#rows + 1], rows[#rows + 2] = first, item
    end
    there[item] = there[item] or before[i] or ''
    if interval == '' then interval = string.match(there[item], '^[^\n]*') end
    if (is_new or only_new == '') and (keyed or interval ~= '') then
        there[item] = interval .. '\n' .. value
        fields[#fields + 1], fields[#fields + 2] = item, there[item]
    end
end
refusal = denied(call and 'SET', #fields > 0 and 'HSET')
if refusal then return refusal end
if #rows > 0 then
    -- The first write: refused whole on a server that is full.
    local added = redis.pcall('ZADD', waiting, unpack(rows))
    if type(added) == 'table' then return added end
    if wake_one then wake_one() end
end
if #fields > 0 then
    local set = redis.pcall('HSET', values, unpack(fields))
    if type(set) == 'table' then return set end
elseif #rows == 0 then
    free_record()
end
return answer(table.concat(new, ' '))
