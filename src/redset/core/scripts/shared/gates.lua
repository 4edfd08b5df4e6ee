-- The pause and the limits of a set, and what they let a claim have. Needs the clock, `meta` and `leased`.
-- The field `gate` of `meta` is "level at pause rate per burst leases", with 0 for what is not limited:
--   level, at: the rate is a leaky bucket. It held `level` claims at the time `at`, and leaks `rate` of them in `per` seconds.
--       A claim fits if the bucket then holds `burst` claims at most. So any t seconds have at most burst + t * rate / per claims.
--   pause: the time at which it ends, -1 if it has no end           leases: how many there may be at once
-- A set without pause, rate and limit of leases does not have this field. Nothing takes claims out of the bucket again: if a
-- roll-back did, a claim could leave it, leak out of it, and still be under way.

-- WHEN NEEDED: gates

-- Reads the field for a claim of `wanted` items, of which `permits` is what the pause and the rate let it have. Returns nil if another
-- program has written something else there.
local function read_gate(field, wanted, lease)
    local numbers, words = {}, {string.match(field, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')}
    local rest = string.match(field, '^%S+ %S+ (.*)$')
    for i = 1, 7 do
        numbers[i] = tonumber(words[i])
        if not numbers[i] then return nil end
    end
    local level, at, pause, rate, per, burst, leases = unpack(numbers)
    local gate = {
        rest = rest, permits = wanted, pause = pause, rate = rate / per, burst = burst,
        -- Nothing is leased to a claim for good.
        leases = lease > 0 and leases or 0,
    }
    -- After the clock was set back, nothing leaks until it is `at` again.
    gate.behind = math.max(0, at - time)
    gate.level = math.max(0, level - math.max(0, time - at) * gate.rate)
    if gate.pause < 0 or gate.pause > time then
        gate.permits = 0
    elseif gate.rate > 0 then
        gate.permits = math.max(0, math.min(wanted, math.floor(gate.burst - gate.level)))
    end
    return gate
end

-- How many leases the limit still allows. One that has expired is none.
local function free_leases(gate)
    gate.free = math.max(0, gate.leases - redis.call('ZCOUNT', leased, '(' .. clock, '+inf'))
    gate.is_full = gate.free == 0
    return gate.free
end

-- Notes that a claim has got so many items.
local function pass_gate(gate, count)
    if gate.free then gate.is_full = gate.free <= count end
    if gate.rate > 0 then
        gate.level = gate.level + count
        redis.call('HSET', meta, 'gate', string.format('%.17g %s %s', gate.level, clock, gate.rest))
    end
end

-- The moment at which a closed gate opens, infinite if that is not known; nil if it is open. A microsecond is added, since the digits
-- that are left out may be as much as half of one.
local function opens_at(gate)
    if gate.pause < 0 then return math.huge end
    local seconds = gate.pause - time
    if gate.rate > 0 and gate.level > gate.burst - 1 then
        seconds = math.max(seconds, gate.behind + (gate.level + 1 - gate.burst) / gate.rate)
    end
    if gate.is_full then
        local first = redis.call('ZRANGE', leased, '(' .. clock, '+inf', 'BYSCORE', 'LIMIT', '0', '1', 'WITHSCORES')[2]
        seconds = math.max(seconds, tonumber(first or clock) - time)
    end
    return seconds > 0 and time + seconds + 0.000001 or nil
end

-- ALWAYS
