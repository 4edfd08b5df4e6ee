-- Puts items that were handed out and cannot be loaded among the dead letters.
-- KEYS: dead, letters
-- ARGV: item, score, reason, item, score, reason, ...
-- Returns how many dead letters there are now.
-- include types
-- include clock

local dead, letters = KEYS[1], KEYS[2]

local refusal = wrong_type(dead, 'zset') or wrong_type(letters, 'hash')
if refusal then return refusal end

local died_at = now()
for i = 1, #ARGV, 3 do
    local item, score, reason = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    redis.call('ZADD', dead, died_at, item)
    redis.call('HSET', letters, item, '1 ' .. score .. ' ' .. reason)
end
return redis.call('ZCARD', dead)
