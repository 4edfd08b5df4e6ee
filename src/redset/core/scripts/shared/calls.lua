-- A call may be sent twice: docs/protocol.md tells how, and why this is enough. Needs `call`, the key of the caller's
-- record. ARGV[1] is the number of this call, ARGV[2] that of the last call whose reply the caller has seen, both of
-- sixteen digits; a lone 0 is for a caller that keeps no record.
-- A record is "number kind cleared head\n" and, where rows were handed out, these, packed; its kind is `taken` or `leased`
-- there, else `done`; `cleared` is the number of the set's last clear() then. `repeated` is the record when this call
-- handed out rows before; `unseen` is that of the last call when its reply was never seen.
-- include types
-- include rights
local RECORD_LIFE = '600'
local number, repeated, unseen = ARGV[1], nil, nil
if number == '0' then call = nil end
local last = call and redis.pcall('GETRANGE', call, '0', '15') or ''
if type(last) == 'table' then return wrong_type(call, 'string') or last end
if last > ARGV[2] then
    if last > number then return redis.error_reply('STALE a newer call of this caller was served already') end
    local kind, cleared, head, packed = string.match(redis.call('GET', call), '^%d+ (%S+) (%S+) ([^\n]*)\n(.*)$')
    if kind == 'done' and last == number then return head end
    local record = {kind = kind, cleared = tonumber(cleared), head = head, packed = packed}
    if last == number then repeated = record else unseen = record end
end
