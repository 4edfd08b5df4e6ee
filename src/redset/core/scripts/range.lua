-- Reads waiting items of a keyed set by their position. Writes nothing.
-- KEYS: waiting, values
-- ARGV: first and last rank, as in ZRANGE
-- Returns item, '1', value or item, '0', '', ...
local waiting, values = unpack(KEYS)
-- include types
-- include values

local refusal = wrong_type(waiting, 'zset', values, 'hash')
if refusal then return refusal end
return with_values(redis.call('ZRANGE', waiting, ARGV[1], ARGV[2]), 1)
