-- Removes everything from an expiring set.
-- KEYS: call, living
-- ARGV: number, seen
-- Returns how many items lived.
local call, living = unpack(KEYS)
-- include calls
-- include answer
-- include clock
-- include lifetimes

local refusal = wrong_type(living, 'zset')
refusal = refusal or denied(call and 'SET')
if refusal then return refusal end

local lived = redis.call('ZCARD', living) - count_over(living)
redis.call('UNLINK', living)
return answer(tostring(lived))
