-- Counts what is in each state. Writes nothing.
-- KEYS: waiting, leased, parked, dead
-- ARGV: 'due' or 'any': what can be taken
-- Returns the counts of waiting, due, leased, expired, delayed, parked, dead; the server's time; and the lowest score
-- that waits, where something does.
local waiting, leased, parked, dead, which = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
-- include types
-- include clock

local refusal = wrong_type(waiting, 'zset', leased, 'zset', parked, 'zset', dead, 'zset')
if refusal then return refusal end

local all = redis.call('ZCARD', waiting)
local due = which == 'due' and redis.call('ZCOUNT', waiting, '-inf', clock) or all
return {
    all,
    due,
    redis.call('ZCOUNT', leased, '(' .. clock, '+inf'),
    redis.call('ZCOUNT', leased, '(0', clock),
    redis.call('ZCOUNT', leased, '-inf', '(0'),
    redis.call('ZCARD', parked),
    redis.call('ZCARD', dead),
    clock,
    redis.call('ZRANGE', waiting, '0', '0', 'WITHSCORES')[2],
}
