-- Nothing is rolled back, so a script makes sure of the type of every key it may touch before its first write.
-- Takes pairs of a key and the type it must have where it exists; returns an error reply that names the first key
-- that holds something else, or nil.
local function wrong_type(key, expected, ...)
    local found = redis.call('TYPE', key).ok
    if found ~= expected and found ~= 'none' then
        return redis.error_reply("WRONGTYPE the key '" .. key .. "' holds a " .. found .. ', where redset keeps a ' .. expected)
    end
    if ... then return wrong_type(...) end
end
