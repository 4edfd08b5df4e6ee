-- Reads waiting items of a keyed set by their position. Writes nothing.
-- KEYS: waiting, values
-- ARGV: first and last rank, as in ZRANGE
-- Returns the items, and behind these a list of the value of each, or nil.
local waiting, values = unpack(KEYS)
-- include types
-- include values

local refusal = wrong_type(waiting, 'zset', values, 'hash')
if refusal then return refusal end
local rows = redis.call('ZRANGE', waiting, ARGV[1], ARGV[2])
rows[#rows + 1] = values_of(rows)
return rows
