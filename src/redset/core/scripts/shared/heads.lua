-- Puts the score of the next item that can be claimed behind the deadline in the head of a claim's reply: "deadline/score". A set
-- over several shards chooses by it the shard to claim from next.
local answer_without_head = answer_claim
local function answer_claim(kind, beginning, rest, rows, found, undo)
    local head = next_rows(1)[2] or 'inf'
    return answer_without_head(kind, beginning, (string.gsub(rest, '^%S+', '%0/' .. head)), rows, found, undo)
end
