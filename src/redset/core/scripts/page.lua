-- Reads one page of what waits, in order or in reverse. Writes nothing, so that it works on a replica.
--
-- A page starts behind the last place seen, wherever its item stands by now, and ends at the place that was last when
-- the reading began: so an item that stays is read exactly once whatever others do, and the reading ends.
--
-- Having a script hand on many items takes the server several times as long as giving them itself. So where scores
-- differ enough, a page marks scores ahead. Between two marks are about a page's items, which a plain ZRANGE reads: what
-- stays is between the same two marks whatever others do.
-- KEYS: waiting
-- KEYS if keyed: values
-- TIME
-- ARGV: how many at most; 'forward', 'backward', or 'living': forward, without what lives no more, in a set whose scores say
--       until when; 'items' or 'scores'; how many marks, none for what lives; how many items to a mark; then for the first
--       page the lowest and the highest score, as ZCOUNT takes them; for others the place seen last and the place to end
--       with, each a score and an item; the first may be '(score' and '': all of that score
-- Returns nothing when there is nothing more; else rows, the score of the last one, the score and item to end with, and
-- the marks "score score ...".
--   rows: item; with scores item, score; on keyed sets behind them a list of the value of each, or nil
--   Rows of items alone come as one string, a line each, where no item has an end of line: that is cheaper.
local limit, forward, with_scores = tonumber(ARGV[1]), ARGV[2] ~= 'backward', ARGV[3] == 'scores'
local marks, marked = tonumber(ARGV[4]), tonumber(ARGV[5])
-- include values
-- include places
-- include expiry

local refusal = wrong_type()
if refusal then return refusal end

-- How many items have this score or a lower one.
local function up_to_score(score)
    return redis.call('ZCOUNT', waiting, '-inf', score)
end

-- The places to read are those of the ranks from `first` up to before `behind`.
local expired = ARGV[2] == 'living' and count_expired(waiting) or 0
local first, behind, end_score, end_item
if not ARGV[8] then
    first, behind = math.max(expired, below(ARGV[6])), up_to_score(ARGV[7])
    if first >= behind or limit == 0 then return {} end
    local final = forward and behind - 1 or first
    local last = redis.call('ZRANGE', waiting, final, final, 'WITHSCORES')
    end_item, end_score = last[1], last[2]
else
    local seen_score, seen_item = ARGV[6], ARGV[7]
    end_score, end_item = ARGV[8], ARGV[9]
    local whole = string.match(seen_score, '^%((.*)$')
    if forward then
        first = math.max(expired, whole and up_to_score(whole) or up_to(seen_score, seen_item))
        behind = up_to(end_score, end_item)
    else
        first, behind = before(end_score, end_item), whole and up_to_score(seen_score) or before(seen_score, seen_item)
    end
    if first >= behind then return {} end
end

local count = math.min(limit, behind - first)
local options = with_scores and {'WITHSCORES'} or {}
local found
if forward then
    found = redis.call('ZRANGE', waiting, first, first + count - 1, unpack(options))
else
    local from = redis.call('ZCARD', waiting) - behind
    found = redis.call('ZREVRANGE', waiting, from, from + count - 1, unpack(options))
end

-- Scores ahead of this page with about `marked` items from one to the next, and all before the end.
local function mark(seen_score)
    local made = {}
    -- How many places lie before what is still to be read, or else how many are to be read.
    local passed = forward and first + count or behind - count
    if passed ~= up_to_score(forward and seen_score or '(' .. seen_score) then return '' end
    while #made < marks do
        local at = forward and passed + marked - 1 or passed - marked
        if at < first or at >= behind then break end
        local score = redis.call('ZRANGE', waiting, at, at, 'WITHSCORES')[2]
        local passes = up_to_score(forward and score or '(' .. score)
        if score == end_score or math.abs(passes - passed) > 2 * marked then break end
        made[#made + 1], passed = score, passes
    end
    return table.concat(made, ' ')
end

local last_score = with_scores and found[#found] or redis.call('ZSCORE', waiting, found[#found])
if values then
    found[#found + 1] = values_of(found, with_scores and 2 or 1, values)
elseif not (with_scores or string.find(table.concat(found), '\n', 1, true)) then
    found = table.concat(found, '\n')
end
return {found, last_score, end_score, end_item, marks > 0 and mark(last_score) or ''}
