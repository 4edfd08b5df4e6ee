-- Removes items from what waits.
-- KEYS: waiting
-- ARGV: item, item, ...
-- Returns for each, in order, 1 when it was there and 0 when not.
-- include types

local refusal = wrong_type(KEYS[1], 'zset')
if refusal then return refusal end

local removed = {}
for i, item in ipairs(ARGV) do removed[i] = redis.call('ZREM', KEYS[1], item) end
return removed
