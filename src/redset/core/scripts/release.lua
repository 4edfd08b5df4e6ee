-- Lets items go that are dead, or done and remembered: requeues dead letters, deletes them, or forgets that items died or were done.
-- KEYS: call waiting leased dead letters meta wake looks done values
-- KEYS if grouped: group groups ready resting upcoming busy limits
-- TIME
-- ARGV: number, seen; `retry`, `delete` or `forget`; how many of the oldest letters, or 0 and then item, item, ...
-- Returns the positions, from 0, of those that were there.
-- include record
-- include wakeups
-- include states
-- include values
-- include expiry
-- include watching if grouped
local verb, oldest = ARGV[3], tonumber(ARGV[4])
local refusal = wrong_type() or stored_otherwise(unpack(redis.call('HMGET', meta, 'layout', 'remembers'))) or find_waiters()
    or denied(call and 'SET', verb == 'retry' and 'ZADD', grouped and 'ZRANGE', grouped and 'ZADD', grouped and 'HSETNX', 'HDEL', 'HMGET', 'ZMSCORE', 'ZREM', 'HINCRBY')
if refusal then return refusal end

local items = {unpack(ARGV, 5)}
if oldest > 0 then items = redis.call('ZRANGE', dead, '0', oldest - 1) end
local memories = verb == 'forget' and remembered_as(items)
local dones = memories and are_living(done, memories) or {}

free_record()
if grouped then turns().watch(items) end
local released = {}
for i, item in ipairs(items) do
    -- One that is named twice is done, or dead, the first time only.
    local was_done = memories and redis.call('ZREM', done, memories[i]) == 1 and dones[i]
    local known = redis.call('HMGET', letters, item)[1]
    local was_dead = rare().from_dead(item)
    if was_dead then
        moves().count(verb == 'retry' and 'retried' or 'dead_removed', 1)
        -- It starts afresh, with the score it had. If it was added again since, that is the newer one.
        if verb == 'retry' then
            -- Without its letter it has lost its score.
            rare().to_waiting(item, string.match(known or '', '^%S+ (%S+)') or clock)
        else
            drop_values({item}, waiting, leased)
        end
    end
    if was_done or was_dead then released[#released + 1] = i - 1 end
end
if grouped then turns().settle() end
moves().write_totals()
if requeued and wake_one then wake_one() end
return answer(table.concat(released, ' '))
