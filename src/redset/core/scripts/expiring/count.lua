-- Counts what lives in an expiring set. Writes nothing.
-- KEYS: living
-- Returns how many items there are.
local living = KEYS[1]
-- include types
-- include clock
-- include lifetimes

return wrong_type(living, 'zset') or redis.call('ZCARD', living) - count_over(living)
