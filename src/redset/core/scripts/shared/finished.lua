-- What becomes of items whose work is done. Needs `waiting` and `deliveries`; `values` on keyed sets, `done`, `remember` and
-- `digest` on those that remember, `interval` on periodic ones.
-- include memory
-- include ticks

-- Forgets the values of identities that are not anywhere any more; of those that were leased or dead, some may wait.
local function forget_values(items)
    if not values then return end
    local scores, gone = redis.call('ZMSCORE', waiting, unpack(items)), {}
    for i, item in ipairs(items) do
        if not scores[i] then gone[#gone + 1] = item end
    end
    if #gone > 0 then redis.call('HDEL', values, unpack(gone)) end
end

-- `planned` are the moments of periodic items at which they fell due.
local function finish(items, planned)
    redis.call('HDEL', deliveries, unpack(items))
    if interval then
        schedule_next(items, planned)
        return
    end
    if done then remember_done(memories_of(items)) end
    forget_values(items)
end

-- An error reply when the user has no right to run a command that finishing items needs, or nil.
local function may_not_finish()
    return denied(call and 'SET', (done or interval) and 'ZADD', 'HDEL') or done and may_not_let_go() or nil
end

-- When the first `count` of delivered items fell due: their scores in `known`, their fields in `deliveries`. Only periodic
-- sets need that; nil on others.
local function planned_of(known, count)
    if not interval then return nil end
    local planned = {}
    for i = 1, count do planned[i] = string.match(known[i], '^%S+ %S+ (%S+)') end
    return planned
end

-- Whether a lease is still the one of this `delivery`, and not over. `known` is the item's field in `deliveries` by now,
-- `deadline` its score in `leased`.
local function is_held(known, deadline, delivery)
    return known == delivery and deadline and tonumber(deadline) > time
end
