-- Makes changes of records if the first of them, a swap, finds what it expects.
-- ARGV[1]  changes of records, see check_updates()
-- Returns 1, or 0 when it found something else, or why a key is not fit. But for 1, nothing was changed.

ends_at(check_updates(1))
local FIRST = 6
if numbers[ARGV[1]] == 0 or numbers[ARGV[FIRST - 1]] == 0 or ARGV[FIRST] ~= 'swap' then refuse(FIRST, "'swap'") end

local wrong = unfit_updates(1)
if wrong then return wrong end
-- What is only recorded is of work that was accepted already, and the way to more memory is that it ends.
even_when_full()
local kept, field, expected = record_key(ARGV[2], ARGV[3]), ARGV[FIRST + 2], ARGV[FIRST + 3]
if (call('HGET', kept, field) or '') ~= expected then return 0 end
record(1)
write_tags()
return 1
