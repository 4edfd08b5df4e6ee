-- How leases end. Needs what `states` needs.
-- include states

-- An error reply if the user may not run a command by which items are finished, or nil.
local function may_not_finish()
    return denied(call and 'SET', (done or periodic) and 'ZADD', 'HDEL', 'HINCRBY') or done and may_not_delete_expired() or nil
end

-- Whether anything is parked; nil: not known yet. Most calls need not ask for each item.
local parking

-- WHEN NEEDED: rare

-- An error reply if the user may not run a command by which items move, or nil.
local function may_not_move()
    return may_not_finish()
        or denied('ZADD', 'HSET', 'DEL', 'ZREM', 'ZMSCORE', 'HMGET', 'HINCRBY', max_dead > 0 and 'ZCARD', max_dead > 0 and 'ZPOPMIN')
        or grouped and denied('ZRANGE', 'HSETNX') or nil
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
    if score and done then moves.count('dropped', 1) end
    if score and not done then to_waiting(item, score) end
end

local function extend_lease(item, seconds, deadline)
    redis.call('ZADD', leased, string.format('%.6f', time + seconds), item)
    -- Those who wait know when the lease was to end.
    requeued = requeued or time + seconds < tonumber(deadline)
end

-- The total in which each way of ending counts, besides the ack.
local totals = {nack = 'nacked', again = 'given_back', roll_back = 'leases_rolled_back', bury = 'buried', rest = 'given_back'}

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
    -- As `again`, but the whole group rests, and with it the item.
    rest = grouped and function(item, attempts, score, parked_score, seconds, new_score)
        leased_to_waiting(item, attempts - 1, new_score ~= '' and new_score or score, 0, parked_score)
        turns().rest_group(item, seconds)
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
        if has_expired then moves.count('expired', 1) end
        if has_expired and moves.are_exhausted(attempts) then
            leased_to_dead(item, attempts, score, 'its lease expired', parked_score)
        else
            leased_to_waiting(item, attempts, score, 0, parked_score, has_expired and 'expired')
        end
    end
end

-- Puts an item that cannot be loaded among the dead letters, unless it was added again: whoever claims that sees what is wrong.
local function taken_to_dead(item, score, reason, value)
    -- It was claimed for good, but it is not done.
    if done then redis.call('ZREM', done, unpack(remembered_as({item}))) end
    local is_newest
    moves.count('unloadable', 1)
    if periodic then
        -- It waits for its next tick, which there will not be.
        is_newest = not (keyed and redis.call('HMGET', values, item)[1] ~= value) and redis.call('ZREM', waiting, item) == 1
    else
        is_newest = not (redis.call('ZMSCORE', waiting, item)[1] or redis.call('ZMSCORE', leased, item)[1])
    end
    if periodic or not is_newest then moves.count('merged', 1) end
    if is_newest then
        if keyed then redis.call('HSET', values, item, value) end
        to_dead(item, '1', score, reason)
    end
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
            count(rare().totals[verb], 1)
            rare().verbs[verb](item, attempts, score, rare().unpark(item), seconds, text)
        end
    end
    if #acked > 0 then leased_to_done(acked, acked_fields) end
    return lost
end
