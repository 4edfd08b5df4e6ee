-- The set's own hash `meta`: the form in which its items are stored, and the totals of what happened to them.

-- Total -> number by which this call increments it. `write_totals` writes them.
local counts = {}

-- An error reply if the set is stored in another form, or nil. `form` and `remembers` are the fields of these names in `meta`.
local function stored_otherwise(form, remembers)
    if form and form ~= layout or done and remembers and remembers ~= memory then
        return redis.error_reply('LAYOUT ' .. (form or layout) .. ', ' .. (remembers or memory) .. '; ' .. layout .. ', ' .. memory)
    end
end

-- WHEN NEEDED: moves

-- Notes the form in which the set is stored, with its first item.
local function write_form()
    redis.call('HSET', meta, 'layout', layout)
    if done then redis.call('HSET', meta, 'remembers', memory) end
end

local function count(total, number)
    counts[total] = (counts[total] or 0) + number
end

-- Writes what was counted. A full server takes it in behind the first write, which frees memory. What another program wrote into
-- `meta` fails no call that has changed something by now.
local function write_totals()
    for total, number in pairs(counts) do
        if number > 0 then redis.pcall('HINCRBY', meta, total, number) end
    end
end

-- WHEN NEEDED: rare

-- Fields of `meta` that are no totals.
local OTHERS = {}
for _, name in ipairs({'last', 'cleared', 'layout', 'remembers', 'registered', 'minute', 'gate', 'maxsize', 'per_group', 'limited', 'strays', 'scan'}) do OTHERS[name] = true end

-- Notes the totals as they are now, for this minute, and returns whether the server took the minute. If it did not, the claim goes on.
local function write_sample(minute)
    local fields, sample = redis.pcall('HGETALL', meta), {clock}
    for i = 1, #fields, 2 do
        local is_total = not OTHERS[fields[i]] and string.find(fields[i], '^[%l_]+$') and string.find(fields[i + 1], '^%d+$')
        if is_total then sample[#sample + 1] = fields[i] .. ' ' .. fields[i + 1] end
    end
    local is_noted = type(redis.pcall('HSET', meta, 'minute', minute)) ~= 'table'
    redis.pcall('LPUSH', history, table.concat(sample, ' '))
    redis.pcall('LTRIM', history, '0', '59')
    return is_noted
end

-- ALWAYS
