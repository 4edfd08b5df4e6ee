-- Gives items of an expiring set a lifetime: those that do not live, or those that do. The others are left alone.
-- KEYS: call, living
-- ARGV: number, seen; 'new' for those that do not live, 'living' for those that do; seconds from now on; item, item, ...
-- Returns a mark for each: 1 where it was one of them, else 0. An item that comes twice is new the first time only.
local call, living = unpack(KEYS)
local adds, lifetime = ARGV[3] == 'new', tonumber(ARGV[4])
-- include calls
-- include answer
-- include clock
-- include lifetimes

local refusal = wrong_type(living, 'zset')
refusal = refusal or denied('ZADD', call and 'SET') or may_not_let_go()
if refusal then return refusal end

local items = {unpack(ARGV, 5)}
local count, lives, until_then = #items, are_living(living, items), moment_in(lifetime)
-- Counted along, since `#` looks for the end of a table each time.
local rows, length = {}, 0
for i = 1, count do
    if lives[i] ~= adds then
        rows[length + 1], rows[length + 2] = until_then, items[i]
        length = length + 2
    end
end

local added
if length > 0 then
    -- The first write: refused whole on a server that is full. What leaves then makes room.
    added = redis.pcall('ZADD', living, unpack(rows))
elseif call then
    -- Deleting is always allowed, and what has written once may go on writing on a server that is full.
    redis.call('DEL', call)
end
let_go(living, count)
if type(added) == 'table' then return added end

-- None was there, and none came twice.
if added == count then return answer(string.rep('1', count)) end
local marks, met = {}, {}
for i, item in ipairs(items) do
    marks[i] = lives[i] ~= adds and not met[item] and '1' or '0'
    met[item] = adds
end
return answer(table.concat(marks))
