-- Removes everything but the memory of tokens, so that those given from now on are still greater.
-- KEYS: waiting, leased, deliveries, parked, dead, letters, token[, call]
-- ARGV: number, seen
-- Returns how many keys there were to remove.
local waiting, leased, deliveries, parked, dead, letters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local token, call = KEYS[7], KEYS[8]
-- include calls
-- include clock

local refusal = wrong_type(waiting, 'zset', leased, 'zset', deliveries, 'hash', parked, 'zset', dead, 'zset', letters, 'hash',
    token, 'hash')
if refusal then return refusal end

local removed = redis.call('UNLINK', waiting, leased, deliveries, parked, dead, letters)
redis.call('HSET', token, 'cleared', clock)
-- No call record outlives that: where no token was ever given, nothing else needs the key.
if redis.call('HEXISTS', token, 'last') == 0 then redis.call('EXPIRE', token, RECORD_LIFE) end
return answer(tostring(removed))
