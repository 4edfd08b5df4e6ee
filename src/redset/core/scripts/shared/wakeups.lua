-- Wakes one of those who wait, if anybody does and nobody is being woken. Needs `wake` and `waiters`.
local watched = redis.call('EXISTS', waiters) == 1
if watched then
    local refusal = wrong_type(wake, 'list')
    if refusal then return refusal end
end

local function wake_one()
    if watched and redis.call('LLEN', wake) == 0 then
        redis.call('RPUSH', wake, '1')
        redis.call('EXPIRE', wake, '60')
    end
end
