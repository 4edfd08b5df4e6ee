-- Hands out: takes the first items out of what waits, lowest score first, ties by their bytes.
-- KEYS: waiting
-- ARGV: how many at most; 'due' for only those whose score has come by the server's clock, or 'any'
-- Returns item, score, item, score, ...
-- include types
-- include clock

local waiting, limit, which = KEYS[1], ARGV[1], ARGV[2]

local refusal = wrong_type(waiting, 'zset')
if refusal then return refusal end

local rows
if which == 'due' then
    rows = redis.call('ZRANGE', waiting, '-inf', now(), 'BYSCORE', 'LIMIT', '0', limit, 'WITHSCORES')
else
    rows = redis.call('ZRANGE', waiting, '0', limit - 1, 'WITHSCORES')
end
-- Whatever is due comes before whatever is not, so these rows are the first ranks in either case.
if #rows > 0 then redis.call('ZREMRANGEBYRANK', waiting, '0', #rows / 2 - 1) end
return rows
