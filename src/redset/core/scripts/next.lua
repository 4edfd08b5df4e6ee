-- Looks at what would be handed out next, without taking it. Writes nothing.
-- KEYS: waiting; on keyed sets values
-- ARGV: position among what can be had, from 0, or from the end when negative; 'due' or 'any'
-- Returns how many can be had; where there is one at that position, a row: item, score; on keyed sets a list of its value,
-- or nil
local waiting, values = unpack(KEYS)
local position, which = tonumber(ARGV[1]), ARGV[2]
-- include types
-- include clock
-- include values

local refusal = wrong_type(waiting, 'zset')
if values then refusal = refusal or wrong_type(values, 'hash') end
if refusal then return refusal end

local available
if which == 'due' then
    available = redis.call('ZCOUNT', waiting, '-inf', clock)
else
    available = redis.call('ZCARD', waiting)
end
if position < 0 then position = available + position end
if position < 0 or position >= available then return {available, {}} end
local row = redis.call('ZRANGE', waiting, position, position, 'WITHSCORES')
return {available, row, values and values_of({row[1]})}
