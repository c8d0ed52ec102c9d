-- Stores messages, all or none, and what is to be recorded with them: not when every message was stored before.
-- ARGV[1…]  messages, see store(); then changes of records, see record().
-- Returns {stored, repeated}, or the name of the queue that is full.

-- What is only recorded is of work that was accepted already, and the way to more memory is that it ends.
if ARGV[1] == '0' then even_when_full() end
local ends, stored, other = store(1, true, true)
if not stored then return other end
record(ends, stored > 0 or other == 0)
return { stored, other }
