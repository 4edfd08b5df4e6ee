-- The server undoes no failed script, so before its first write a script checks that its user has the right (ACL) to run the
-- commands that follow. The first write needs no check: nothing has changed when it fails. Needs `call`.

-- WHEN NEEDED: rare

-- Whether the user has the right to run a command on Redis 6.2, which has no function for that. The command is run with arguments
-- that make it fail, or change nothing. Nil ends the checks: a full server refuses the first write anyway, and those that come first
-- are such writes.
local function can_run(command)
    -- How many arguments that are no numbers, no members and no options.
    local counts = {
        SET = 2, ZADD = 2, HSET = 3, HINCRBY = 2, HSETNX = 2, RPUSH = 1, EXPIRE = 1, ZREM = 1, HDEL = 1, ZREMRANGEBYRANK = 2,
        ZPOPMIN = 1, ZRANGE = 2, ZMSCORE = 1, ZCOUNT = 2, ZCARD = 0, HMGET = 1, HEXISTS = 1, TTL = 0, DEL = 0, HLEN = 0,
    }
    -- Without a record the first key is the one of an item's set.
    if not call and (command == 'ZREM' or command == 'DEL') then return true end
    local key = command == 'RPUSH' and looks or KEYS[1]
    -- DEL must not delete the record, so it probes a key next to the record, which never exists.
    if command == 'DEL' then key = call .. '!' end
    local arguments = {}
    for i = 1, counts[command] do arguments[i] = '!' end
    local reply = redis.pcall(command, key, unpack(arguments))
    local trouble = type(reply) == 'table' and reply.err or ''
    if string.find(trouble, 'maxmemory', 1, true) then return nil end
    return not string.find(trouble, "can't run this command", 1, true)
end

-- ALWAYS

-- An error reply that names the first of these commands that the user has no right to run, or nil; nil and false stand for
-- no command.
local function denied(...)
    local check, key = redis.acl_check_cmd or redis.sha1hex and rare().can_run, KEYS[1]
    -- A fake server knows no rights.
    for i = 1, check and select('#', ...) or 0 do
        local command = select(i, ...)
        -- The server looks for keys among the arguments, so there are enough for any of these commands.
        local has_right = not command or check(command, key, key, key)
        if has_right == nil then return nil end
        if not has_right then
            return redis.error_reply("NOPERM this user has no permissions to run the '" .. string.lower(command) .. "' command")
        end
    end
end
