-- The limits of groups, and how many leases each has. Needs `meta`, `busy` and `limits`.

-- What each group may have: how many leases, and seconds between two claims of it, 0 for any. A field of `limits` is "leases pause
-- until rests": `-` where the set's limit holds, and when a pause by `pause` ends, -1 if it has no end, and when the group would be
-- ready again without that. `has_own_limits` is nil if there are none. What is read of a group is kept.
local own_limits, live_leases, defaults, has_own_limits, set_leases, set_pause = {}, {}, nil, true, nil, nil

-- Group -> how many of its items this call has claimed, which are not in `busy` yet; and whether under a lease.
local claimed_of, under_lease = {}, false

-- The number of leases in a field of `busy`, into which any program may write.
local function whole(field)
    local number = tonumber(field or nil) or 0
    return math.abs(number) < 2 ^ 53 and math.floor(number) or 0
end

-- Reads what calls about several groups need, at once.
local function read_groups(names)
    local live = under_lease and redis.call('HMGET', busy, unpack(names)) or {}
    local own = has_own_limits and redis.call('HMGET', limits, unpack(names)) or {}
    for i, name in ipairs(names) do
        live_leases[name], own_limits[name] = under_lease and whole(live[i]), own[i] or false
    end
end

local function limits_of(name)
    if own_limits[name] == nil then read_groups({name}) end
    if not set_leases then
        defaults = defaults or redis.call('HMGET', meta, 'per_group')[1] or '0 0'
        set_leases, set_pause = string.match(defaults, '^(%S+) (%S+)$')
        set_leases, set_pause = tonumber(set_leases) or 0, tonumber(set_pause) or 0
    end
    if not own_limits[name] then return set_leases, set_pause end
    local leases, pause = string.match(own_limits[name], '^(%S+) (%S+)')
    return tonumber(leases) or set_leases, tonumber(pause) or set_pause
end

local function leases_of(name)
    if not live_leases[name] then live_leases[name] = whole(redis.pcall('HMGET', busy, name)[1]) end
    return live_leases[name] + (under_lease and claimed_of[name] or 0)
end

local function count_leases(changes)
    local fields, idle = {}, {}
    for name, change in pairs(changes) do
        local live = leases_of(name) - (under_lease and claimed_of[name] or 0) + change
        live_leases[name] = math.max(0, live)
        if live > 0 then
            fields[#fields + 1], fields[#fields + 2] = name, string.format('%d', live)
        else
            idle[#idle + 1] = name
        end
    end
    if #fields > 0 then redis.call('HSET', busy, unpack(fields)) end
    if #idle > 0 then redis.call('HDEL', busy, unpack(idle)) end
end
