-- Looks at members of a sorted set that live until a moment: items of an expiring set, or what a set remembers as done.
-- KEYS: living
-- TIME
-- ARGV: `count`: returns how many live; or `which` or `ttl`, and then item, item, ...: returns a mark for each, 1 or 0, or the
--       seconds that each still lives, nil if it does not
-- include expiry
local refusal = wrong_type()
if refusal then return refusal end
if ARGV[1] == 'count' then return redis.call('ZCARD', living) - count_expired(living) end

local items = remembered_as({unpack(ARGV, 2)})
if ARGV[1] == 'ttl' then
    local ends = redis.call('ZMSCORE', living, unpack(items))
    for i = 1, #items do
        local left = ends[i] and tonumber(ends[i]) - time or 0
        ends[i] = left > 0 and string.format('%.6f', left)
    end
    return ends
end
local marks = are_living(living, items)
for i = 1, #marks do marks[i] = marks[i] and '1' or '0' end
return table.concat(marks)
