-- Every move of an item from one state to another, which counts itself. Needs the clock, the keys of the states, `max_attempts` and
-- `max_dead` (0: no limit). The first write of each script that moves items frees memory, so the others pass on a full server.
-- include totals
-- include values if values
-- include expiry if done
-- include expiry if periodic
local died, dropped, requeued = 0, 0, false

-- One column of `rows`, which have `width` of them.
local function column(rows, width, which_one)
    local cells = {}
    for i = 1, #rows / width do cells[i] = rows[width * (i - 1) + which_one] end
    return cells
end
-- WHEN NEEDED: moves

-- Attempts and score of a delivered item, by its field in `deliveries`; those of a new item if somebody deleted that.
local function attempts_and_score(field)
    if not field then return 0, clock end
    local attempts, score = string.match(field, '^%S+ (%S+) (%S+)$')
    return tonumber(attempts), score
end

local function are_exhausted(attempts)
    return max_attempts > 0 and attempts >= max_attempts
end

-- Whether a lease is still that of `delivery`, and ends after `moment`. `field` is what `deliveries` has of the item by now.
local function is_held(field, deadline, delivery, moment)
    return field == delivery and deadline and tonumber(deadline) > moment
end

-- The token before the first of a claim: tokens only grow, although `meta` may be lost, and the clock set back.
local function token_before(last_token)
    local last = tonumber(last_token) or 0
    -- Another program may have written a number there that is none of the exact ones.
    return math.max(last < 2 ^ 53 and math.floor(last) or 0, moment[1] * 1000000 + moment[2] - 1)
end

-- Leases the items of `rows` under tokens that count up, and puts their deliveries in the place of their scores. `fields` has what
-- `deliveries` has of each, `facts` what `meta` has. Returns the deadline.
local function waiting_to_leased(rows, fields, lease, last_token, facts)
    local last, deadline = token_before(last_token), string.format('%.6f', time + lease)
    local leases, count = {}, math.floor(#rows / 2)
    for i = 1, count do
        local attempt = fields[i] and attempts_and_score(fields[i]) + 1 or '1'
        -- The last come first: a sorted set takes them in faster that way while it is small.
        leases[2 * (count - i) + 1], leases[2 * (count - i) + 2] = deadline, rows[2 * i - 1]
        rows[2 * i] = string.format('%d', last + i) .. ' ' .. attempt .. ' ' .. rows[2 * i]
    end
    redis.call('ZADD', leased, unpack(leases))
    redis.call('HSET', deliveries, unpack(rows))
    local acked = (tonumber(facts[10]) or 0) + (counts.acked or 0)
    counts.acked = nil
    redis.call('HSET', meta, 'last', string.format('%d', last + count), 'leased', (tonumber(facts[7]) or 0) + count, 'acked', acked)
    return deadline
end

-- Items that were claimed for good: their `rows` are gone from `waiting`. `found` are their values. Returns what it takes to undo that.
local function waiting_to_done(rows, found, delivered)
    local items = column(rows, 2, 1)
    if delivered then redis.call('HDEL', deliveries, unpack(items)) end
    if periodic then return schedule_next(items, column(rows, 2, 2), found) end
    if done then remember_done(items) end
    if values then drop_values(items) end
    return found
end

-- Items whose lease is gone. `fields` is what `deliveries` has of each.
local function leased_to_done(items, fields)
    redis.call('HDEL', deliveries, unpack(items))
    count('acked', #items)
    if periodic then
        local planned = {}
        for i = 1, #items do planned[i] = select(2, attempts_and_score(fields[i])) end
        schedule_next(items, planned)
        return
    end
    if done then remember_done(items) end
    if values then drop_values(items, waiting) end
end

-- WHEN NEEDED: rare

-- Puts an item back into `waiting`. If it was added again meanwhile, its newest score stands.
local function to_waiting(item, score)
    moves.count('merged', 1 - redis.call('ZADD', waiting, 'NX', score, item))
    requeued = true
end

-- The score of an item that was added while it was leased: parked, or not met by a claim yet.
local function newest_score(item, parked_score)
    return redis.call('ZMSCORE', waiting, item)[1] or parked_score
end

-- Requeues an item whose lease is gone, after `seconds`; at once if it was added meanwhile. In its delivery, `word` stands for the
-- token: `expired` if the lease did, maybe because the item killed its process.
local function leased_to_waiting(item, attempts, score, seconds, parked_score, word)
    if parked_score then moves.count('merged', 1) end
    parked_score = newest_score(item, parked_score)
    local at_once = parked_score or seconds <= 0
    if at_once and attempts == 0 then
        redis.call('HDEL', deliveries, item)
    else
        redis.call('HSET', deliveries, item, (word or '0') .. ' ' .. attempts .. ' ' .. score)
    end
    if at_once then
        to_waiting(item, parked_score or score)
    else
        redis.call('ZADD', leased, '-' .. string.format('%.6f', time + seconds), item)
        requeued = true
    end
end

-- Makes an item a dead letter. Of more than `max_dead` the oldest are dropped: two at most for each that comes.
local function to_dead(item, attempts, score, reason)
    local is_new = redis.call('ZADD', dead, clock, item)
    moves.count('merged', 1 - is_new)
    moves.count('died', is_new)
    redis.call('HSET', letters, item, attempts .. ' ' .. score .. ' ' .. reason)
    died = died + 1
    for _ = 1, max_dead > 0 and math.min(2, redis.call('ZCARD', dead) - max_dead) or 0 do
        local oldest = redis.call('ZPOPMIN', dead)[1]
        redis.call('HDEL', letters, oldest)
        if values then drop_values({oldest}, waiting) end
        if grouped then turns().forget_groups({oldest}, waiting, leased) end
        moves.count('dead_removed', 1)
        dropped = dropped + 1
    end
end

-- An item that may not be tried again: it dies, or starts afresh if it was added meanwhile and the set does not remember.
local function leased_to_dead(item, attempts, score, reason, parked_score)
    redis.call('HDEL', deliveries, item)
    if done then
        moves.count('dropped', redis.call('ZREM', waiting, item) + (parked_score and 1 or 0))
        parked_score = nil
    else
        if parked_score then moves.count('merged', 1) end
        parked_score = newest_score(item, parked_score)
    end
    if parked_score then to_waiting(item, parked_score) else to_dead(item, attempts, score, reason) end
end

-- Ends the death of an item. Returns whether it was dead.
local function from_dead(item)
    if redis.call('ZREM', dead, item) == 0 then return false end
    redis.call('HDEL', letters, item)
    return true
end
