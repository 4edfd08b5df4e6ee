-- Changes an expiring set. Items that have expired leave with every write.
-- KEYS: call living meta
-- TIME
-- ARGV: number, seen; `clear`; or `discard`, and then item, item, ...; or `add` for those that do not live, `touch` for those that do:
--       seconds from now on, and then item, item, ...; the others are left alone
-- Returns how many items lived, for `clear`; else a mark for each item: 1 if it was one of them, else 0. An item that comes twice
-- counts the first time only. A set that is not registered returns a list of that and `register`.
-- include record
-- include totals
-- include expiry
local verb = ARGV[3]
local facts = redis.pcall('HMGET', meta, 'layout', 'registered')
local refusal = facts.err and (wrong_type() or facts) or stored_otherwise(facts[1]) or wrong_type()
    or denied('ZADD', 'HSET', call and 'SET') or may_not_delete_expired()
if refusal then return refusal end

if verb == 'clear' then
    local lived = redis.call('ZCARD', living) - count_expired(living)
    redis.call('UNLINK', living, meta)
    return answer(tostring(lived))
end

local items = {unpack(ARGV, verb == 'discard' and 4 or 5)}
local count, lives = #items, are_living(living, items)
local is_new, rows, length = verb == 'add', {}, 0
local added
if verb == 'discard' then
    -- Deleting comes first: it is always allowed, so the rest passes on a full server.
    redis.call('ZREM', living, unpack(items))
else
    local until_then = moment_in(tonumber(ARGV[4]))
    -- Counted along, since `#` looks for the end of a table each time.
    for i = 1, count do
        if lives[i] ~= is_new then
            rows[length + 1], rows[length + 2] = until_then, items[i]
            length = length + 2
        end
    end
    if length > 0 then
        -- The first write: refused whole on a server that is full. What leaves then makes room.
        added = redis.pcall('ZADD', living, unpack(rows))
    else
        free_record()
    end
end
delete_expired(living, count)
if type(added) == 'table' then return added end

-- `meta` expires with the last item, and is registered again before the registry may forget the set.
local left = redis.call('TTL', living)
local until_then = verb == 'add' and left > 0 and (tonumber(facts[2]) or 0) < time + left and moment_in(2 * left)
if until_then then redis.call('HSET', meta, 'layout', layout, 'registered', until_then) end
redis.call('EXPIRE', meta, math.max(left, 0))

local marks, met = {}, {}
-- Mostly none was there, and none came twice.
for i = 1, added ~= count and count or 0 do
    local item = items[i]
    marks[i] = lives[i] ~= is_new and not met[item] and '1' or '0'
    met[item] = verb ~= 'touch'
end
local reply = answer(added == count and string.rep('1', count) or table.concat(marks))
return until_then and {reply, 'register'} or reply
