-- Scores of additions that are seconds from now: they become moments by the clock of the server. Needs the time.
-- include expiry
for i = 4 + string.match(ARGV[3], '%d$'), #ARGV, keyed and 3 or 2 do ARGV[i] = moment_in(tonumber(ARGV[i])) end
