-- Finished work that is remembered, in `done`: for `remember` seconds, 0 on sets that do not; under `digest` as the first
-- sixteen bytes of a hash. Needs the clock.
local function memory_of(item)
    -- A fake server may have no hash: there the item itself is kept.
    if not digest or not redis.sha1hex then return item end
    return (string.gsub(string.sub(redis.sha1hex(item), 1, 32), '%x%x', function(byte)
        return string.char(tonumber(byte, 16))
    end))
end

-- Which of `items` are remembered, as a list of true and false.
local function are_done(items)
    local keys = {}
    for i, item in ipairs(items) do keys[i] = memory_of(item) end
    local ends = redis.call('ZMSCORE', done, unpack(keys))
    for i = 1, #items do ends[i] = ends[i] and tonumber(ends[i]) > time or false end
    return ends
end

-- Remembers items, and forgets some of those whose time is over: as many more than come that they cannot pile up.
local function remember_done(items)
    if #items == 0 then return end
    local members, until_then = {}, string.format('%.6f', time + remember)
    for i, item in ipairs(items) do
        members[2 * i - 1], members[2 * i] = until_then, memory_of(item)
    end
    redis.call('ZADD', done, unpack(members))
    local over = redis.call('ZRANGE', done, '-inf', clock, 'BYSCORE', 'LIMIT', '0', 2 * #items + 100)
    if #over > 0 then redis.call('ZREMRANGEBYRANK', done, '0', #over - 1) end
    -- The last one takes the key with it, when nobody comes any more. TTL rounds, so there is a second to spare; a
    -- server takes no time to live much longer than a lifetime.
    local whole = math.min(remember, 2e9)
    if redis.call('TTL', done) < whole + 1 then
        redis.call('EXPIRE', done, string.format('%d', math.ceil(whole) + 2))
    end
end
