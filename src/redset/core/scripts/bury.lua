-- Puts items that were taken for good and cannot be loaded among the dead letters.
-- KEYS: call, waiting, dead, letters; on keyed sets values
-- ARGV: number, seen; max_dead; item, score, reason, value, item, ... ('' for the value of a set without keys)
-- Returns how many old dead letters were dropped to make room.
local call, waiting, dead, letters, values = unpack(KEYS)
local max_dead = tonumber(ARGV[3])
-- include calls
-- include clock
-- include deaths

local refusal = wrong_type(waiting, 'zset', dead, 'zset', letters, 'hash')
if values then refusal = refusal or wrong_type(values, 'hash') end
if refusal then return refusal end

-- Makes the script one that has written, and may go on on a server that is full.
redis.call('ZREM', dead, ARGV[4])
for i = 4, #ARGV, 4 do
    -- What was added since is newer.
    if values then redis.call('HSETNX', values, ARGV[i], ARGV[i + 3]) end
    die(ARGV[i], '1', ARGV[i + 1], ARGV[i + 2])
end
return answer(tostring(forgotten))
