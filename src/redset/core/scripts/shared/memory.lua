-- Finished work that is remembered, in `done`: for `remember` seconds, under `digest` as the first sixteen bytes of a hash.
-- Needs the clock, and `done` to be nil by now on a set that does not remember.
-- include lifetimes
local memories_of, are_done, remember_done
if done then
    -- What is kept of each of `items`.
    memories_of = function(items)
        -- A fake server may have no hash: there the items themselves are kept.
        if not digest or not redis.sha1hex then return items end
        local memories, hash, pack, sub, tonumber = {}, redis.sha1hex, struct.pack, string.sub, tonumber
        for i, item in ipairs(items) do
            local hex = hash(item)
            -- In pieces that fit into a `long` of a server with 32 bits: what does not would be the same for all items.
            memories[i] = pack('>I4I4I4I4',
                tonumber(sub(hex, 1, 8), 16), tonumber(sub(hex, 9, 16), 16),
                tonumber(sub(hex, 17, 24), 16), tonumber(sub(hex, 25, 32), 16))
        end
        return memories
    end

    are_done = function(memories) return are_living(done, memories) end

    remember_done = function(memories)
        local rows, until_then = {}, moment_in(remember)
        for i = 1, #memories do rows[2 * i - 1], rows[2 * i] = until_then, memories[i] end
        redis.call('ZADD', done, unpack(rows))
        let_go(done, #memories)
    end
end
