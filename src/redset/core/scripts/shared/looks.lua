-- When the waiters of a set look for items by themselves. Needs `poll`, in seconds, the clock, and what `wakeups` and `waiting` need.
-- include wakeups
-- include waiting

-- WHEN NEEDED: rare

-- The ZSET `looks` has the time of each waiter's next look, negative for waiters that can claim any item. So the waiters of one kind
-- stand together. A claim does not fail where this cannot be written: a waiter is late then.
local sign = is_due and 1 or -1

-- Seconds after the moment at which an item falls due until a second waiter looks.
local SPARE = 0.05

-- Seconds by which a waiter may look after such a moment, and by which one that need not be punctual is late at most.
local PROMPT, LATE = 0.002, 0.2

local FOREVER = 1e15

local function at(moment)
    return string.format('%.6f', moment)
end

-- How many waiters of this kind look at `from` or later, but before `to`.
local function looks_between(from, to)
    if is_due then return redis.call('ZCOUNT', looks, at(from), '(' .. at(to)) end
    return redis.call('ZCOUNT', looks, '(-' .. at(to), '-' .. at(from))
end

-- The first look of this kind, from now on; nil if there is none.
local function first_look()
    local found
    if is_due then
        found = redis.call('ZRANGE', looks, clock, '+inf', 'BYSCORE', 'LIMIT', '0', '1', 'WITHSCORES')
    else
        found = redis.call('ZRANGE', looks, '-' .. clock, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', '1', 'WITHSCORES')
    end
    return found[2] and math.abs(found[2])
end

-- Forgets the look of a waiter, and of those who are late by more than a second: they have died.
local function forget_look(waiter)
    redis.pcall('ZREM', looks, waiter)
    redis.pcall('ZREMRANGEBYSCORE', looks, '-' .. at(time - 1), at(time - 1))
end

-- Whether another waiter looks soon enough. Who has left, or has died, leaves a gap in the row of looks.
local function goes_on()
    local first = first_look()
    return first and first <= time + 2 * poll
end

-- Plans the next look of a waiter that got nothing, and returns the seconds until then. Looks are `poll` apart, however many wait, so
-- the server has as much to do for a thousand waiters as for one. `due` is the moment at which an item falls due, or nil: one
-- waiter looks then, and another a little later, in case the first has died or is at work.
local function plan_look(waiter, due)
    forget_look(waiter)
    local last = is_due and redis.call('ZRANGE', looks, '0', '0', 'REV', 'WITHSCORES') or redis.call('ZRANGE', looks, '0', '0', 'WITHSCORES')
    last = math.max(time, sign * (last[2] or 0))
    local look, mark = math.min(last + poll, time + poll * (looks_between(0, FOREVER) + 1)), ''
    if not goes_on() then look = time + poll end
    if due and due < look + LATE and looks_between(due - PROMPT, due + PROMPT) == 0 then
        -- Who looks a little before is punctual, so that it does not miss this moment.
        look, mark = math.min(look, due), '='
    elseif due and due + SPARE < look and looks_between(due + PROMPT, due + 2 * SPARE) == 0 then
        look, mark = due + SPARE, '='
    end
    redis.pcall('ZADD', looks, at(sign * look), waiter)
    redis.pcall('EXPIRE', looks, string.format('%d', math.ceil(math.max(last, look) - time) + 2))
    return string.format('%s%.6f', mark, look - time)
end

-- For a waiter that got something or stops waiting: if no other waiter looks soon enough, or at the moment at which an item falls due,
-- one of them is woken, so that it plans its look anew.
local function leave_looks(due)
    local is_seen = goes_on() and (not due or due > time + 2 * poll or looks_between(time, due + PROMPT) > 0)
    if wake_one and not is_seen and looks_between(0, FOREVER) > 0 then wake_one() end
end
