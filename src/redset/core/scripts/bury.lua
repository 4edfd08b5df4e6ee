-- Puts items that were taken for good and cannot be loaded among the dead letters.
-- KEYS: dead, letters[, call]
-- ARGV: number, seen; max_dead; item, score, reason, item, score, reason, ...
-- Returns how many old dead letters were dropped to make room.
local dead, letters, call = KEYS[1], KEYS[2], KEYS[3]
local max_dead = tonumber(ARGV[3])
-- include calls
-- include clock
-- include deaths

local refusal = wrong_type(dead, 'zset', letters, 'hash')
if refusal then return refusal end

-- Makes the script one that has written, and may go on on a server that is full.
redis.call('ZREM', dead, ARGV[4])
for i = 4, #ARGV, 3 do die(ARGV[i], '1', ARGV[i + 1], ARGV[i + 2]) end
return answer(tostring(forgotten))
