-- The server's time: in seconds, to the microsecond, and the same as a string that a score can be compared with.
local moment = redis.call('TIME')
local clock = moment[1] .. '.' .. string.sub('00000' .. moment[2], -6)
local time = tonumber(clock)
