-- Adds periodic items. What is there already, waiting or leased, keeps its place; its interval and value are replaced.
-- KEYS: call waiting wake looks leased values meta
-- TIME
-- ARGV: number, seen; `each`, or `bulk` to leave out all items behind the first that the set has no room for; then for each item:
--       "first interval": when it falls due first, seconds since the epoch or, behind a plus, from now, behind a '!' only if the item
--       is new: else it is left alone; and its own interval, nothing to leave that as it is; item; on keyed sets its value
-- Returns the positions, from 0, of those that were not there; and behind a slash of those that the set has no room for.
-- include record
-- include wakeups
-- include totals
local refusal = wrong_type() or find_waiters()
if refusal then return refusal end
local facts = redis.call('HMGET', meta, 'layout', 'registered', 'maxsize')
refusal = stored_otherwise(facts[1])
if refusal then return refusal end

local width, items, new, rows, fields = keyed and 3 or 2, {}, {}, {}, {}
for i = 5, #ARGV, width do items[#items + 1] = ARGV[i] end
local scores, deadlines = redis.call('ZMSCORE', waiting, unpack(items)), redis.call('ZMSCORE', leased, unpack(items))
local before, there, is_out = redis.call('HMGET', values, unpack(items)), {}, {}
local full, refused = '', 0
if facts[3] then
    local maxsize, stops = facts[3], ARGV[3] == 'bulk'
-- inline room
end
for i, item in ipairs(items) do
    local at = 4 + width * (i - 1)
    local only_new, first, interval = string.match(ARGV[at], '^(!?)(%S+) (.*)$')
    local value = keyed and ARGV[at + 2] or ''
    if is_out[i] then
        refused = refused + 1
    else
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
end
refusal = denied(call and 'SET', 'HINCRBY', 'HSET')
if refusal then return refusal end
if #rows > 0 then
    -- The first write: refused whole on a server that is full.
    local added = redis.pcall('ZADD', waiting, unpack(rows))
    if type(added) == 'table' then return added end
    if wake_one then wake_one() end
    if not facts[1] then moves().write_form() end
    redis.pcall('HINCRBY', meta, 'added', #new)
end
if #fields > 0 then
    local set = redis.pcall('HSET', values, unpack(fields))
    if type(set) == 'table' then return set end
elseif #rows == 0 then
    free_record()
end
local known = #items - #new - refused
if known > 0 then redis.pcall('HINCRBY', meta, 'duplicates', known) end

local reply = answer(table.concat(new, ' ') .. full)
return facts[2] and reply or {reply, 'register'}
