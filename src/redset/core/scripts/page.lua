-- Reads one page of what waits, in order or in reverse. Writes nothing, so that it works on a replica.
--
-- A page starts behind the last place seen, wherever its item stands by now, and ends at the place that was last when
-- the reading began: so an item that stays is read exactly once whatever others do, and the reading ends.
-- KEYS: waiting; on keyed sets values
-- ARGV: how many at most; 'forward' or 'backward'; 'items' or 'scores'; then for the first page the lowest and the highest
--       score, as ZCOUNT takes them; for others the score and item seen last, and the score and item to end with
-- Returns nothing when there is nothing more; else rows, the score of the last one, and the score and item to end with.
--   rows: item; with scores item, score; on keyed sets behind them a list of the value of each, or nil
--   Rows of items alone come as one string, a line each, where no item has an end of line: that is far cheaper.
local waiting, values = unpack(KEYS)
local limit, forward, with_scores = tonumber(ARGV[1]), ARGV[2] == 'forward', ARGV[3] == 'scores'
-- include types
-- include values
-- include places

local refusal = wrong_type(waiting, 'zset')
if values then refusal = refusal or wrong_type(values, 'hash') end
if refusal then return refusal end

-- The places to read are those of the ranks from `first` up to before `behind`.
local first, behind, end_score, end_item
if not ARGV[6] then
    first, behind = below(ARGV[4]), redis.call('ZCOUNT', waiting, '-inf', ARGV[5])
    if first >= behind or limit == 0 then return {} end
    local last = redis.call('ZRANGE', waiting, forward and behind - 1 or first, forward and behind - 1 or first, 'WITHSCORES')
    end_item, end_score = last[1], last[2]
else
    end_score, end_item = ARGV[6], ARGV[7]
    if forward then
        first, behind = up_to(ARGV[4], ARGV[5]), up_to(end_score, end_item)
    else
        first, behind = before(end_score, end_item), before(ARGV[4], ARGV[5])
    end
    if first >= behind then return {} end
end

local options = with_scores and {'WITHSCORES'} or {}
local found
if forward then
    found = redis.call('ZRANGE', waiting, first, math.min(first + limit, behind) - 1, unpack(options))
else
    local count = redis.call('ZCARD', waiting)
    found = redis.call('ZREVRANGE', waiting, count - behind, math.min(count - behind + limit, count - first) - 1, unpack(options))
end
if #found == 0 then return {} end
local last_score = with_scores and found[#found] or redis.call('ZSCORE', waiting, found[#found])
if values then
    found[#found + 1] = values_of(column(found, with_scores and 2 or 1, 1))
elseif not (with_scores or string.find(table.concat(found), '\n', 1, true)) then
    found = table.concat(found, '\n')
end
return {found, last_score, end_score, end_item}
