-- Hands out the first items of what waits, lowest score first, ties by their bytes: for good, or under a lease.
-- This is the one place that decides what becomes of a waiting item that it meets, see `goes_out`.
-- KEYS: call, waiting, leased, deliveries, parked, dead, letters, token, wake, waiters; on sets that are keyed, periodic
--       or remember values, done
-- ARGV: number, seen; how many at most; 'due' for only those whose score has come, or 'any', and 'due last' or 'any last'
--       for the last of them first; seconds of the lease, 0 to take them for good;
--       "max_attempts max_dead waits keyed remember digest interval": 0 for without limit, for no, for never;
--       then what to ack before: item, delivery, item, delivery, ...
-- Returns rows; on keyed sets behind them a list of the value of each, or nil; and behind these
-- "more next died forgotten deadline lost ...".
--   more: 1 when it stopped early and may find more at once; 2 when it stopped before a suspect item, or claimed one
--   next: seconds until something falls due, -1: not known
--   died, forgotten: dead letters made and dropped             deadline: of the leases
--   lost: the positions, from 0, of the acks that came too late
--   rows: item, score; under a lease item, delivery: what `deliveries` has of it, or '' in a repeated reply when the lease
--         has ended since
-- An item is suspect when its last lease expired, since it may have killed its process. A claim under a lease returns the
-- items before the first suspect one, or a suspect one alone; where `waits` is 2, which says that the caller has claimed
-- others for the same list, it returns nothing instead.
local call, waiting, leased, deliveries, parked, dead, letters, token, wake, waiters, values, done = unpack(KEYS)
local limit, which, lease, options = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), ARGV[6]
-- include calls
-- include clock
-- include packing
-- include rules

local given = redis.pcall('HMGET', token, 'cleared', 'last')
if given.err then return wrong_type(token, 'hash') or given end
-- What is put back after the set was cleared would come back from the dead: a record says which clear() it came after.
local cleared, last_token = given[1] or '0', given[2]

-- The reply to give, after it was recorded. What hands out rows has removed them before, so it has written and may go on
-- writing on a server that is full; deleting is always allowed. `undo` is what else it takes to put rows back that were
-- taken for good; a value that stays in the set is not copied.
local function hand_over(kind, head, rows, found, undo)
    if call then
        if #rows == 0 then redis.call('DEL', call) end
        local made = number .. ' ' .. kind .. ' ' .. cleared .. ' ' .. head .. '\n'
        redis.call('SET', call, made .. pack(rows, undo or {}), 'EX', RECORD_LIFE)
    end
    if keyed then rows[#rows + 1] = found end
    rows[#rows + 1] = head
    return rows
end

-- What can be handed out is the first of what waits, or up to now; it goes from its beginning or from its end.
local is_due, from_end = string.sub(which, 1, 3) == 'due', #which > 3

-- The next that can be handed out. An error where the key holds something else.
local function next_rows(count)
    if is_due and from_end then
        return redis.pcall('ZRANGE', waiting, clock, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', count, 'WITHSCORES')
    elseif is_due then
        return redis.pcall('ZRANGE', waiting, '-inf', clock, 'BYSCORE', 'LIMIT', '0', count, 'WITHSCORES')
    elseif from_end then
        return redis.pcall('ZRANGE', waiting, '0', count - 1, 'REV', 'WITHSCORES')
    end
    return redis.pcall('ZRANGE', waiting, '0', count - 1, 'WITHSCORES')
end

-- Removes the first `count` of these.
local function remove_next(count)
    local first = '0'
    if from_end then
        local all = is_due and redis.call('ZCOUNT', waiting, '-inf', clock) or redis.call('ZCARD', waiting)
        first = all - count
    end
    redis.call('ZREMRANGEBYRANK', waiting, first, first + count - 1)
end

-- The simplest case first: nothing is anywhere but waiting, it is taken for good, and there is nothing to ack.
local simple = lease == 0 and limit > 0 and not (values or done or repeated or unseen or ARGV[7])
if simple and redis.call('EXISTS', deliveries, leased, parked, dead, letters, waiters) == 0 then
    local rows = next_rows(limit)
    if rows.err then return wrong_type(waiting, 'zset') or rows end
    if #rows > 0 then
        local refusal = denied(call and 'SET')
        if refusal then return refusal end
        remove_next(#rows / 2)
        return hand_over('taken', '0 -1 0 0 0', rows)
    end
end

-- include values
-- include finished

-- Leases the items of `rows` under tokens that count up, and puts their deliveries in the place of their scores. `known` has
-- the fields of these items in `deliveries`, behind the first `offset`. Returns the deadline.
local function lease_out(rows, known, offset)
    local before = math.max(tonumber(last_token or 0), moment[1] * 1000000 + moment[2] - 1)
    local deadline = string.format('%.6f', time + lease)
    local leases, count = {}, #rows / 2
    for i = 1, count do
        local item, attempt, field = rows[2 * i - 1], '1', known[offset + i]
        if field then attempt = (tonumber(string.match(field, '^%S+ (%S+)')) or 0) + 1 end
        -- The last come first: a sorted set takes them in faster that way while it is small.
        local at = 2 * (count - i) + 1
        leases[at], leases[at + 1] = deadline, item
        rows[2 * i] = string.format('%d', before + i) .. ' ' .. attempt .. ' ' .. rows[2 * i]
    end
    redis.call('ZADD', leased, unpack(leases))
    redis.call('HSET', deliveries, unpack(rows))
    redis.call('HSET', token, 'last', string.format('%d', before + count))
    if not last_token then redis.call('PERSIST', token) end
    return deadline
end

-- What becomes of items that were taken for good, once their rows are removed; `delivered` when some may have been delivered
-- before. Returns what it takes to undo that.
local function let_go(items, rows, found, memories, delivered)
    if delivered then redis.call('HDEL', deliveries, unpack(items)) end
    if interval then return schedule_next(items, column(rows, 2, 2), found) end
    if done then remember_done(memories) end
    if values then redis.call('HDEL', values, unpack(items)) end
    return found
end

-- Whether the last lease of an item expired, by its field in `deliveries`.
local function has_expired(field)
    return field and string.sub(field, 1, 7) == 'expired'
end

-- The reply where all is as it mostly is: what is met goes out, what is acked is held, and nothing is to be brought back or
-- decided. It does in fewer steps what the rules below do; nil, and nothing was changed, for when it takes these.
local function common_case()
    if limit == 0 or redis.call('EXISTS', parked, dead, letters, waiters) > 0 then return nil end
    local rows = next_rows(limit)
    if rows.err or #rows == 0 then return nil end

    local items, acks, remembered = column(rows, 2, 1), {}, nil
    for i = 7, #ARGV, 2 do acks[#acks + 1] = ARGV[i] end
    local known, in_work = {}, redis.call('EXISTS', leased, deliveries) > 0
    if in_work then
        local over = redis.pcall('ZRANGE', leased, '-' .. clock, clock, 'BYSCORE', 'LIMIT', '0', '1')
        if over.err or #over > 0 then return nil end
        local both = {}
        for i = 1, #acks do both[i] = acks[i] end
        for i = 1, #items do both[#acks + i] = items[i] end
        -- To look for many that are not there takes long where the server keeps few in a list. What is not acked here is not
        -- leased where there are no more leases than acks, and was never delivered where there are no more deliveries than leases.
        local held, delivered = #both, #both
        if #items > 10 then
            local leases = redis.call('ZCARD', leased)
            if leases == #acks then held = #acks end
            if redis.pcall('HLEN', deliveries) == leases then delivered = #acks end
        end
        local deadlines = held > 0 and redis.call('ZMSCORE', leased, unpack(both, 1, held)) or {}
        if delivered > 0 then known = redis.pcall('HMGET', deliveries, unpack(both, 1, delivered)) end
        if known.err then return nil end
        local met = {}
        for i, item in ipairs(acks) do
            if met[item] or not is_held(known[i], deadlines[i], ARGV[6 + 2 * i]) then return nil end
            met[item] = true
        end
        for i = 1, #items do
            if met[items[i]] or deadlines[#acks + i] then return nil end
            if lease > 0 and has_expired(known[#acks + i]) then return nil end
        end
    elseif #acks > 0 then
        return nil
    end
    if done then
        if wrong_type(done, 'zset') then return nil end
        remembered = memories_of(items)
        local dones = are_done(remembered)
        for i = 1, #items do
            if dones[i] then return nil end
        end
    end
    local found = values and redis.pcall('HMGET', values, unpack(items))
    if found and found.err then return nil end
    local refusal = denied(call and 'SET', #acks > 0 and 'ZREM', lease > 0 and 'ZADD', lease > 0 and 'HSET',
        lease > 0 and not last_token and 'PERSIST')
    if #acks > 0 or lease == 0 then refusal = refusal or may_not_finish() end
    if refusal then return refusal end

    remove_next(#items)
    if #acks > 0 then
        redis.call('ZREM', leased, unpack(acks))
        finish(acks, planned_of(known, #acks))
    end
    if lease > 0 then
        return hand_over('leased', '0 -1 0 0 ' .. lease_out(rows, known, #acks), rows, found)
    end
    return hand_over('taken', '0 -1 0 0 0', rows, found, let_go(items, rows, found, remembered, next(known) ~= nil))
end
local reply = not (repeated or unseen) and common_case()
if reply then return reply end

local max_attempts, max_dead, waits = string.match(options, '^(%d+) (%d+) (%d)')
max_attempts, max_dead = tonumber(max_attempts), tonumber(max_dead)
-- include unpacking
-- When a claim is repeated, some of its leases may have ended: they expired, or others have claimed, ended or removed the items.
-- The reply then has '' in the place of their deliveries, so that rows keep their positions, and the record stays as it is.
-- Leases that expired are rolled back. Live ones stay: this may be a late copy, whose reply nobody reads, and their holders
-- are at work.
local again, over = nil, {}
if repeated then
    local rows, found = unpacked(repeated.packed)
    local items = column(rows, 2, 1)
    again = {rows = rows, undo = found, items = {}, deliveries = {}}
    if repeated.kind == 'leased' then
        local known, deadlines = redis.call('HMGET', deliveries, unpack(items)), redis.call('ZMSCORE', leased, unpack(items))
        for i = 1, #items do
            if not is_held(known[i], deadlines[i], rows[2 * i]) then
                over[#over + 1], again.items[#over + 1], again.deliveries[#over + 1] = i, items[i], rows[2 * i]
                rows[2 * i] = ''
            end
        end
        found = keyed and values_of(items)
    elseif interval then
        found = keyed and values_of(items)
    end
    local head = repeated.head
    if #over > 0 and #over == #items then
        -- Nothing is left of it: the caller is told to claim again.
        local counts, others = string.match(head, '^%S+ %S+ (%S+ %S+) %S+(.*)$')
        rows, found, head = {}, {}, '1 -1 ' .. counts .. ' 0' .. others
    end
    if keyed then rows[#rows + 1] = found end
    rows[#rows + 1] = head
    again.rows = rows
    if #over == 0 then return rows end
end
-- include wakeups
-- include leases
-- include unseen

-- How many leases it brings back, and how many items it parks, before it says "more": about a millisecond each.
local BUDGET = 250

local refusal = wrong_type(waiting, 'zset', leased, 'zset', deliveries, 'hash', parked, 'zset', dead, 'zset',
    letters, 'hash', token, 'hash', wake, 'list', waiters, 'string')
if values then refusal = refusal or wrong_type(values, 'hash') end
if done then refusal = refusal or wrong_type(done, 'zset') end
refusal = refusal or may_not_end_leases()
    or denied('ZREMRANGEBYRANK', 'ZRANGE', from_end and 'ZCARD', from_end and 'ZCOUNT', not last_token and 'PERSIST',
        unseen and values and 'HSETNX', waits == '1' and 'SET')
if refusal then return refusal end

if again then
    end_leases(again.items, again.deliveries, function(i) return 'roll_back', 0, again.undo[over[i]] or '0' end, true)
    if brought_back then wake_one() end
    return again.rows
end
if unseen then roll_back_unseen() end

local acks, given_out = {}, {}
for i = 7, #ARGV, 2 do
    acks[#acks + 1], given_out[#given_out + 1] = ARGV[i], ARGV[i + 1]
end
local lost = end_leases(acks, given_out, function() return 'ack' end)

local more = bring_back_due(BUDGET) == BUDGET

-- Whether so many attempts are the last.
local function are_all(attempts)
    return max_attempts > 0 and attempts >= max_attempts
end

-- Whether a waiting item is handed out, and whether it then starts afresh. `deadline` is its score in `leased`, `death` its
-- score in `dead`, or false.
local function goes_out(item, score, deadline, death, is_done)
    if is_done then
        if values then redis.call('HDEL', values, item) end
        return false
    end
    if deadline and tonumber(deadline) > time then
        redis.call('ZADD', parked, score, item)
        return false
    end
    if deadline then
        -- It was backing off, which the new addition ends, or its lease ran out and it was not brought back yet; then
        -- it starts afresh if it would have died.
        redis.call('ZREM', leased, item)
        redis.call('ZREM', parked, item)
        if tonumber(deadline) > 0 and are_all(delivery(item)) then
            redis.call('HDEL', deliveries, item)
            return true, true
        end
    elseif death then
        -- Where work is remembered a dead item stays dead, or every link to a failing page would revive it.
        if done then return false end
        redis.call('ZREM', dead, item)
        redis.call('HDEL', letters, item)
    end
    return true
end

-- The first of some items that is suspect and not done, by its position; nil where there is none.
local function first_suspect(fields, deadlines, dones)
    for i, field in ipairs(fields) do
        local deadline = tonumber(deadlines[i] or 0)
        -- Its lease may have expired without having been requeued yet.
        local expires_now = deadline > 0 and deadline <= time and field
        if not dones[i] and (has_expired(field) or expires_now and not are_all(attempts_of(field))) then return i end
    end
end

-- What is claimed: rows, and under a lease the field of each in `deliveries`. `meets_suspect` when it stops at a suspect item,
-- `is_suspect` when it is that item.
local rows, fields, meets_suspect, is_suspect = {}, {}, false, false

-- Removes up to `count` rows from what waits, and claims those that go out. Returns how many do not.
local function take(count)
    local met = next_rows(count)
    meets_suspect, is_suspect = false, false
    if #met == 0 then return 0 end
    local items = column(met, 2, 1)
    local deadlines = redis.call('ZMSCORE', leased, unpack(items))
    local deaths = redis.call('ZMSCORE', dead, unpack(items))
    local dones = done and are_done(memories_of(items)) or {}
    local known = lease > 0 and redis.call('HMGET', deliveries, unpack(items)) or {}
    local reach, suspect = #items, first_suspect(known, deadlines, dones)
    if suspect then
        meets_suspect, is_suspect = true, suspect == 1 and #rows == 0 and waits ~= '2'
        reach = is_suspect and 1 or suspect - 1
        if reach == 0 then return 0 end
    end
    remove_next(reach)
    local before = #rows
    for i = 1, reach do
        local goes, afresh = goes_out(items[i], met[2 * i], deadlines[i], deaths[i], dones[i])
        if goes then
            rows[#rows + 1] = items[i]
            rows[#rows + 1] = met[2 * i]
            fields[#rows / 2] = not afresh and known[i]
        end
    end
    return reach - (#rows - before) / 2
end

local function take_all()
    if limit == 0 then return end
    local stayed = take(limit)
    local passed_over = stayed
    while #rows < 2 * limit and stayed > 0 and not (meets_suspect and #rows > 0) do
        if passed_over >= BUDGET then
            more = true
            break
        end
        stayed = take(math.min(limit - #rows / 2, BUDGET))
        passed_over = passed_over + stayed
    end
end

-- Seconds until something falls due by itself, -1 when nothing is known to.
local function next_due()
    local moments = {}
    local function consider(found, sign)
        if found[2] then moments[#moments + 1] = sign * tonumber(found[2]) - time end
    end
    consider(redis.call('ZRANGE', leased, '(' .. clock, '+inf', 'BYSCORE', 'LIMIT', '0', '1', 'WITHSCORES'), 1)
    consider(redis.call('ZRANGE', leased, '(-' .. clock, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', '1', 'WITHSCORES'), -1)
    if is_due then consider(redis.call('ZRANGE', waiting, '0', '0', 'WITHSCORES'), 1) end
    return #moments == 0 and '-1' or string.format('%.6f', math.max(0, math.min(unpack(moments))))
end

take_all()
local kind, deadline, undo = 'taken', '0', nil
local items = column(rows, 2, 1)
local found = values and values_of(items)
if lease > 0 and #rows > 0 then
    kind, deadline, undo = 'leased', lease_out(rows, fields, 0), {is_suspect and 'expired' or nil}
elseif #rows > 0 then
    undo = let_go(items, rows, found, done and memories_of(items), true)
end
-- What is left behind is somebody else's; whoever is woken for nothing looks again anyway.
if watched and (#rows > 0 or brought_back) and #next_rows(1) > 0 then wake_one() end

local must_stop = meets_suspect and (#rows > 0 or waits == '2')
waits = waits == '1' and #rows == 0
local next_moment = waits and next_due() or '-1'
-- Put together piece by piece, which is much faster here than a format.
local head = (must_stop and '2 ' or more and '1 ' or '0 ') .. next_moment .. ' ' .. died .. ' ' .. forgotten .. ' '
    .. deadline .. lost
reply = hand_over(kind, head, rows, found, undo)
if waits then
    redis.call('DEL', waiters)
    redis.call('SET', waiters, '1', 'PX', '1000')
end
return reply
