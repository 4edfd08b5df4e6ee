-- Removes everything but the memory of tokens, so that those given from now on are still greater.
-- KEYS: call token waiting leased deliveries parked dead letters values done
-- TIME
-- ARGV: number, seen
-- Returns how many keys there were to remove.
-- include record
local refusal = wrong_type() or denied(call and 'SET', 'HSET', 'HMGET', 'HEXISTS', 'EXPIRE')
if refusal then return refusal end

local removed = redis.call('UNLINK', waiting, leased, deliveries, parked, dead, letters, values, done)
local micros = moment[1] * 1000000 + moment[2]
local before = tonumber(redis.call('HMGET', token, 'cleared')[1] or 0)
redis.call('HSET', token, 'cleared', string.format('%.0f', math.max(before + 1, micros)))
-- No call record outlives that. If no token was ever given, nothing else needs the key.
if redis.call('HEXISTS', token, 'last') == 0 then redis.call('EXPIRE', token, RECORD_LIFE) end
return answer(tostring(removed))
