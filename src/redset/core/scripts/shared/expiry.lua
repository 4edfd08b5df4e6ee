-- Sorted sets whose members live until a moment, which is their score: finished items that are remembered in `done`, under `digest` as
-- the first sixteen bytes of a hash, and the items of an expiring set. And the ticks of periodic items. Needs the time.

-- How many members have expired. They come first.
local function count_expired(key)
    return redis.call('ZCOUNT', key, '-inf', clock)
end

-- Which of `members` live, as a list of true and false.
local function are_living(key, members)
    local ends = redis.call('ZMSCORE', key, unpack(members))
    -- Reading many numbers takes longer than all else, and mostly none has expired.
    local none_expired = #members > 10 and count_expired(key) == 0
    for i = 1, #members do ends[i] = ends[i] and (none_expired or tonumber(ends[i]) > time) or false end
    return ends
end

-- The score of a member that lives for so many seconds from now.
local function moment_in(seconds)
    return string.format('%.6f', time + seconds)
end

-- An error reply if the user may not run a command that `delete_expired` needs, or nil.
local function may_not_delete_expired()
    return denied('ZCOUNT', 'ZRANGE', 'TTL', 'ZREMRANGEBYRANK', 'EXPIRE')
end

-- Deletes up to 100 + 2n expired members after a write of n, so that they cannot pile up. The key expires with its last member.
-- TTL rounds, so there is a second to spare; a server takes no time to live that is much longer than a lifetime.
local function delete_expired(key, count)
    local expired = math.min(count_expired(key), 2 * count + 100)
    if expired > 0 then redis.call('ZREMRANGEBYRANK', key, '0', expired - 1) end
    local last = redis.call('ZRANGE', key, '-1', '-1', 'WITHSCORES')[2]
    if not last then return end
    local left, known = math.max(0, math.min(tonumber(last) - time, 2e9)), redis.call('TTL', key)
    if known < left + 1 or known > left + 4 then
        redis.call('EXPIRE', key, string.format('%d', math.ceil(left) + 2))
    end
end

-- What `done` keeps of each of `items`.
local function remembered_as(items)
    -- A fake server may have no hash. There the items themselves are kept.
    if not digest or not redis.sha1hex then return items end
    local hashes, hash, pack, sub, tonumber = {}, redis.sha1hex, struct.pack, string.sub, tonumber
    for i, item in ipairs(items) do
        local hex = hash(item)
        -- In pieces that fit into a `long` of a server with 32 bits: larger ones would be the same for all items.
        hashes[i] = pack('>I4I4I4I4',
            tonumber(sub(hex, 1, 8), 16), tonumber(sub(hex, 9, 16), 16),
            tonumber(sub(hex, 17, 24), 16), tonumber(sub(hex, 25, 32), 16))
    end
    return hashes
end

-- Periodic items: each has the set's `interval` in seconds, or one of its own in front of its value, "interval\nvalue", where either
-- may be missing. Needs the clock, `waiting` and `values`.
-- WHEN NEEDED: moves
local function seconds_between(value, interval)
    local own = value and tonumber(string.match(value, '^[^\n]*'))
    -- Any program may write there.
    return own and own > 0 and own < math.huge and own or interval
end

-- Has items wait for their next tick: a whole number of intervals, at least one, after the planned one, and not past. So nothing
-- drifts, and missed ticks are not made up for. Items that wait already are left alone. `found` are their values, if known.
-- Returns the ticks, as numbers: a server is given all their digits.
local function schedule_next(items, planned, found)
    found = found or redis.call('HMGET', values, unpack(items))
    local ticks, rows = {}, {}
    for i = 1, #items do
        local every, from = seconds_between(found[i], interval), tonumber(planned[i])
        local tick = from + every
        if tick <= time then
            tick = from + (math.floor((time - from) / every) + 1) * every
            -- The rhythm of a moment so far away that a float has no seconds there begins now.
            if not (tick > time and tick <= time + 2 * every) then tick = time + every end
        end
        ticks[i] = tick
        rows[2 * i - 1], rows[2 * i] = tick, items[i]
    end
    count('rescheduled', redis.call('ZADD', waiting, 'NX', unpack(rows)))
    return ticks
end

local function remember_done(items)
    local rows, until_then, memories = {}, moment_in(remember), remembered_as(items)
    for i = 1, #memories do rows[2 * i - 1], rows[2 * i] = until_then, memories[i] end
    redis.call('ZADD', done, unpack(rows))
    delete_expired(done, #memories)
end
