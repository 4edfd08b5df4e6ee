-- Needs `waiting`, `dead`, `letters`, `max_dead` (0: without limit), and `values` on keyed sets.
local died, forgotten = 0, 0

-- Moves an item to the dead letters, of which the oldest go when they are too many: two at most for each that comes.
local function die(item, attempts, score, reason)
    redis.call('ZADD', dead, clock, item)
    redis.call('HSET', letters, item, attempts .. ' ' .. score .. ' ' .. reason)
    died = died + 1
    for _ = 1, max_dead > 0 and math.min(2, redis.call('ZCARD', dead) - max_dead) or 0 do
        local oldest = redis.call('ZPOPMIN', dead)[1]
        redis.call('HDEL', letters, oldest)
        if values and not redis.call('ZMSCORE', waiting, oldest)[1] then redis.call('HDEL', values, oldest) end
        forgotten = forgotten + 1
    end
end
