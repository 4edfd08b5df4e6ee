-- What `packing` packed: two lists.
-- include packing
local function unpacked(packed)
    if cmsgpack_there then return cmsgpack.unpack(packed) end
    local count, lengths, text = string.match(packed, '^(%d+)([^\n]*)\n(.*)$')
    local rows, found, start = {}, {}, 1
    for length in string.gmatch(lengths, '%S+') do
        length = tonumber(length)
        local list = #rows < tonumber(count) and rows or found
        list[#list + 1] = length >= 0 and string.sub(text, start, start + length - 1)
        start = start + math.max(length, 0)
    end
    return rows, found
end
