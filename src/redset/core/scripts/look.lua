-- Looks at a set without changing it.
-- KEYS: waiting leased parked dead done meta
-- KEYS if values: values
-- TIME
-- ARGV: one of
--   `next`, position among what can be claimed, from 0, or from the end when negative, `due` or `any`: returns how many can be
--       claimed; the row at that position: item, score; on keyed sets a list of its value, or nil
--   `range`, the first and the last rank, as in ZRANGE: returns items; on keyed sets behind them a list of the value of each, or nil
--   `stats`, `due` or `any`: returns the counts of waiting, due, leased, expired, delayed, parked, done, dead; the server's time;
--       the fields `gate` and `maxsize` of `meta`, '' for none; and the lowest score that waits, if there is one
--   `soon`, `due` or `any`: returns the seconds until something can be claimed or falls due, '0' for now; '' if nothing does
--   `planned`, item, interval of the set: returns the item's score in `waiting` and in `leased`, each nil if there is none, and its interval
-- include values
-- include expiry if periodic
local refusal = wrong_type()
if refusal then return refusal end

local function count_claimable(which)
    return which == 'due' and redis.call('ZCOUNT', waiting, '-inf', clock) or redis.call('ZCARD', waiting)
end

local looks = {}

looks['next'] = function(position, which)
    local available = count_claimable(which)
    position = tonumber(position)
    if position < 0 then position = available + position end
    if position < 0 or position >= available then return {available, {}} end
    local row = redis.call('ZRANGE', waiting, position, position, 'WITHSCORES')
    return {available, row, keyed and values_of(row, 2, values) or nil}
end

looks.range = function(first, last)
    local rows = redis.call('ZRANGE', waiting, first, last)
    if keyed then rows[#rows + 1] = values_of(rows, 1, values) end
    return rows
end

looks.stats = function(which)
    return {
        redis.call('ZCARD', waiting),
        count_claimable(which),
        redis.call('ZCOUNT', leased, '(' .. clock, '+inf'),
        redis.call('ZCOUNT', leased, '(0', clock),
        redis.call('ZCOUNT', leased, '-inf', '(0'),
        redis.call('ZCARD', parked),
        redis.call('ZCOUNT', done, '(' .. clock, '+inf'),
        redis.call('ZCARD', dead),
        clock,
        redis.call('HMGET', meta, 'gate')[1] or '',
        redis.call('HMGET', meta, 'maxsize')[1] or '',
        redis.call('ZRANGE', waiting, '0', '0', 'WITHSCORES')[2],
    }
end

looks.soon = function(which)
    if count_claimable(which) > 0 or redis.call('ZCOUNT', leased, '-' .. clock, clock) > 0 then return '0' end
    local moments = {}
    local function consider(found)
        if found[2] then moments[#moments + 1] = math.abs(tonumber(found[2])) end
    end
    consider(redis.call('ZRANGE', leased, clock, '+inf', 'BYSCORE', 'LIMIT', '0', '1', 'WITHSCORES'))
    consider(redis.call('ZRANGE', leased, '-' .. clock, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', '1', 'WITHSCORES'))
    consider(redis.call('ZRANGE', waiting, '0', '0', 'WITHSCORES'))
    return moments[1] and string.format('%.6f', math.min(unpack(moments)) - time) or ''
end

looks.planned = function(item, interval)
    local seconds = moves().seconds_between(redis.call('HGET', values, item), tonumber(interval))
    return {redis.call('ZSCORE', waiting, item), redis.call('ZSCORE', leased, item), string.format('%.17g', seconds)}
end

return looks[ARGV[1]](unpack(ARGV, 2))
