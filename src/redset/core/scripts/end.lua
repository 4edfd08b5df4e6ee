-- Ends reservations, or extends them. One whose lease has ended is left alone, whoever has the item by now.
-- KEYS: call waiting leased deliveries parked dead letters meta wake looks
-- KEYS if values: values
-- KEYS if done: done
-- KEYS if grouped: group groups ready resting upcoming busy limits
-- OPTIONS
-- TIME
-- ARGV: number, seen, options; then
--   `ack`, and for each: item, delivery, which is what `deliveries` had of it when it was claimed; or
--   `each`, and for each: item, delivery, "verb seconds text", where the verb is ack, nack, again, extend or bury: for
--       nack: until it may be tried again, why        again: until then, the new score or ''
--       extend: the new lease, ''                     bury: 0, why           ack: 0, ''; or
--   `taken`, and for each item that was claimed for good and cannot be loaded, which then dies: item, "score reason", value
-- Returns "died dropped now lost ...": dead letters made and dropped; the time, to which a lease adds; the positions,
-- from 0, of leases that had ended.
-- include record
-- include wakeups
-- include leases
-- include watching if grouped
local how = ARGV[4]
local width, items, given = how == 'ack' and 2 or 3, {}, {}
for i = 5, #ARGV, width do items[#items + 1], given[#given + 1] = ARGV[i], ARGV[i + 1] end

-- Reads come first, and show which keys hold something of another type.
local fields, deadlines = {}, {}
if how ~= 'taken' and #items > 0 then
    fields, deadlines = redis.pcall('HMGET', deliveries, unpack(items)), redis.pcall('ZMSCORE', leased, unpack(items))
end
-- A waiter may wait for a lease to end, if the set limits how many there are.
local makes_room = false
local there = redis.call('EXISTS', parked, looks, looks)  -- 1 for `parked`, 2 for `looks`
local refusal = fields.err and fields or deadlines.err and deadlines
parking = there % 2 == 1
if grouped then
    refusal = refusal or turns().watch(items, how ~= 'taken' and deadlines) or how == 'ack' and turns().look_at_groups(parking)
end
if there > 0 then
    local gate = redis.pcall('HMGET', meta, 'gate')[1]
    makes_room = grouped and not are_all_ready or gate and string.sub(gate, -2) ~= ' 0'
end
if refusal or parking or makes_room or how ~= 'ack' then
    refusal = wrong_type() or refusal or find_waiters() or rare().may_not_move()
else
    refusal = (values or done) and wrong_type(waiting, values, done) or may_not_finish()
        or grouped and (not (are_all_ready and stay_there) and rare().may_not_move() or denied('HSET')) or nil
end
if refusal then return refusal end

local lost = ''
if how == 'taken' then
    redis.call('ZREM', dead, ARGV[5])
    for i = 5, #ARGV, 3 do
        local score, reason = string.match(ARGV[i + 1], '^(%S+) (.*)$')
        rare().taken_to_dead(ARGV[i], score, reason, ARGV[i + 2])
    end
else
    lost = moves().end_leases(items, given, fields, deadlines, time, how == 'each' and function(i)
        local verb, seconds, text = string.match(ARGV[3 * i + 4], '^(%l+) (%S+) (.*)$')
        return verb, tonumber(seconds), text
    end)
    -- Nothing was written if all are lost: maybe since this is another set than that of the leases.
    if select(2, string.gsub(lost, ' ', '')) == #items then
        refusal = wrong_type(waiting)
        if refusal then return refusal end
        free_record()
    end
end
if grouped then turns().settle() end
moves().write_totals()
if (requeued or makes_room) and wake_one then wake_one() end
return answer(died .. ' ' .. dropped .. ' ' .. clock .. lost)
