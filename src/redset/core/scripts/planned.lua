-- Asks what is planned for a periodic item. Writes nothing.
-- KEYS: waiting, leased, values
-- ARGV: item
-- Returns its score in `waiting`, its score in `leased` and its value "interval\nvalue", each nil where there is none.
local waiting, leased, values = unpack(KEYS)
local item = ARGV[1]
-- include types

local refusal = wrong_type(waiting, 'zset', leased, 'zset', values, 'hash')
if refusal then return refusal end
return {redis.call('ZSCORE', waiting, item), redis.call('ZSCORE', leased, item), redis.call('HGET', values, item)}
