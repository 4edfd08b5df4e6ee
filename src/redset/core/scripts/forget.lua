-- Forgets that items were done, or that they died, so that they can be added again.
-- KEYS: call, waiting, done, dead, letters, values
-- ARGV: number, seen; digest, 1 or 0; item, item, ...
-- Returns the positions, from 0, of those that were remembered.
local call, waiting, done, dead, letters, values = unpack(KEYS)
local digest = ARGV[3] == '1'
-- include calls
-- include answer
-- include clock
-- include memory

local refusal = wrong_type(waiting, 'zset', done, 'zset', dead, 'zset', letters, 'hash', values, 'hash')
    or denied(call and 'SET', 'HDEL', 'ZMSCORE')
if refusal then return refusal end

local items = {unpack(ARGV, 4)}
local memories = memories_of(items)
local dones, forgotten = are_done(memories), {}
for i, item in ipairs(items) do
    -- One that is named twice is remembered the first time only.
    local was_done = redis.call('ZREM', done, memories[i]) == 1 and dones[i]
    local was_dead = redis.call('ZREM', dead, item) == 1
    if was_dead then
        redis.call('HDEL', letters, item)
        if not redis.call('ZMSCORE', waiting, item)[1] then redis.call('HDEL', values, item) end
    end
    if was_done or was_dead then forgotten[#forgotten + 1] = i - 1 end
end
return answer(table.concat(forgotten, ' '))
