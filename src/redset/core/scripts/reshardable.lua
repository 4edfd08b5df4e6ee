-- Checks that the user has the rights (ACL) for a reshard, before its first write. Changes nothing.
-- KEYS, without names: keys that a reshard uses, to which the server checks the rights before it runs the script.
-- ARGV: none
-- Returns 1, or an error reply that names a command.
-- The commands, and arguments with which each fails, or changes nothing, at a key that does not exist. A reshard begins with HSETNX.
local commands = {
    TYPE = {}, RENAME = {KEYS[1] .. '!'}, SET = {'!', '!'}, HSET = {'!', '!', '!'}, HGET = {'!'}, HMGET = {'!'}, HLEN = {}, HDEL = {'!'},
    HSCAN = {'!'}, ZADD = {'!', '!'}, ZCARD = {}, ZRANGE = {'!', '!'}, EXISTS = {}, UNLINK = {},
}

local function can_run(command, arguments)
    if redis.acl_check_cmd then return redis.acl_check_cmd(command, KEYS[1], KEYS[1], KEYS[1]) end
    -- Redis 6.2 has no function for that.
    local reply = redis.pcall(command, KEYS[1] .. '!', unpack(arguments))
    return not string.find(type(reply) == 'table' and reply.err or '', "can't run this command", 1, true)
end

-- A fake server knows no rights.
for command, arguments in pairs(redis.sha1hex and commands or {}) do
    if not can_run(command, arguments) then
        return redis.error_reply("NOPERM this user has no permissions to run the '" .. string.lower(command) .. "' command")
    end
end
return 1
