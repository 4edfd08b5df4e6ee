-- Nothing is rolled back, so a script makes sure of the type of every key it may touch before its first write.
-- Returns an error reply that names the first key that holds something else, or nil.
local function wrong_type(key, expected)
    local found = redis.call('TYPE', key).ok
    if found ~= expected and found ~= 'none' then
        return redis.error_reply("WRONGTYPE the key '" .. key .. "' holds a " .. found .. ', where redset keeps a ' .. expected)
    end
end
