-- Scores of additions that are seconds from now: they become moments by the clock of the server. Needs the time.
-- include expiry
for i = 4 + string.match(ARGV[3], '%l (%d)'), #ARGV, 2 + (keyed and 1 or 0) + (grouped and 1 or 0) do ARGV[i] = moment_in(tonumber(ARGV[i])) end
