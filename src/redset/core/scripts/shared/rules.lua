-- What a set was made with, as far as finishing and handing out depend on it. Needs `options`, which end in
-- "keyed remember digest interval", and `values` and `done`: the keys of a set that is keyed, periodic or remembers, of
-- which those that its kind does not use are nil from here on.
local keyed, remember, digest, interval = false, nil, nil, nil
if values then
    keyed, remember, digest, interval = string.match(options, '(%d) (%S+) (%d) (%S+)$')
    keyed, remember, digest, interval = keyed == '1', tonumber(remember), digest == '1', tonumber(interval)
    if interval == 0 then interval = nil end
    if not (keyed or interval) then values = nil end
    if remember == 0 then done = nil end
end
