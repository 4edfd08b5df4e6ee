-- Reads what an overview of many sets shows of one. Writes nothing. Costs O(log n).
-- KEYS: waiting leased parked dead done meta history
-- TIME
-- ARGV: `any`, `due`, or `living` for an expiring set; seconds for which a death is recent
-- Returns the counts of waiting, due, leased, expired, delayed, parked, done, dead; the server's time; the fields `gate` and `maxsize`
-- of `meta`, '' for none; the lowest score that waits, or ''; the number of recent deaths; the newest sample of the totals, or ''; and all
-- fields of `meta` with their values
local refusal = wrong_type(waiting)
if refusal then return refusal end

local which, recent = ARGV[1], tonumber(ARGV[2])
if which == 'living' then return {redis.call('ZCOUNT', waiting, '(' .. clock, '+inf'), clock} end
refusal = wrong_type()
if refusal then return refusal end

local size = redis.call('ZCARD', waiting)
return {
    size,
    which == 'due' and redis.call('ZCOUNT', waiting, '-inf', clock) or size,
    redis.call('ZCOUNT', leased, '(' .. clock, '+inf'),
    redis.call('ZCOUNT', leased, '(0', clock),
    redis.call('ZCOUNT', leased, '-inf', '(0'),
    redis.call('ZCARD', parked),
    redis.call('ZCOUNT', done, '(' .. clock, '+inf'),
    redis.call('ZCARD', dead),
    clock,
    redis.call('ZRANGE', waiting, '0', '0', 'WITHSCORES')[2] or '',
    redis.call('ZCOUNT', dead, string.format('%.6f', time - recent), '+inf'),
    string.match(redis.call('LINDEX', history, '0') or '', '^%S*'),
    redis.call('HGETALL', meta),
}
