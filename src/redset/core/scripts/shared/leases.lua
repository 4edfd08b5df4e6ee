-- How a lease ends. Needs the keys by their names, `max_attempts` and `max_dead` as numbers (0: without limit).
-- Every one of these removes the item from `leased` first, which frees memory, so it goes through on a full server.
-- include finished
-- include deaths
local brought_back = false

-- A moment `seconds` from now, as a score.
local function after(seconds)
    return string.format('%.6f', time + seconds)
end

-- How many attempts an item has had, by its field in `deliveries`.
local function attempts_of(field)
    return tonumber(string.match(field, '^%S+ (%S+)')) or 0
end

-- Attempts and score of an item that was delivered. Where somebody removed the memory of it, it counts as new: an item
-- must never be stuck for want of a number.
local function delivery(item)
    local known = redis.call('HMGET', deliveries, item)[1]
    if not known then return 0, clock end
    local attempts, score = string.match(known, '^%S+ (%S+) (%S+)$')
    return tonumber(attempts), score
end

local function remember_delivery(item, token, attempts, score)
    redis.call('HSET', deliveries, item, token .. ' ' .. attempts .. ' ' .. score)
end

-- Puts an item back into what waits. If it was added again meanwhile, its newest score stands.
local function wait_again(item, score)
    redis.call('ZADD', waiting, 'NX', score, item)
    brought_back = true
end

-- The score of an item that was added while it was leased: parked, or not met by a hand-out yet.
local function newer_score(item, parked_score)
    return redis.call('ZMSCORE', waiting, item)[1] or parked_score
end

-- An item that may not be tried again: it dies, or starts afresh if it was added meanwhile and nothing is remembered.
local function give_up(item, attempts, score, reason, parked_score)
    redis.call('HDEL', deliveries, item)
    if done then
        redis.call('ZREM', waiting, item)
        parked_score = nil
    else
        parked_score = newer_score(item, parked_score)
    end
    if parked_score then
        wait_again(item, parked_score)
    else
        die(item, attempts, score, reason)
    end
end

-- Has an item tried again after `seconds`; one that was added meanwhile waits for nothing. `word` takes the place of the token
-- in its delivery: 'expired' for an item whose lease expired, so that it may have killed its process; otherwise '0'.
local function try_again(item, attempts, score, seconds, parked_score, word)
    word, parked_score = word or '0', newer_score(item, parked_score)
    if parked_score or seconds <= 0 then
        if attempts == 0 then
            redis.call('HDEL', deliveries, item)
        else
            remember_delivery(item, word, attempts, score)
        end
        wait_again(item, parked_score or score)
    else
        remember_delivery(item, word, attempts, score)
        redis.call('ZADD', leased, '-' .. after(seconds), item)
        brought_back = true
    end
end

-- Whether anything is parked at all, so that most calls need not ask for each item.
local parking = redis.call('EXISTS', parked) == 1

local function end_parking(item)
    local score = parking and redis.call('ZMSCORE', parked, item)[1]
    if score then redis.call('ZREM', parked, item) end
    return score
end

-- What the other ways of ending do with an item that is not done; `seconds` and `text` are what came with them.
local failed = {
    nack = function(item, attempts, score, parked_score, seconds, reason)
        if max_attempts > 0 and attempts >= max_attempts then
            give_up(item, attempts, score, reason, parked_score)
        else
            try_again(item, attempts, score, seconds, parked_score)
        end
    end,
    again = function(item, attempts, score, parked_score, seconds, new_score)
        try_again(item, attempts - 1, new_score ~= '' and new_score or score, seconds, parked_score)
    end,
    -- `word` is the one that its delivery had before the claim.
    roll_back = function(item, attempts, score, parked_score, seconds, word)
        try_again(item, attempts - 1, score, seconds, parked_score, word)
    end,
    bury = function(item, attempts, score, parked_score, seconds, reason)
        give_up(item, attempts, score, reason, parked_score)
    end,
}

-- An error reply when the user has no right to run a command by which leases end, or nil.
local function may_not_end_leases()
    return may_not_finish()
        or denied('ZADD', 'HSET', 'DEL', 'ZREM', 'ZMSCORE', 'HMGET', max_dead > 0 and 'ZCARD', max_dead > 0 and 'ZPOPMIN')
end

-- Ends leases, or extends them. `given_out` has the delivery of each of `items`; `how(i)` returns its verb, seconds and text.
-- Returns the positions, from 0, each behind a space, of those whose lease was over; nothing changes for these. What is
-- put back `late` is taken even so, as long as nobody else has it.
local function end_leases(items, given_out, how, late)
    if #items == 0 then return '' end
    local known = redis.call('HMGET', deliveries, unpack(items))
    local deadlines = redis.call('ZMSCORE', leased, unpack(items))
    local live, met, attempts, scores, lost = {}, {}, {}, {}, ''
    for i, item in ipairs(items) do
        -- A reservation that is named twice can only be ended once.
        local deadline = tonumber(deadlines[i] or 0)
        if known[i] == given_out[i] and deadline > (late and 0 or time) and (not met[item] or how(i) == 'extend') then
            met[item] = true
            live[#live + 1] = item
            attempts[i], scores[i] = string.match(known[i], '^%S+ (%S+) (%S+)$')
        else
            lost = lost .. ' ' .. i - 1
        end
    end
    if #live == 0 then return lost end

    -- The first write: it frees memory, so the rest goes through on a full server.
    redis.call('ZREM', leased, unpack(live))
    local acked, planned = {}, {}
    for i, item in ipairs(items) do
        if attempts[i] then
            local verb, seconds, text = how(i)
            if verb == 'extend' then
                redis.call('ZADD', leased, after(seconds), item)
                brought_back = brought_back or time + seconds < tonumber(deadlines[i])
            elseif verb == 'ack' then
                acked[#acked + 1], planned[#planned + 1] = item, scores[i]
                local parked_score = end_parking(item)
                if parked_score and not done then wait_again(item, parked_score) end
            else
                failed[verb](item, tonumber(attempts[i]), scores[i], end_parking(item), seconds, text)
            end
        end
    end
    if #acked > 0 then finish(acked, planned) end
    return lost
end

-- Brings back what is due: leases that ran out and backoffs that are over, a bounded number of them.
local function bring_back_due(budget)
    -- Held until a past moment, or backing off until one: both lie between minus now and now.
    local due = redis.call('ZRANGE', leased, '-' .. clock, clock, 'BYSCORE', 'LIMIT', '0', budget, 'WITHSCORES')
    for i = 1, #due, 2 do
        local item, held = due[i], tonumber(due[i + 1]) > 0
        local attempts, score = delivery(item)
        redis.call('ZREM', leased, item)
        local parked_score = end_parking(item)
        if held and max_attempts > 0 and attempts >= max_attempts then
            give_up(item, attempts, score, 'its lease ran out', parked_score)
        else
            try_again(item, attempts, score, 0, parked_score, held and 'expired')
        end
    end
    return #due / 2
end
