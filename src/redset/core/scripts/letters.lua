-- Reads dead letters, the newest first. Writes nothing.
-- KEYS: dead, letters; on keyed sets values
-- ARGV: first and last rank, as in ZREVRANGE
-- Returns item, time of death, "attempts score reason", item, ...; on keyed sets behind these a list of the value of each,
-- or nil
local dead, letters, values = unpack(KEYS)
-- include types
-- include values

local refusal = wrong_type(dead, 'zset', letters, 'hash')
if values then refusal = refusal or wrong_type(values, 'hash') end
if refusal then return refusal end

local found = redis.call('ZREVRANGE', dead, ARGV[1], ARGV[2], 'WITHSCORES')
local rows = {}
for i = 1, #found, 2 do
    rows[#rows + 1] = found[i]
    rows[#rows + 1] = found[i + 1]
    rows[#rows + 1] = redis.call('HGET', letters, found[i])
end
if values then rows[#rows + 1] = values_of(column(rows, 3, 1)) end
return rows
