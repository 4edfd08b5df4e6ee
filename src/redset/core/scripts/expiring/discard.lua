-- Removes items from an expiring set.
-- KEYS: call, living
-- ARGV: number, seen; item, item, ...
-- Returns a mark for each: 1 where it lived, else 0. An item that comes twice lived the first time only.
local call, living = unpack(KEYS)
-- include calls
-- include answer
-- include clock
-- include lifetimes

local refusal = wrong_type(living, 'zset')
refusal = refusal or denied(call and 'SET') or may_not_let_go()
if refusal then return refusal end

local items = {unpack(ARGV, 3)}
local marks, met = are_living(living, items), {}
-- Deleting comes first: it is always allowed, so the rest goes through on a full server.
redis.call('ZREM', living, unpack(items))
let_go(living, #items)
for i, item in ipairs(items) do
    marks[i] = marks[i] and not met[item] and '1' or '0'
    met[item] = true
end
return answer(table.concat(marks))
