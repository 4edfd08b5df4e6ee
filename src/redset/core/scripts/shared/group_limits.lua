-- The limits of groups, and how many leases each has. Needs `meta`, `busy` and `limits`.

-- What each group may have: how many leases, and seconds between two claims of it, 0 for any. A field of `limits` is "leases pause
-- until rests": `-` where the set's limit holds, and when a pause by `pause` ends, -1 if it has no end, and when the group would be
-- ready again without that. `has_own_limits` is nil if there are none. What is read of a group is kept.
local own_limits, live_leases, defaults, has_own_limits = {}, {}, nil, true

-- Group -> how many of its items this call has claimed, which are not in `busy` yet; and whether under a lease.
local claimed_of, under_lease = {}, false

local function read_groups(names)
    local live = redis.call('HMGET', busy, unpack(names))
    local own = has_own_limits and redis.call('HMGET', limits, unpack(names)) or {}
    for i, name in ipairs(names) do
        live_leases[name], own_limits[name] = tonumber(live[i] or nil) or 0, own[i] or false
    end
end

local function limits_of(name)
    if own_limits[name] == nil then read_groups({name}) end
    defaults = defaults or redis.call('HMGET', meta, 'per_group')[1] or '0 0'
    local leases, pause = string.match(defaults, '^(%S+) (%S+)$')
    if own_limits[name] then
        local own_leases, own_pause = string.match(own_limits[name], '^(%S+) (%S+)')
        leases, pause = tonumber(own_leases) or leases, tonumber(own_pause) or pause
    end
    return tonumber(leases) or 0, tonumber(pause) or 0
end

local function leases_of(name)
    if not live_leases[name] then read_groups({name}) end
    return live_leases[name] + (under_lease and claimed_of[name] or 0)
end

local function count_leases(name, change)
    if not live_leases[name] then read_groups({name}) end
    local live = live_leases[name] + change
    live_leases[name] = math.max(0, live)
    if live > 0 then
        redis.call('HSET', busy, name, string.format('%d', live))
    else
        redis.call('HDEL', busy, name)
    end
end
