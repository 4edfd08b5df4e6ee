local pack = rawget(_G, 'struct') and struct.pack or string.pack

-- A score as eight bytes that sort as the numbers do: those of a double, with the first bit changed, or all bits if it is negative.
local function sortable(score)
    local number = tonumber(score)
    if number == 0 then number = 0 end
    if pack and number >= 0 then return pack('>d', -1.0 * number) end
    local packed = pack and pack('>d', number)
    if not packed then
        -- A fake server may not pack. These are the bytes of a double, by arithmetic.
        local fraction, exponent = math.frexp(math.abs(number))
        exponent, fraction = exponent + 1022, (2 * fraction - 1) * 2 ^ 52
        if number == 0 or exponent < 1 then
            exponent, fraction = 0, math.abs(number) * 2 ^ 537 * 2 ^ 537
        elseif math.abs(number) == math.huge then
            exponent, fraction = 2047, 0
        end
        local bytes = {math.floor(exponent / 16) + (number < 0 and 128 or 0), exponent % 16 * 16 + math.floor(fraction / 2 ^ 48)}
        for i = 8, 3, -1 do
            bytes[i], fraction = fraction % 256, math.floor(fraction / 256)
        end
        packed = string.char(unpack(bytes))
    end
    local first = string.byte(packed)
    if first < 128 then return string.char(first + 128) .. string.sub(packed, 2) end
    return (string.gsub(packed, '.', function(byte) return string.char(255 - string.byte(byte)) end))
end
