-- Asks which items live in an expiring set. Writes nothing.
-- KEYS: living
-- ARGV: item, item, ...
-- Returns a mark for each: 1 or 0.
local living = KEYS[1]
-- include types
-- include clock
-- include lifetimes

local refusal = wrong_type(living, 'zset')
if refusal then return refusal end

local marks = are_living(living, ARGV)
for i, lives in ipairs(marks) do marks[i] = lives and '1' or '0' end
return table.concat(marks)
