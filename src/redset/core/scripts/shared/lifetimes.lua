-- Sorted sets whose members live until a moment, which is their score. Needs the clock.

-- How many members live no more. They come first.
local function count_over(key)
    return redis.call('ZCOUNT', key, '-inf', clock)
end

-- Which of `members` live, as a list of true and false.
local function are_living(key, members)
    local ends = redis.call('ZMSCORE', key, unpack(members))
    -- Reading many numbers takes longer than all else, and mostly nothing is over.
    local none_over = #members > 10 and count_over(key) == 0
    for i = 1, #members do ends[i] = ends[i] and (none_over or tonumber(ends[i]) > time) or false end
    return ends
end

-- An error reply when the user has no right to run a command that `let_go` needs, or nil.
local function may_not_let_go()
    return denied('ZCOUNT', 'ZRANGE', 'TTL', 'ZREMRANGEBYRANK', 'EXPIRE')
end

-- The score of what lives for so many seconds from now on.
local function moment_in(seconds)
    return string.format('%.6f', time + seconds)
end

-- To be called after every write, of `count` members: some of those that live no more leave, as many more than come that they
-- cannot pile up; and the key goes with its last member, should nobody come any more. TTL rounds, so there is a second to
-- spare; a server takes no time to live that is much longer than a lifetime.
local function let_go(key, count)
    local over = math.min(count_over(key), 2 * count + 100)
    if over > 0 then redis.call('ZREMRANGEBYRANK', key, '0', over - 1) end
    local last = redis.call('ZRANGE', key, '-1', '-1', 'WITHSCORES')[2]
    if not last then return end
    local left, known = math.max(0, math.min(tonumber(last) - time, 2e9)), redis.call('TTL', key)
    if known < left + 1 or known > left + 4 then
        redis.call('EXPIRE', key, string.format('%d', math.ceil(left) + 2))
    end
end
