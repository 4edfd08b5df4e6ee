-- Removes a set, or a part of it.
-- KEYS: what to remove
-- ARGV: the type of each
-- Returns how many of its keys were there.
-- include types

for i, key in ipairs(KEYS) do
    local refusal = wrong_type(key, ARGV[i])
    if refusal then return refusal end
end

return redis.call('UNLINK', unpack(KEYS))
