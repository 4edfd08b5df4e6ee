-- Reads all that is known of one item, or a page of the leases. Writes nothing.
-- KEYS: waiting leased deliveries parked dead letters
-- KEYS if values: values
-- KEYS if done: done
-- TIME
-- ARGV: `item`, item: returns its scores in `waiting`, `leased`, `parked` and `dead`, its fields in `deliveries`, `letters` and
--       `values`, and its score in `done`, each nil if there is none, and the time; or
--   `leases`, first rank, how many: returns item, deadline, delivery, item, ...; on keyed sets behind these a list of the value of each
-- include values if values
-- include expiry if done
local refusal = wrong_type()
if refusal then return refusal end

if ARGV[1] == 'item' then
    local item = ARGV[2]
    local function score_in(key)
        return redis.call('ZSCORE', key, item)
    end
    local function field_of(key)
        return key and redis.call('HGET', key, item) or false
    end
    return {
        score_in(waiting), score_in(leased), score_in(parked), score_in(dead),
        field_of(deliveries), field_of(letters), field_of(values),
        done and redis.call('ZSCORE', done, remembered_as({item})[1]) or false, clock,
    }
end

-- Delayed items come first, with scores below 0.
local first = redis.call('ZCOUNT', leased, '-inf', '(0') + tonumber(ARGV[2])
local found = redis.call('ZRANGE', leased, first, first + tonumber(ARGV[3]) - 1, 'WITHSCORES')
local rows = {}
for i = 1, #found, 2 do
    rows[#rows + 1], rows[#rows + 2] = found[i], found[i + 1]
    rows[#rows + 1] = redis.call('HGET', deliveries, found[i])
end
if keyed then rows[#rows + 1] = values_of(rows, 3, values) end
return rows
