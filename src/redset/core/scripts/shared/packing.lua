-- Two lists of strings, of which the second may have false in it, as one string. A server packs in C; where there is no
-- cmsgpack, they stand one behind the other after their lengths.
local cmsgpack_there = rawget(_G, 'cmsgpack')

local function pack(rows, found)
    if cmsgpack_there then return cmsgpack.pack(rows, found) end
    local lengths, texts = {#rows}, {}
    for _, list in ipairs({rows, found}) do
        for i = 1, #list do
            lengths[#lengths + 1] = list[i] and #list[i] or -1
            texts[#texts + 1] = list[i] or ''
        end
    end
    return table.concat(lengths, ' ') .. '\n' .. table.concat(texts)
end
