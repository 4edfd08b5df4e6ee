-- Two lists, one of strings and one of strings, numbers and false, as one string. A server packs in C; where there is no
-- cmsgpack, they stand one behind the other after their lengths, numbers as strings.
local cmsgpack_there = rawget(_G, 'cmsgpack')

local function pack(rows, found)
    if cmsgpack_there then return cmsgpack.pack(rows, found) end
    local lengths, texts = {#rows}, {}
    for _, list in ipairs({rows, found}) do
        for i = 1, #list do
            local text = list[i]
            if type(text) == 'number' then text = string.format('%.17g', text) end
            lengths[#lengths + 1] = text and #text or -1
            texts[#texts + 1] = text or ''
        end
    end
    return table.concat(lengths, ' ') .. '\n' .. table.concat(texts)
end
