-- Counts what is in each state. Writes nothing.
-- KEYS: waiting, leased, parked, dead, done
-- ARGV: 'due' or 'any': what can be taken
-- Returns the counts of waiting, due, leased, expired, delayed, parked, done, dead; the server's time; and the lowest score
-- that waits, where something does.
local waiting, leased, parked, dead, done = unpack(KEYS)
local which = ARGV[1]
-- include types
-- include clock

local refusal = wrong_type(waiting, 'zset', leased, 'zset', parked, 'zset', dead, 'zset', done, 'zset')
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
    redis.call('ZCOUNT', done, '(' .. clock, '+inf'),
    redis.call('ZCARD', dead),
    clock,
    redis.call('ZRANGE', waiting, '0', '0', 'WITHSCORES')[2],
}
