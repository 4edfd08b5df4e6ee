-- Sets the next ticks of periodic items. A leased item is added to `waiting` too, and a claim parks it until its lease ends.
-- KEYS: call waiting wake looks leased meta
-- TIME
-- ARGV: number, seen; then for each item: when it falls due, seconds since the epoch, or `now`, unless it is due already; item
-- Returns the positions, from 0, of those that were there, waiting or leased.
-- include record
-- include wakeups
-- include totals
local refusal = wrong_type() or stored_otherwise(redis.call('HMGET', meta, 'layout')[1]) or find_waiters()
    or denied(call and 'SET', 'HINCRBY')
if refusal then return refusal end

local items, found, planned = {}, {}, 0
for i = 4, #ARGV, 2 do items[#items + 1] = ARGV[i] end
local scores, deadlines = redis.call('ZMSCORE', waiting, unpack(items)), redis.call('ZMSCORE', leased, unpack(items))
for i, item in ipairs(items) do
    if scores[i] or deadlines[i] then
        local when = ARGV[2 * i + 1]
        if when == 'now' then
            planned = planned + redis.call('ZADD', waiting, 'LT', clock, item)
        else
            planned = planned + redis.call('ZADD', waiting, when, item)
        end
        found[#found + 1] = i - 1
    end
end
if planned > 0 then redis.pcall('HINCRBY', meta, 'rescheduled', planned) end
if #found == 0 then free_record() elseif wake_one then wake_one() end
return answer(table.concat(found, ' '))
