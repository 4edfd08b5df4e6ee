-- A place in the order of what waits is a score and an item, whether or not that item is there now. Needs `waiting`.
-- Lua compares strings by the server's locale, a sorted set by their bytes.
local function comes_after(left, right)
    local shorter = math.min(#left, #right)
    for i = 1, shorter do
        local l, r = string.byte(left, i), string.byte(right, i)
        if l ~= r then return l > r end
    end
    return #left > #right
end

-- How many items stand at or before this place in the order: by rank while the item is there, by bisection among
-- the equal scores when it is gone.
local function up_to(score, item)
    if redis.call('ZSCORE', waiting, item) == score then return redis.call('ZRANK', waiting, item) + 1 end
    local low = redis.call('ZCOUNT', waiting, '-inf', '(' .. score)
    local high = redis.call('ZCOUNT', waiting, '-inf', score)
    while low < high do
        local middle = math.floor((low + high) / 2)
        if comes_after(redis.call('ZRANGE', waiting, middle, middle)[1], item) then
            high = middle
        else
            low = middle + 1
        end
    end
    return low
end

-- How many items stand before this place.
local function before(score, item)
    local count = up_to(score, item)
    return redis.call('ZSCORE', waiting, item) == score and count - 1 or count
end

-- How many items have a score that is too low for this bound, which is written as for ZCOUNT.
local function below(bound)
    local exclusive = string.match(bound, '^%((.*)$')
    return redis.call('ZCOUNT', waiting, '-inf', exclusive or '(' .. bound)
end
