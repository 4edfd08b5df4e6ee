-- Rolls back what the caller's last call claimed, if nobody read its reply: all of its rows, or only those at some positions.
-- Whatever it finds, the caller's record then holds this call, so a record of many rows is emptied.
-- KEYS: call waiting leased deliveries parked dead letters meta wake looks
-- KEYS if values: values
-- KEYS if done: done
-- KEYS if grouped: group groups ready resting upcoming busy limits
-- OPTIONS
-- TIME
-- ARGV: number, seen, options; then the positions of the rows, from 1, or none for all
-- Returns the head of the reply that nobody read, see claim.lua; '' if the last call was never executed, or was read.
-- include wakeups
-- include claims
-- include watching if grouped
local claimed = unread and unread.kind ~= 'done'
local refusal = denied('SET')
if claimed then
    refusal = refusal or wrong_type() or find_waiters() or denied((values or grouped) and 'HSETNX') or rare().may_not_move()
end
if refusal then return refusal end

local positions = {}
for i = 4, #ARGV do positions[i - 3] = tonumber(ARGV[i]) end
if claimed then rare().roll_back(#positions > 0 and positions or nil) else free_record() end
if grouped then turns().settle() end
moves().write_totals()
if (requeued or grouped and has_turned_ready) and wake_one then wake_one() end
return answer(unread and unread.head or '')
