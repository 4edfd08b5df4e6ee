-- Checks that the user has the rights (ACL) for a reshard, before its first write. Changes nothing.
-- KEYS, without names: keys that a reshard uses, to which the server checks the rights before it runs the script.
-- ARGV: none
-- Returns 1, or an error reply that names a command.
-- Redis 6.2 has no function for that, and a fake server knows no rights.
local commands = {
    'TYPE', 'RENAME', 'SET', 'HSET', 'HSETNX', 'HGET', 'HMGET', 'HLEN', 'HDEL', 'HSCAN', 'ZADD', 'ZCARD', 'ZRANGE', 'EXISTS', 'UNLINK',
}
for _, command in ipairs(redis.acl_check_cmd and commands or {}) do
    if not redis.acl_check_cmd(command, KEYS[1], KEYS[1], KEYS[1]) then
        return redis.error_reply("NOPERM this user has no permissions to run the '" .. string.lower(command) .. "' command")
    end
end
return 1
