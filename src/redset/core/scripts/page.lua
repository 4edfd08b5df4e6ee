-- Reads one page of what waits, in order. Writes nothing, so that it works on a replica.
--
-- A page starts behind the last item seen, wherever that item would stand now, and ends at the item that was last
-- when the iteration began: so an item that stays is read exactly once whatever others do, and the iteration ends.
-- KEYS: waiting; on keyed sets values
-- ARGV: how many at most; the score and item seen last, the score and item to end with (each pair may be missing,
--       and is: both before the first page)
-- Returns a list of items, on keyed sets with a list of the value of each, or nil, behind them; the score of the last item,
-- since reading them all takes the server longer than the items; and before the first page the score and item to end with.
local waiting, values = unpack(KEYS)
local limit = tonumber(ARGV[1])
-- include types
-- include values
-- include places

local refusal = wrong_type(waiting, 'zset')
if values then refusal = refusal or wrong_type(values, 'hash') end
if refusal then return refusal end

local function rows_between(first, last)
    local items = redis.call('ZRANGE', waiting, first, last)
    if #items == 0 then return {items} end
    local last_score = redis.call('ZSCORE', waiting, items[#items])
    if values then items[#items + 1] = values_of(items) end
    return {items, last_score}
end

if not ARGV[2] then
    local last = redis.call('ZRANGE', waiting, '-1', '-1', 'WITHSCORES')
    local page = rows_between(0, limit - 1)
    page[3], page[4] = last[2], last[1]
    return page
end

local start, stop = up_to(ARGV[2], ARGV[3]), up_to(ARGV[4], ARGV[5])
if start >= stop then return {{}} end
return rows_between(start, math.min(start + limit, stop) - 1)
