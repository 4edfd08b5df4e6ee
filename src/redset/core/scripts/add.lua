-- Adds items to what waits; what becomes of one that is leased or dead is decided when it is met at the hand-out. What is
-- remembered as done is left out, and so is what is dead on a set that remembers.
-- KEYS: call, waiting, wake, waiters; on sets that are keyed or remember values, done, dead
-- ARGV: number, seen; where there are seven keys "keyed remember digest"; score, item, score, item, ..., on keyed sets
--       score, item, value, ...
-- Returns "added left ...": how many did not wait before; the positions, from 0, of those left out.
local call, waiting, wake, waiters, values, done, dead = unpack(KEYS)
-- include calls
-- include answer
-- include wakeups

if not values then
    -- The first write: refused whole on a server that is full, and where the key is no sorted set.
    local added = redis.pcall('ZADD', waiting, unpack(ARGV, 3))
    if type(added) == 'table' then return wrong_type(waiting, 'zset') or added end
    if watched then wake_one() end
    return answer(tostring(added))
end

local keyed, remember, digest = string.match(ARGV[3], '^(%d) (%S+) (%d)$')
digest, remember = digest == '1', tonumber(remember)
if remember == 0 then done = nil end
-- include clock
-- include memory
local refusal = wrong_type(waiting, 'zset', values, 'hash', dead, 'zset')
if done then refusal = refusal or wrong_type(done, 'zset') end
if refusal then return refusal end

local width, items = keyed == '1' and 3 or 2, {}
for i = 4, #ARGV, width do items[#items + 1] = ARGV[i + 1] end
local dones, deaths = {}, {}
if done then dones, deaths = are_done(memories_of(items)), redis.call('ZMSCORE', dead, unpack(items)) end

local going, fields, left = {}, {}, ''
for i, item in ipairs(items) do
    local at = 4 + width * (i - 1)
    if dones[i] or deaths[i] then
        left = left .. ' ' .. i - 1
    else
        going[#going + 1], going[#going + 2] = ARGV[at], item
        fields[#fields + 1], fields[#fields + 2] = item, ARGV[at + 2]
    end
end
local added = 0
if #going > 0 then
    added = redis.pcall('ZADD', waiting, unpack(going))
    if type(added) == 'table' then return added end
    if keyed == '1' then redis.call('HSET', values, unpack(fields)) end
    wake_one()
elseif call then
    -- Deleting is always allowed, and what has written once may go on writing on a server that is full.
    redis.call('DEL', call)
end
return answer(added .. left)
