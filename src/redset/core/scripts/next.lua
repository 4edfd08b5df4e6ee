-- Looks at what would be handed out next, without taking it. Writes nothing.
-- KEYS: waiting
-- ARGV: position among what can be had, from 0, or from the end when negative; 'due' or 'any'
-- Returns how many can be had, and the item and the score at that position where there is one.
local waiting, position, which = KEYS[1], tonumber(ARGV[1]), ARGV[2]
-- include types
-- include clock

local refusal = wrong_type(waiting, 'zset')
if refusal then return refusal end

local available
if which == 'due' then
    available = redis.call('ZCOUNT', waiting, '-inf', clock)
else
    available = redis.call('ZCARD', waiting)
end
if position < 0 then position = available + position end
if position < 0 or position >= available then return {available} end

local row = redis.call('ZRANGE', waiting, position, position, 'WITHSCORES')
return {available, row[1], row[2]}
