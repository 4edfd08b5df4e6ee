-- Finished work that is remembered, in `done`: for `remember` seconds, under `digest` as the first sixteen bytes of a hash.
-- Needs the clock, and `done` to be nil by now on a set that does not remember.
local memories_of, are_done, remember_done
if done then
    -- What is kept of each of `items`.
    memories_of = function(items)
        -- A fake server may have no hash: there the items themselves are kept.
        if not digest or not redis.sha1hex then return items end
        local memories = {}
        for i, item in ipairs(items) do
            local hex = redis.sha1hex(item)
            memories[i] = struct.pack('>I4I4I4I4',
                tonumber(string.sub(hex, 1, 8), 16), tonumber(string.sub(hex, 9, 16), 16),
                tonumber(string.sub(hex, 17, 24), 16), tonumber(string.sub(hex, 25, 32), 16))
        end
        return memories
    end

    -- Which of `memories` are there and not over, as a list of true and false.
    are_done = function(memories)
        local ends = redis.call('ZMSCORE', done, unpack(memories))
        for i = 1, #memories do ends[i] = ends[i] and tonumber(ends[i]) > time or false end
        return ends
    end

    -- Remembers, and forgets some of those whose time is over: as many more than come that they cannot pile up.
    remember_done = function(memories)
        local members, until_then, count = {}, string.format('%.6f', time + remember), #memories
        for i = 1, count do members[2 * i - 1], members[2 * i] = until_then, memories[i] end
        redis.call('ZADD', done, unpack(members))
        local over = redis.call('ZRANGE', done, '-inf', clock, 'BYSCORE', 'LIMIT', '0', 2 * count + 100)
        if #over > 0 then redis.call('ZREMRANGEBYRANK', done, '0', #over - 1) end
        -- The last one takes the key with it, when nobody comes any more. TTL rounds, so there is a second to spare; a
        -- server takes no time to live much longer than a lifetime.
        local whole = math.min(remember, 2e9)
        if redis.call('TTL', done) < whole + 1 then
            redis.call('EXPIRE', done, string.format('%d', math.ceil(whole) + 2))
        end
    end
end
