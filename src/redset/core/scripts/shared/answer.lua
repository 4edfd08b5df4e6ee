-- The reply to give where no rows are handed out, after it was recorded. What changed something has written before, and
-- a script that has written once may go on writing on a server that is full.
local function answer(head)
    if call then redis.call('SET', call, number .. ' done 0 ' .. head .. '\n', 'EX', RECORD_LIFE) end
    return head
end
