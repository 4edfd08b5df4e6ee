-- How leases end. Needs what `states` needs.
-- include states

-- An error reply if the user may not run a command by which items are finished, or nil.
local function may_not_finish()
    return denied(call and 'SET', (done or periodic) and 'ZADD', 'HDEL') or done and may_not_delete_expired() or nil
end

-- Whether anything is parked; nil: not known yet. Most calls need not ask for each item.
local parking

-- WHEN NEEDED: rare

-- An error reply if the user may not run a command by which items move, or nil.
local function may_not_move()
    return may_not_finish()
        or denied('ZADD', 'HSET', 'DEL', 'ZREM', 'ZMSCORE', 'HMGET', max_dead > 0 and 'ZCARD', max_dead > 0 and 'ZPOPMIN')
end

local function unpark(item)
    if parking == nil then parking = redis.call('EXISTS', parked) == 1 end
    local score = parking and redis.call('ZMSCORE', parked, item)[1]
    if score then redis.call('ZREM', parked, item) end
    return score
end

-- Requeues what was added while its item was leased. Where work is remembered, it is done with the item.
local function parked_to_waiting(item)
    local score = unpark(item)
    if score and not done then to_waiting(item, score) end
end

local function extend_lease(item, seconds, deadline)
    redis.call('ZADD', leased, string.format('%.6f', time + seconds), item)
    -- Those who wait know when the lease was to end.
    requeued = requeued or time + seconds < tonumber(deadline)
end

-- What the ways of ending do with an item that is not done; `seconds` and `text` come with them.
local verbs = {
    nack = function(item, attempts, score, parked_score, seconds, reason)
        if moves.are_exhausted(attempts) then
            leased_to_dead(item, attempts, score, reason, parked_score)
        else
            leased_to_waiting(item, attempts, score, seconds, parked_score)
        end
    end,
    again = function(item, attempts, score, parked_score, seconds, new_score)
        leased_to_waiting(item, attempts - 1, new_score ~= '' and new_score or score, seconds, parked_score)
    end,
    -- `word` is the one that its delivery had before the claim.
    roll_back = function(item, attempts, score, parked_score, seconds, word)
        leased_to_waiting(item, attempts - 1, score, seconds, parked_score, word)
    end,
    bury = function(item, attempts, score, parked_score, seconds, reason)
        leased_to_dead(item, attempts, score, reason, parked_score)
    end,
}

-- Requeues items whose lease expired, and those whose backoff is over: rows of `leased`, of which the scores say which it is.
local function requeue(rows)
    local items, deadlines = column(rows, 2, 1), column(rows, 2, 2)
    local fields = redis.call('HMGET', deliveries, unpack(items))
    redis.call('ZREM', leased, unpack(items))
    for i, item in ipairs(items) do
        local attempts, score = moves.attempts_and_score(fields[i])
        local has_expired, parked_score = tonumber(deadlines[i]) > 0, unpark(item)
        if has_expired and moves.are_exhausted(attempts) then
            leased_to_dead(item, attempts, score, 'its lease ran out', parked_score)
        else
            leased_to_waiting(item, attempts, score, 0, parked_score, has_expired and 'expired')
        end
    end
end

-- Whether a waiting item is claimed, and whether it then starts afresh. `deadline` is its score in `leased`, `death` its score in
-- `dead`, or false.
local function is_claimed(item, score, field, deadline, death, is_done)
    if is_done then
        if values then drop_values({item}, leased) end
        return false
    end
    deadline = tonumber(deadline or nil)
    if deadline and deadline > time then
        redis.call('ZADD', parked, score, item)
        return false
    end
    if deadline then
        -- Its backoff ends with the new addition; or its lease expired and was not requeued yet, and it starts afresh if it would die.
        redis.call('ZREM', leased, item)
        redis.call('ZREM', parked, item)
        if deadline > 0 and moves.are_exhausted((moves.attempts_and_score(field))) then
            redis.call('HDEL', deliveries, item)
            return true, true
        end
    elseif death then
        -- On a set that remembers a dead item stays dead: else each link to a failing page would revive it.
        if done then return false end
        dead_to_waiting(item)
    end
    return true
end

-- The position of the first suspect item, or nil.
local function first_suspect(fields, deadlines, dones)
    for i, field in ipairs(fields) do
        local deadline = tonumber(deadlines[i] or 0)
        -- Its lease may have expired without having been requeued yet.
        local expires_now = field and deadline > 0 and deadline <= time
        local is_suspect = field and string.sub(field, 1, 7) == 'expired'
            or expires_now and not moves.are_exhausted((moves.attempts_and_score(field)))
        if is_suspect and not dones[i] then return i end
    end
end

-- Seconds until an item falls due, -1 if that is not known.
local function next_due(is_due)
    local moments = {}
    local function consider(found, sign)
        if found[2] then moments[#moments + 1] = sign * tonumber(found[2]) - time end
    end
    consider(redis.call('ZRANGE', leased, '(' .. clock, '+inf', 'BYSCORE', 'LIMIT', '0', '1', 'WITHSCORES'), 1)
    consider(redis.call('ZRANGE', leased, '(-' .. clock, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', '1', 'WITHSCORES'), -1)
    if is_due then consider(redis.call('ZRANGE', waiting, '0', '0', 'WITHSCORES'), 1) end
    return #moments == 0 and '-1' or string.format('%.6f', math.max(0, math.min(unpack(moments))))
end

-- WHEN NEEDED: moves

-- Ends leases, or extends them. `given` has the delivery of each of `items`, `fields` what `deliveries` has of it now, `deadlines`
-- its score in `leased`. A lease that ended before `moment` is lost. `how(i)` returns its verb, seconds and text; nil to ack all.
-- Returns the positions of the lost leases, from 0, each behind a space; nothing changes for these.
local function end_leases(items, given, fields, deadlines, moment, how)
    local live, positions, met, lost = {}, {}, {}, ''
    for i, item in ipairs(items) do
        -- A reservation that is named twice can only be ended once.
        if is_held(fields[i], deadlines[i], given[i], moment) and (not met[item] or how and how(i) == 'extend') then
            met[item] = true
            live[#live + 1], positions[#live + 1] = item, i
        else
            lost = lost .. ' ' .. i - 1
        end
    end
    if #live == 0 then return lost end

    -- The first write: it frees memory, so the rest passes on a full server.
    redis.call('ZREM', leased, unpack(live))
    local acked, acked_fields = {}, {}
    for at, i in ipairs(positions) do
        local item, verb, seconds, text = live[at], 'ack'
        if how then verb, seconds, text = how(i) end
        if verb == 'ack' then
            acked[#acked + 1], acked_fields[#acked + 1] = item, fields[i]
            if parking ~= false then rare().parked_to_waiting(item) end
        elseif verb == 'extend' then
            rare().extend_lease(item, seconds, deadlines[i])
        else
            local attempts, score = attempts_and_score(fields[i])
            rare().verbs[verb](item, attempts, score, rare().unpark(item), seconds, text)
        end
    end
    if #acked > 0 then leased_to_done(acked, acked_fields) end
    return lost
end
