-- Asks for how long items of an expiring set still live. Writes nothing.
-- KEYS: living
-- ARGV: item, item, ...
-- Returns for each the seconds, or nil where it does not live.
local living = KEYS[1]
-- include types
-- include clock

local refusal = wrong_type(living, 'zset')
if refusal then return refusal end

local ends = redis.call('ZMSCORE', living, unpack(ARGV))
for i = 1, #ARGV do
    local left = ends[i] and tonumber(ends[i]) - time or 0
    ends[i] = left > 0 and string.format('%.6f', left)
end
return ends
