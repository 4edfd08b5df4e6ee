-- Claims the first items of `waiting`, lowest score first, ties by their bytes: for good, or under a lease.
-- This is the one place that decides about a waiting item that is also leased, delayed, dead or remembered; see `is_claimed`.
-- KEYS: call waiting leased deliveries parked dead letters meta history wake looks
-- KEYS if values: values
-- KEYS if done: done
-- KEYS if grouped: group groups ready resting upcoming busy limits
-- OPTIONS
-- TIME
-- ARGV: number, seen, options; how many at most; `any`, or `due` for only those whose score has come, or `any last` or `due last`
--       for the last of them first; seconds of the lease, 0 to claim for good; what the caller does, see below; then what to ack
--       before: item, delivery, item, delivery, ...
--   the caller: "comes ID POLL" if it waits as this waiter when it gets nothing, "waits ID POLL" if others wait as this waiter too,
--       "leaves ID POLL" if none does, "left ID POLL" if it has stopped; "follows" if it has claimed others for the same list; else "-"
-- Returns rows; on keyed sets behind them a list of the value of each, or nil; behind these
-- "more next died dropped deadline lost ..."; and behind that `register` if the set is not registered, `differs` if it is with other options, `groups` if another program has added items.
--   rows: item, score; under a lease item, delivery, or '' in a repeated reply when the lease has ended
--   more: 1 if it stopped early and may find more at once; 2 if it stopped before a suspect item, or claimed one
--   next: seconds until the caller looks again, behind `=` if something falls due then; 0: it does not wait, or got something
--   died, dropped: dead letters made and dropped       lost: the positions, from 0, of the acks that came too late
-- An item is suspect when its last lease expired, since it may have killed its process. A claim under a lease returns the items
-- before the first suspect one, or a suspect one alone; a caller that `follows` gets nothing instead.
local limit, which, lease, caller = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6]), ARGV[7]
local waiter, poll
if caller ~= '-' and caller ~= 'follows' then caller, waiter, poll = string.match(caller, '^(%l+) (%S+) (%S+)$') end
-- include claims
-- include looks
-- include gates
-- include turns if grouped
-- include heads if shards

local repeated_reply, ended
if repeated then
    repeated_reply, ended = rare().repeated_claim()
    if #ended.items == 0 then return repeated_reply end
end

-- The gate of the set may permit fewer items than the caller wants.
local gate = facts[9] and gates().read_gate(facts[9], limit, lease)
if gate then limit = gate.permits end

-- Reads come first, and show which keys hold something of another type. `in_work`: there may be leases or deliveries.
local acks, given, acked = {}, {}, {}
for i = 8, #ARGV, 2 do
    acks[#acks + 1], given[#given + 1], acked[ARGV[i]] = ARGV[i], ARGV[i + 1], true
end
-- EXISTS counts a key as often as it is named: 1 for a key of work, 3 for one of a rare state, 12 for `looks`.
local there = redis.call('EXISTS', leased, deliveries, parked, parked, parked, dead, dead, dead, letters, letters, letters, looks, looks, looks, looks, looks, looks, looks, looks, looks, looks, looks, looks)
local in_work, is_awaited, is_rare = #acks > 0 or there > 0, there >= 12, repeated or unread or there % 12 > 2
local expired = in_work and read_expired() or {}
-- Where items have groups, the ends of leases come before the choice.
local chooses_late = grouped and (#acks > 0 or #expired > 0 or unread)
local met = limit > 0 and not chooses_late and next_rows(limit) or {}
local fields, asked = read_fields(acks, in_work and column(met, 2, 1) or {})
local deadlines = #acks > 0 and redis.pcall('ZMSCORE', leased, unpack(asked))
local refusal = expired.err and expired or met.err and met or fields.err and fields or stored_otherwise(facts[3], facts[8])
local is_tight = gate and gate.leases > 0 and not refusal and gates().free_leases(gate) < limit
local is_first = not facts[3] or done and not facts[8]
if refusal or is_rare or is_tight or #expired > 0 then
    refusal = wrong_type() or refusal or rare().may_not_move() or denied(
        'ZREMRANGEBYRANK', 'ZRANGE', 'ZCARD', grouped and 'HSETNX', from_end and 'ZCOUNT', unread and values and 'HSETNX')
else
    refusal = (values or done) and wrong_type(values, done) or (in_work or values or done or grouped) and may_not_finish()
        or (in_work or done or grouped) and denied('DEL', 'ZADD', 'ZREM', 'ZCARD')
        or grouped and (chooses_late and wrong_type(group, busy, waiting, groups, ready, resting) or is_other_type() or denied('ZMSCORE', 'HMGET'))
    parking = false
end
refusal = refusal or waiter and #met == 0 and wrong_type(looks, wake) or is_awaited and find_waiters() or denied(call and 'SET', lease > 0 and 'ZADD', 'HSET', #acks > 0 and 'ZREMRANGEBYRANK')
if refusal then return refusal end

if repeated then
    rare().roll_back_leases(ended.items, ended.given, ended.words)
    if grouped then turns().settle() end
    moves().write_totals()
    if requeued and wake_one then wake_one() end
    return repeated_reply
end
if unread then
    rare().roll_back()
    expired, fields = read_expired(), read_fields(acks, {})
    deadlines = #acks > 0 and redis.call('ZMSCORE', leased, unpack(acks))
end
if chooses_late then
    turns().watch(acks)
    turns().watch(column(expired, 2, 1))
end
local lost = deadlines and moves().end_leases(acks, given, fields, deadlines, time) or ''
if #expired > 0 then rare().requeue(expired) end
if chooses_late then turns().settle() end
local more = #expired == 2 * BUDGET
-- The ends of leases have made room for others.
if is_tight then limit = math.min(limit, gates().free_leases(gate)) end

-- inline taking
if limit > 0 then
    -- What was read before the first write may have changed by it.
    local is_stale = chooses_late or requeued or unread or died > 0 or #met > 2 * limit
    for i = 1, #met, 2 do is_stale = is_stale or acked[met[i]] end
    local passed = is_stale and take_next(limit) or take(met, fields, #acks, #asked > #acks and deadlines)
    local stayed = passed
    while #rows < 2 * limit and stayed > 0 and not (meets_suspect and #rows > 0) do
        more = more or passed >= BUDGET
        if passed >= BUDGET then break end
        stayed = take_next(math.min(limit - #rows / 2, BUDGET))
        passed = passed + stayed
    end
end
-- Where none may be claimed, there is nothing to go on for.
more = more or grouped and limit > 0 and has_passed
local kind, deadline, undo, found = 'taken', '0', nil, values and values_of(rows, 2, values)
if lease > 0 and #rows > 0 then
    kind, deadline, undo = 'leased', moves().waiting_to_leased(rows, claimed, lease, last_token, facts), {is_suspect and 'expired' or nil}
elseif #rows > 0 then
    redis.call('HSET', meta, 'taken', (tonumber(facts[6]) or 0) + math.floor(#rows / 2))
    if delivered or values or done then undo = moves().waiting_to_done(rows, found, delivered) end
end
if grouped then undo = leave_turns(rows, undo) end
if gate and #rows > 0 then gates().pass_gate(gate, #rows / 2) end
if is_first and #rows > 0 then moves().write_form() end
if grouped and #rows > 0 then note_defaults(facts[12]) end
if next(counts) then moves().write_totals() end
local minute, is_known = math.floor(moment[1] / 60), facts[3] or #rows > 0
-- A minute that a full server does not take counts as noted, or each claim of a set with groups would look for items without one.
if is_known and tonumber(facts[5] or 0) ~= minute and not rare().write_sample(minute) then facts[5] = minute end
-- Items that stay behind wake another waiter, unless a full limit of leases would stop its claim. One that stops waiting may have been
-- woken for them.
local leaves_items = #rows > 0 or requeued or grouped and has_turned_ready or gate and #acks > 0 or caller == 'left' and not (gate and gates().opens_at(gate))
if wake_one and leaves_items and not (gate and gate.is_full) and #next_rows(1) > 0 then wake_one() end

-- When a caller that waits and got nothing looks again; or others look instead of one that got something, or stops waiting.
local next_look = '0'
if waiter and (#rows == 0 or is_awaited or caller == 'waits') then
    local due = gate and gates().opens_at(gate) or rare().next_due()
    if caller ~= 'left' and (#rows == 0 or caller == 'waits' and not redis.pcall('ZMSCORE', looks, waiter)[1]) then
        next_look = rare().plan_look(waiter, due)
    else
        if caller == 'leaves' or caller == 'left' then rare().forget_look(waiter) end
        rare().leave_looks(due)
    end
end
-- Items that have no group yet: the caller learns that, and gives them one.
local has_strangers = grouped and are_there_strangers()
more = more or has_strangers and may_go_on and #rows == 0 and moves() and sorts == 1
local stops = meets_suspect and (#rows > 0 or caller == 'follows') and '2 ' or more and '1 ' or '0 '
local reply = answer_claim(kind, stops .. next_look, deadline .. lost, rows, found, undo)
-- `differs` comes last, since a process follows it only once and then is requested nothing else.
reply[#reply + 1] = is_known and not facts[4] and 'register' or has_strangers and (#rows > 0 and 'groups, if possible' or 'groups')
    or is_known and facts[4] ~= ARGV[3] and 'differs' or nil
return reply
