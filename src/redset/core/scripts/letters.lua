-- Reads dead letters, the newest first. Writes nothing.
--
-- A page starts behind the letter seen last, wherever it is by now: so a letter that stays is read exactly once, whatever others
-- retry or forget meanwhile.
-- KEYS: dead letters
-- KEYS if keyed: values
-- ARGV: `ranks`, the first and the last one, as in ZREVRANGE; or `page`, how many at most, and behind the first page time of
--       death and item of the letter seen last
-- Returns item, time of death, "attempts score reason", item, ...; on keyed sets behind these a list of the value of each, or nil
local waiting = dead -- what `places` looks at
-- include values
-- include places
local refusal = wrong_type()
if refusal then return refusal end

local first, last = ARGV[2], ARGV[3]
if ARGV[1] == 'page' then
    first = ARGV[3] and redis.call('ZCARD', dead) - before(ARGV[3], ARGV[4]) or 0
    last = first + tonumber(ARGV[2]) - 1
end
local found = redis.call('ZREVRANGE', dead, first, last, 'WITHSCORES')
local rows, length = {}, 0
for i = 1, #found, 2 do
    rows[length + 1], rows[length + 2] = found[i], found[i + 1]
    rows[length + 3] = redis.call('HGET', letters, found[i])
    length = length + 3
end
if keyed then rows[length + 1] = values_of(rows, 3, values) end
return rows
