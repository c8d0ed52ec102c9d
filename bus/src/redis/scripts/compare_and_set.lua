-- Changes records, if the first change, a 'swap', finds the expected value.
-- ARGV[1]  changes of records, see check_updates()
-- Returns 1, or 0 when it found another value, or the error of a key of a wrong type. Only with 1 was something changed.

ends_at(check_updates(1))
local FIRST = 6
if numbers[ARGV[1]] == 0 or numbers[ARGV[FIRST - 1]] == 0 or ARGV[FIRST] ~= 'swap' then refuse(FIRST, "'swap'") end

local wrong = unfit_updates(1)
if wrong then return wrong end
-- Updates without messages are of accepted work, and memory is freed when that is done.
even_when_full()
local kept, field, expected = record_key(ARGV[2], ARGV[3]), ARGV[FIRST + 2], ARGV[FIRST + 3]
if (call('HGET', kept, field) or '') ~= expected then return 0 end
record(1)
write_indexes()
return 1
