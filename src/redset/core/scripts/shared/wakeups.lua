-- Wakes one of those who wait, if anybody does and nobody is being woken. Needs `wake` and `waiters`.
local watched, sleeping = redis.call('EXISTS', waiters) == 1, false
if watched then
    local refusal = wrong_type(wake, 'list') or denied('RPUSH', 'EXPIRE')
    if refusal then return refusal end
    sleeping = redis.call('LLEN', wake) == 0
end

local function wake_one()
    if sleeping then
        sleeping = false
        redis.call('RPUSH', wake, '1')
        redis.call('EXPIRE', wake, '60')
        -- Only a claim that finds nothing sets the mark, and while items come one by one to those who wait none does.
        redis.call('EXPIRE', waiters, '1')
    end
end
