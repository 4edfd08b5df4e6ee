-- Items that another program added have no group until a caller gives them one: reads some of these, or sorts them into their groups.
-- KEYS: call waiting leased deliveries dead letters meta wake looks
-- KEYS if values: values
-- KEYS if grouped: group groups ready resting upcoming busy limits
-- OPTIONS
-- TIME
-- ARGV: number, seen, options; `read`; or `sort`, and for each: item, its group; or `bury`, and for each: item, reason
-- Returns "items" or "more" and items without a group: more if there may be others; else nothing.
-- include record
-- include wakeups
-- include states
-- include groups
local verb = ARGV[4]
local refusal = wrong_type() or stored_otherwise(redis.call('HMGET', meta, 'layout')[1]) or find_waiters()
    or denied(call and 'SET', 'HSET', 'HSETNX', 'HDEL', 'ZADD', 'ZREM', 'HMGET', 'ZMSCORE', 'ZRANGE', 'HINCRBY')
if refusal then return refusal end

if verb == 'read' then
    -- `scan` is "cursor found strays": where the look through the whole set has come to, whether it has found any so far, and how
    -- many old entries there would be if it found none.
    local strays = redis.call('ZCARD', groups) - redis.call('ZCARD', waiting)
    local cursor, has_found, before = string.match(redis.call('HMGET', meta, 'scan')[1] or '', '^(%d+) (%d) (%S+)$')
    if not cursor then cursor, has_found, before = '0', '0', tostring(strays) end
    local page = redis.call('ZSCAN', waiting, cursor, 'COUNT', LOOKED_AT)
    local items, found = {}, {}
    for i = 1, #page[2], 2 do items[#items + 1] = page[2][i] end
    local names = #items > 0 and redis.call('HMGET', group, unpack(items)) or {}
    local known, entries, touched = {}, {}, {}
    for i, item in ipairs(items) do
        if names[i] then
            known[#known + 1], entries[#entries + 1] = names[i], beginning_of(names[i]) .. sortable(page[2][2 * i]) .. item
        else
            found[#found + 1] = item
        end
    end
    -- An item that was leased, delayed or dead has a group already when another program adds it.
    local indexed = #entries > 0 and redis.call('ZMSCORE', groups, unpack(entries)) or {}
    for i, entry in ipairs(entries) do
        if not indexed[i] then
            redis.call('ZADD', groups, '0', entry)
            touched[known[i]], has_found = true, '1'
        end
    end
    -- From now on the index may have an entry of the score that such an item had before.
    if next(touched) then redis.call('HSETNX', meta, 'strays', '0') end
    for name in pairs(touched) do turns().place_group(name) end
    if #found > 0 then has_found = '1' end
    if has_turned_ready and wake_one then wake_one() end
    redis.call('HDEL', meta, 'scan')
    if page[1] ~= '0' then
        redis.call('HSET', meta, 'scan', page[1] .. ' ' .. has_found .. ' ' .. before)
    elseif has_found == '0' and before ~= (redis.call('HMGET', meta, 'strays')[1] or '0') then
        redis.call('HSET', meta, 'strays', before)
    end
    return {page[1] == '0' and 'items' or 'more', unpack(found)}
end

local items, words = {}, {}
for i = 5, #ARGV, 2 do items[#items + 1], words[#words + 1] = ARGV[i], ARGV[i + 1] end
local names, scores = redis.call('HMGET', group, unpack(items)), redis.call('ZMSCORE', waiting, unpack(items))
local touched = {}
free_record()
for i, item in ipairs(items) do
    if scores[i] and not names[i] and verb == 'sort' then
        redis.call('HSET', group, item, words[i])
        redis.call('ZADD', groups, '0', beginning_of(words[i]) .. sortable(scores[i]) .. item)
        touched[words[i]] = true
    elseif scores[i] and not names[i] then
        redis.call('ZREM', waiting, item)
        if not redis.call('ZMSCORE', leased, item)[1] then rare().to_dead(item, '0', scores[i], words[i]) end
    end
end
for name in pairs(touched) do turns().place_group(name) end
moves().write_totals()
if has_turned_ready and wake_one then wake_one() end
return answer('')
