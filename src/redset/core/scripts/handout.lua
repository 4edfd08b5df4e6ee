-- Hands out the first items of what waits, lowest score first, ties by their bytes: for good, or under a lease.
-- This is the one place that decides what becomes of a waiting item that it meets, see `goes_out`.
-- KEYS: call, waiting, leased, deliveries, parked, dead, letters, token, wake, waiters; on sets that are keyed or remember
--       values, done
-- ARGV: number, seen; how many at most; 'due' for only those whose score has come, or 'any'; seconds of the lease, 0 to
--       take them for good; "max_attempts max_dead waits keyed remember digest": 0 for without limit, for no, for never;
--       then what to ack before: item, token, item, token, ...
-- Returns rows, and behind them "more next died forgotten first deadline lost ...".
--   more: 1 when it stopped early and may find more at once    next: seconds until something falls due, -1: not known
--   died, forgotten: dead letters made and dropped             first, deadline: of the leases; tokens count up from first
--   lost: the positions, from 0, of the acks that came too late
--   rows: item, score; under a lease item, score, attempt; on keyed sets then '1', value or '0', ''
local call, waiting, leased, deliveries, parked, dead, letters, token, wake, waiters, values, done = unpack(KEYS)
local limit, which = ARGV[3], ARGV[4]
-- include calls
-- include clock

-- What is put back after the set was cleared would come back from the dead: a record says which clear() it came after.
local cleared = redis.pcall('HGET', token, 'cleared') or '0'
if type(cleared) == 'table' then return wrong_type(token, 'hash') end

-- A server packs in C; where there is no cmsgpack, rows are written one behind the other after their lengths.
local cmsgpack_there = rawget(_G, 'cmsgpack')

local function with_head(rows, head)
    rows[#rows + 1] = head
    return rows
end

-- The reply to give, after it was recorded. What hands out rows has removed them before, so it has written and may go on
-- writing on a server that is full; deleting is always allowed.
local function hand_over(kind, head, rows)
    if call then
        local packed
        if cmsgpack_there then
            packed = cmsgpack.pack(rows)
        else
            local lengths = {}
            for i, text in ipairs(rows) do lengths[i] = #text end
            packed = table.concat(lengths, ' ') .. '\n' .. table.concat(rows)
        end
        if #rows == 0 then redis.call('DEL', call) end
        local made = number .. ' ' .. kind .. ' ' .. cleared .. ' ' .. head .. '\n'
        redis.call('SET', call, made .. packed, 'EX', RECORD_LIFE)
    end
    return with_head(rows, head)
end

-- The first that can be handed out. An error where the key holds something else.
local function first_rows(count)
    if which == 'due' then
        return redis.pcall('ZRANGE', waiting, '-inf', clock, 'BYSCORE', 'LIMIT', '0', count, 'WITHSCORES')
    end
    return redis.pcall('ZRANGE', waiting, '0', count - 1, 'WITHSCORES')
end

-- The common case first: a set of which nothing is anywhere but waiting.
local plain = redis.call('EXISTS', deliveries, leased, parked, dead, letters, waiters) == 0
if plain and ARGV[5] == '0' and not (values or done or repeated or unseen) then
    local rows = limit == '0' and {} or first_rows(limit)
    if rows.err then return wrong_type(waiting, 'zset') end
    if #rows > 0 then
        -- What is due comes before what is not, so these are the first ranks in either case.
        redis.call('ZREMRANGEBYRANK', waiting, '0', #rows / 2 - 1)
        return hand_over('taken', '0 -1 0 0 0 0', rows)
    end
end

local lease = tonumber(ARGV[5])
local max_attempts, max_dead, waits, keyed, remember, digest =
    string.match(ARGV[6], '^(%d+) (%d+) (%d) (%d) (%S+) (%d)$')
limit, max_attempts, max_dead, remember = tonumber(limit), tonumber(max_attempts), tonumber(max_dead), tonumber(remember)
digest = digest == '1'
if keyed == '0' then values = nil end
if remember == 0 then done = nil end
-- include values
if repeated then
    -- A value that stayed in the set is not copied into the record.
    local rows = repeated.rows
    if repeated.kind == 'leased' then rows = with_values(rows, 3) end
    return with_head(rows, repeated.head)
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
if refusal then return refusal end

if unseen then put_back_unseen(cleared) end

local acks, tokens = {}, {}
for i = 7, #ARGV, 2 do
    acks[#acks + 1], tokens[#tokens + 1] = ARGV[i], ARGV[i + 1]
end
local lost = end_leases(acks, tokens, function() return 'ack' end)

local more = bring_back_due(BUDGET) == BUDGET

-- Whether a waiting item is handed out. `deadline` is its score in `leased`, `death` its score in `dead`, or false.
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
        if tonumber(deadline) > 0 and max_attempts > 0 and delivery(item) >= max_attempts then
            redis.call('HDEL', deliveries, item)
        end
    elseif death then
        -- Where work is remembered a dead item stays dead, or every link to a failing page would revive it.
        if done then return false end
        redis.call('ZREM', dead, item)
        redis.call('HDEL', letters, item)
    end
    return true
end

local function items_of(rows)
    local items = {}
    for i = 1, #rows, 2 do items[#items + 1] = rows[i] end
    return items
end

-- Removes up to `count` rows from what waits, and returns those that go out.
local function take(count)
    local met = first_rows(count)
    if #met == 0 then return met, 0 end
    redis.call('ZREMRANGEBYRANK', waiting, '0', #met / 2 - 1)
    if plain and not done then return met, 0 end
    local items = items_of(met)
    local deadlines = redis.call('ZMSCORE', leased, unpack(items))
    local deaths = redis.call('ZMSCORE', dead, unpack(items))
    local dones = done and are_done(items) or {}
    local going = {}
    for i, item in ipairs(items) do
        local score = met[2 * i]
        if goes_out(item, score, deadlines[i], deaths[i], dones[i]) then
            going[#going + 1] = item
            going[#going + 1] = score
        end
    end
    return going, (#met - #going) / 2
end

local function take_all()
    if limit == 0 then return {} end
    local rows, stayed = take(limit)
    local passed_over = stayed
    while #rows < 2 * limit and stayed > 0 do
        if passed_over >= BUDGET then
            more = true
            break
        end
        local found
        found, stayed = take(math.min(limit - #rows / 2, BUDGET))
        passed_over = passed_over + stayed
        for _, value in ipairs(found) do rows[#rows + 1] = value end
    end
    return rows
end

-- Leases `rows` under tokens that count up from the first result, until the second.
local function lease_out(rows)
    local micros = moment[1] * 1000000 + moment[2]
    local last_token = redis.call('HGET', token, 'last')
    local first = math.max(tonumber(last_token or 0) + 1, micros)
    local deadline = after(lease)
    local known = redis.call('HMGET', deliveries, unpack(items_of(rows)))
    local leases, entries, leased_rows, count = {}, {}, {}, #rows / 2
    for i = 1, count do
        local item, score, attempt = rows[2 * i - 1], rows[2 * i], '1'
        if known[i] then attempt = tostring(string.match(known[i], '^%S+ (%S+)') + 1) end
        -- The last come first: a sorted set takes them in faster that way while it is small.
        local at = 2 * (count - i) + 1
        leases[at], leases[at + 1] = deadline, item
        entries[at], entries[at + 1] = item, string.format('%.0f', first + i - 1) .. ' ' .. attempt .. ' ' .. score
        at = 3 * i - 2
        leased_rows[at], leased_rows[at + 1], leased_rows[at + 2] = item, score, attempt
    end
    redis.call('ZADD', leased, unpack(leases))
    redis.call('HSET', deliveries, unpack(entries))
    redis.call('HSET', token, 'last', string.format('%.0f', first + count - 1))
    if not last_token then redis.call('PERSIST', token) end
    return leased_rows, string.format('%.0f', first), deadline
end

-- Seconds until something falls due by itself, -1 when nothing is known to.
local function next_due()
    local moments = {}
    local function consider(found, sign)
        if found[2] then moments[#moments + 1] = sign * tonumber(found[2]) - time end
    end
    consider(redis.call('ZRANGE', leased, '(' .. clock, '+inf', 'BYSCORE', 'LIMIT', '0', '1', 'WITHSCORES'), 1)
    consider(redis.call('ZRANGE', leased, '(-' .. clock, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', '1', 'WITHSCORES'), -1)
    if which == 'due' then consider(redis.call('ZRANGE', waiting, '0', '0', 'WITHSCORES'), 1) end
    return #moments == 0 and '-1' or string.format('%.6f', math.max(0, math.min(unpack(moments))))
end

local rows, kind, first, deadline = take_all(), 'taken', '0', '0'
if lease > 0 and #rows > 0 then
    rows, first, deadline = lease_out(rows)
    kind = 'leased'
elseif #rows > 0 then
    local items = items_of(rows)
    redis.call('HDEL', deliveries, unpack(items))
    if done then remember_done(items) end
    rows = with_values(rows, 2)
    if values then redis.call('HDEL', values, unpack(items)) end
end
-- What is left behind is somebody else's; whoever is woken for nothing looks again anyway.
if watched and (#rows > 0 or brought_back) and #first_rows(1) > 0 then wake_one() end

waits = waits == '1' and #rows == 0
local next_moment = waits and next_due() or '-1'
-- Put together piece by piece, which is much faster here than a format.
local head = (more and '1 ' or '0 ') .. next_moment .. ' ' .. died .. ' ' .. forgotten .. ' ' .. first .. ' ' .. deadline .. lost
local reply = hand_over(kind, head, rows)
if kind == 'leased' and values then
    reply[#reply] = nil
    reply = with_head(with_values(reply, 3), head)
end
if waits then
    redis.call('DEL', waiters)
    redis.call('SET', waiters, '1', 'PX', '1000')
end
return reply
