-- Reads one page of a sorted set, of which it returns the items that are in others as well, or those that are not: so two
-- sets are compared where they are. Writes nothing. What a page is, and where the last one ends, is told in page.lua.
-- TIME
-- Its keys: the set to page; those beside it, if any; where asked for, the values of a keyed set
-- ARGV: how many to look at; "inside" for what is in any of the others, "outside" for what is in none; a letter for each key: s
--       for a set, l for one whose scores say until when items live, of which those that live no more do not count, v for
--       values; the score and item seen last, the score and item to end with (before the first page neither)
-- Returns a list of items, with values a list of the value of each, or nil, behind them; where there is more to page, the
-- score and item seen last, the score and item to end with.
local waiting, others = KEYS[1], {unpack(KEYS, 2)}
local letters = ARGV[3]
local has_values = string.sub(letters, -1) == 'v'
if has_values then table.remove(others) end
local limit, inside = tonumber(ARGV[1]), ARGV[2] == 'inside'
-- include values
-- include places
-- include expiry

for i, key in ipairs(KEYS) do
    local refusal = holds_other(key, string.sub(letters, i, i) == 'v' and 'hash' or 'zset')
    if refusal then return refusal end
end

-- Of these the ones that are in any of the others, or those that are in none.
local function of_interest(items)
    if #others == 0 then return items end
    local found, chosen = {}, {}
    for each, other in ipairs(others) do
        local lives = string.sub(letters, each + 1, each + 1) == 'l'
        local there = lives and are_living(other, items) or redis.call('ZMSCORE', other, unpack(items))
        for i = 1, #items do found[i] = found[i] or there[i] end
    end
    for i, item in ipairs(items) do
        if inside == (found[i] and true or false) then chosen[#chosen + 1] = item end
    end
    return chosen
end

local start, stop, end_score, end_item = 0, redis.call('ZCARD', waiting), ARGV[6], ARGV[7]
if end_item then
    start, stop = up_to(ARGV[4], ARGV[5]), up_to(end_score, end_item)
else
    local last = redis.call('ZRANGE', waiting, '-1', '-1', 'WITHSCORES')
    end_item, end_score = last[1], last[2]
end
if string.sub(letters, 1, 1) == 'l' then start = math.max(start, count_expired(waiting)) end
if start >= stop then return {{has_values and {} or nil}} end

local items = redis.call('ZRANGE', waiting, start, math.min(start + limit, stop) - 1)
local count, last_item = #items, items[#items]
local rows = of_interest(items)
if has_values then rows[#rows + 1] = values_of(rows, 1, KEYS[#KEYS]) end
if start + count >= stop then return {rows} end
return {rows, redis.call('ZSCORE', waiting, last_item), last_item, end_score, end_item}
