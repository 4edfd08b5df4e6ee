-- Adds items to what waits; one that waits already gets the new score.
-- KEYS: waiting
-- ARGV: score, item, score, item, ...
-- Returns how many of them did not wait before.
-- include types

local refusal = wrong_type(KEYS[1], 'zset')
if refusal then return refusal end

return redis.call('ZADD', KEYS[1], unpack(ARGV))
