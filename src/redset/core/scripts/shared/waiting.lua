-- How a claim reads `waiting`, and what it decides about the items there. Needs `which` and what `leases` needs.
-- include leases

-- How many leases it requeues, and how many items it parks or drops, before it says "more": about a millisecond each.
local BUDGET = 250

-- What can be claimed is the first of `waiting`, or up to now, from its beginning or from its end.
local is_due, from_end = string.sub(which, 1, 3) == 'due', #which > 3

-- The first rows that can be claimed.
local function next_rows(count)
    count = math.floor(count)
    if is_due and from_end then
        return redis.pcall('ZRANGE', waiting, clock, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', count, 'WITHSCORES')
    elseif is_due then
        return redis.pcall('ZRANGE', waiting, '-inf', clock, 'BYSCORE', 'LIMIT', '0', count, 'WITHSCORES')
    elseif from_end then
        return redis.pcall('ZRANGE', waiting, '0', count - 1, 'REV', 'WITHSCORES')
    end
    return redis.pcall('ZRANGE', waiting, '0', count - 1, 'WITHSCORES')
end

local function remove_next(count)
    count = math.floor(count)
    local first = '0'
    if from_end then
        first = (is_due and redis.call('ZCOUNT', waiting, '-inf', clock) or redis.call('ZCARD', waiting)) - count
    end
    redis.call('ZREMRANGEBYRANK', waiting, first, first + count - 1)
end

local function read_expired()
    return redis.pcall('ZRANGE', leased, '-' .. clock, clock, 'BYSCORE', 'LIMIT', '0', BUDGET, 'WITHSCORES')
end

-- Returns the fields of `deliveries` for the acks and then for other items; and the items whose scores in `leased` the claim reads at
-- once: only the acks, if there are many others, since the server looks for each from one end of a small sorted set to the other.
local function read_fields(acks, items)
    local all, met, length = {}, {}, #acks
    for i = 1, length do all[i] = acks[i] end
    -- In a small hash, too. So it is not asked for the items where the acks are all that the hash has.
    if #items > 10 and redis.pcall('HLEN', deliveries) == length then
        local fields, has_others = length > 0 and redis.pcall('HMGET', deliveries, unpack(acks)) or {}, false
        for i = 1, length do
            has_others, met[acks[i]] = has_others or not fields[i] or met[acks[i]], true
        end
        if not has_others then return fields, acks end
    end
    for i = 1, #items do all[length + i] = items[i] end
    return #all > 0 and redis.pcall('HMGET', deliveries, unpack(all)) or {}, #items > 10 and acks or all
end

-- WHEN NEEDED: rare

-- Whether a waiting item is claimed, and whether it then starts afresh. `deadline` is its score in `leased`, `death` its score in
-- `dead`, or false.
local function is_claimed(item, score, field, deadline, death, is_done)
    if is_done then
        moves.count('dropped', 1)
        if values then drop_values({item}, leased) end
        if grouped then turns().forget_groups({item}, leased) end
        return false
    end
    deadline = tonumber(deadline or nil)
    if deadline and deadline > time then
        if drops then
            moves.count('dropped', 1)
        else
            moves.count('parked', 1)
            moves.count('merged', 1 - redis.call('ZADD', parked, score, item))
        end
        return false
    end
    if deadline then
        -- Its backoff ends with the new addition; or its lease expired and was not requeued yet, and it starts afresh if it would die.
        moves.count('merged', redis.call('ZREM', leased, item) + redis.call('ZREM', parked, item))
        if deadline > 0 then
            moves.count('expired', 1)
            if grouped then count_leases({[group_in_plan[item]] = -1}) end
        end
        if deadline > 0 and moves.are_exhausted((moves.attempts_and_score(field))) then
            redis.call('HDEL', deliveries, item)
            return true, true
        end
    elseif death then
        -- On a set that remembers a dead item stays dead: else each link to a failing page would revive it.
        if done then
            moves.count('dropped', 1)
            return false
        end
        from_dead(item)
        moves.count('revived', 1)
        moves.count('merged', 1)
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

-- The moment at which the next item falls due, nil if that is not known.
local function next_due()
    local moments = {}
    local function consider(found, sign)
        if found[2] then moments[#moments + 1] = sign * tonumber(found[2]) end
    end
    consider(redis.call('ZRANGE', leased, '(' .. clock, '+inf', 'BYSCORE', 'LIMIT', '0', '1', 'WITHSCORES'), 1)
    consider(redis.call('ZRANGE', leased, '(-' .. clock, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', '1', 'WITHSCORES'), -1)
    if grouped then
        turns().consider_groups(consider)
    elseif is_due then
        consider(redis.call('ZRANGE', waiting, '0', '0', 'WITHSCORES'), 1)
    end
    return moments[1] and math.max(time, math.min(unpack(moments)))
end
