-- What is planned for a periodic item. Writes nothing.
-- KEYS: waiting, leased, values
-- ARGV: item; the interval of the set
-- Returns its score in `waiting` and its score in `leased`, each nil where there is none; and its interval.
local waiting, leased, values = unpack(KEYS)
local item, interval = ARGV[1], tonumber(ARGV[2])
-- include types
-- include ticks

local refusal = wrong_type(waiting, 'zset', leased, 'zset', values, 'hash')
if refusal then return refusal end
return {
    redis.call('ZSCORE', waiting, item),
    redis.call('ZSCORE', leased, item),
    string.format('%.17g', seconds_between(redis.call('HGET', values, item))),
}
