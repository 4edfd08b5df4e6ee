-- Wakes one of the waiters of a set. Needs `wake` and `waiters`.
-- include rights
-- Wakes a waiter, once; nil unless there are waiters, of which none is being woken.
local wake_one

-- Looks for waiters. Returns an error reply if one could not be woken.
local function find_waiters()
    if redis.call('EXISTS', waiters) == 0 then return nil end
    local length = redis.pcall('LLEN', wake)
    if type(length) == 'table' then return wrong_type() or length end
    if length > 0 then return nil end
    wake_one = function()
        wake_one = nil
        redis.call('RPUSH', wake, '1')
        redis.call('EXPIRE', wake, '60')
        -- Only an empty claim sets the mark. While items come one by one, each to a waiter, no claim is empty.
        local life = redis.pcall('GET', waiters)
        redis.call('EXPIRE', waiters, type(life) == 'string' and tonumber(life) or '1')
    end
    return denied('RPUSH', 'EXPIRE')
end

-- WHEN NEEDED: rare

-- Marks that there is a waiter. The mark lives until its next look, at least, and says for how many seconds.
local function mark_waiter()
    local life = seldom and math.ceil(poll) + 1 or 1
    redis.call('DEL', waiters)
    redis.call('SET', waiters, life, 'EX', life)
end

-- ALWAYS
