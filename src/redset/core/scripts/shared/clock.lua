-- The server's time in seconds, to the microsecond, as a string that a score can be compared with.
local function now()
    local time = redis.call('TIME')
    return time[1] .. string.format('.%06d', time[2])
end
