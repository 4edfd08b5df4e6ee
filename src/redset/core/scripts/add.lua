-- Adds items to what waits; what becomes of one that is leased or dead is decided when it is met at the hand-out. What is
-- remembered as done is left out, and so is what is dead on a set that remembers.
-- KEYS: call, waiting, wake, waiters; where there are options values, done, dead
-- ARGV: number, seen; where there are seven keys the options "keyed remember digest want replaces flag ...";
--       then rows: score, item, score, item, ..., on keyed sets score, item, value, ...
--   want: `added`, or `scores`             flags: those of ZADD; INCR takes one row
--   replaces: whose value is replaced: that of `all`, of `new` items, or of those that are `known` to wait already
-- Returns "added left ...": how many did not wait before; the positions, from 0, of those left out. Where scores are wanted
-- the score that each item has when all is done, or '-' where it was left out or does not wait; 'nan' where a sum is none.
local call, waiting, wake, waiters, values, done, dead = unpack(KEYS)
-- include calls
-- include answer
-- include wakeups

if not values then
    local refusal = denied(call and 'SET')
    if refusal then return refusal end
    -- The first write: refused whole on a server that is full, and where the key is no sorted set.
    local added = redis.pcall('ZADD', waiting, unpack(ARGV, 3))
    if type(added) == 'table' then return wrong_type(waiting, 'zset') or added end
    if watched then wake_one() end
    return answer(tostring(added))
end

local keyed, remember, digest, want, replaces, flags = string.match(ARGV[3], '^(%d) (%S+) (%d) (%l+) (%l+)(.*)$')
digest, remember = digest == '1', tonumber(remember)
if keyed == '0' then values = nil end
if remember == 0 then done, dead = nil, nil end
-- include clock
-- include memory
local refusal = wrong_type(waiting, 'zset')
if values then refusal = refusal or wrong_type(values, 'hash') end
if done then refusal = refusal or wrong_type(done, 'zset', dead, 'zset') end
refusal = refusal or denied(call and 'SET', values and 'HSET', 'ZMSCORE')
if refusal then return refusal end

local width, items = values and 3 or 2, {}
-- A local variable is read faster than a global one, which tells when there are thousands of columns.
local columns = ARGV
local count = (#columns - 3) / width
for i = 1, count do items[i] = columns[5 + width * (i - 1)] end
local dones, deaths = {}, {}
if done then dones, deaths = are_done(memories_of(items)), redis.call('ZMSCORE', dead, unpack(items)) end

-- Whether each item waits before its row is in, where that decides about its value.
local waits = {}
if values and replaces ~= 'all' then
    local scores = redis.call('ZMSCORE', waiting, unpack(items))
    for i, item in ipairs(items) do waits[item] = scores[i] ~= false end
end

local going, fields, left = {}, {}, ''
for flag in string.gmatch(flags, '%u+') do going[#going + 1] = flag end
-- Counted along, since `#` looks for the end of a table each time.
local flag_count, going_count, field_count = #going, #going, 0
for i = 1, count do
    local at, item = 4 + width * (i - 1), items[i]
    if dones[i] or deaths[i] then
        left = left .. ' ' .. i - 1
    else
        going[going_count + 1], going[going_count + 2] = columns[at], item
        going_count = going_count + 2
        if values and (replaces == 'all' or waits[item] == (replaces == 'known')) then
            fields[field_count + 1], fields[field_count + 2] = item, columns[at + 2]
            field_count = field_count + 2
            if replaces == 'new' then waits[item] = true end
        end
    end
end
local added = 0
if going_count > flag_count then
    added = redis.pcall('ZADD', waiting, unpack(going))
    if type(added) == 'table' then
        if string.find(tostring(added.err), 'NaN', 1, true) then return answer('nan') end
        return added
    end
    if field_count > 0 then redis.call('HSET', values, unpack(fields)) end
    wake_one()
elseif call then
    -- Deleting is always allowed, and what has written once may go on writing on a server that is full.
    redis.call('DEL', call)
end
if want == 'added' then return answer(added .. left) end

local scores = redis.call('ZMSCORE', waiting, unpack(items))
for i = 1, count do scores[i] = not (dones[i] or deaths[i]) and scores[i] or '-' end
return answer(table.concat(scores, ' '))
