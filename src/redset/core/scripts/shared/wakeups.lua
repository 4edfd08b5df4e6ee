-- How a waiter of a set is woken. Needs `wake` and `looks`.
-- include rights
-- Wakes a waiter, once; nil unless there are waiters, of which none is being woken.
local wake_one

-- Looks for waiters. Returns an error reply if one could not be woken.
local function find_waiters()
    local waiters = redis.pcall('ZCARD', looks)
    if waiters == 0 then return nil end
    local length = redis.pcall('LLEN', wake)
    local trouble = type(waiters) == 'table' and waiters or type(length) == 'table' and length
    if trouble then return wrong_type(looks, wake) or trouble end
    if length > 0 then return nil end
    wake_one = function()
        wake_one = nil
        redis.call('RPUSH', wake, '1')
        redis.call('EXPIRE', wake, '60')
    end
    return denied('RPUSH', 'EXPIRE')
end
