-- Asks whether items are remembered as done. Writes nothing.
-- KEYS: done
-- ARGV: digest, 1 or 0; item, item, ...
-- Returns for each, in order, 1 or 0.
local done, digest = KEYS[1], ARGV[1] == '1'
-- include types
-- include clock
-- include memory

local refusal = wrong_type(done, 'zset')
if refusal then return refusal end

local remembered = are_done(memories_of({unpack(ARGV, 2)}))
for i, is_done in ipairs(remembered) do remembered[i] = is_done and 1 or 0 end
return remembered
