-- Makes a call safe to be sent twice; docs/protocol.md tells how and proves it. Needs `call`, the key of the caller's record.
-- ARGV[1] is the number of this call, ARGV[2] that of the last call whose outcome the caller knows, both of sixteen digits. A
-- lone 0 is for a caller that keeps no record.
-- A record is "number kind cleared head\n". Behind it stand the rows of a claim, packed; its kind is `taken` or `leased`, that of
-- other calls `done`. `cleared` is the number of the last clear() then. `repeated` is the record of this call if it claimed rows
-- before; `unread` is the record of the last call if nobody read its reply.
-- include rights
local RECORD_LIFE = '600'
local number, repeated, unread = ARGV[1], nil, nil
if number == '0' then call = nil end

-- Reads the caller's record. Returns a reply that ends this call: the one that it had before, or an error.
local function read_record()
    local last = call and redis.pcall('GETRANGE', call, '0', '15') or ''
    if type(last) == 'table' then return wrong_type() or last end
    if last <= ARGV[2] then return nil end
    if last > number then return redis.error_reply('STALE a newer call of this caller was served already') end
    local kind, cleared, head, packed = string.match(redis.call('GET', call), '^%d+ (%S+) (%S+) ([^\n]*)\n(.*)$')
    if kind == 'done' and last == number then return head end
    local record = {kind = kind, cleared = tonumber(cleared), head = head, packed = packed}
    if last == number then repeated = record else unread = record end
end

-- Records the reply of a call that claims nothing, and returns it. Call it after the first write: a full server refuses only that.
local function answer(head)
    if call then redis.call('SET', call, number .. ' done 0 ' .. head .. '\n', 'EX', RECORD_LIFE) end
    return head
end

-- Makes the script one that has written, and may go on writing on a full server: deleting is always allowed.
local function free_record()
    if call then redis.call('DEL', call) end
end

local early = read_record()
if early then return early end
