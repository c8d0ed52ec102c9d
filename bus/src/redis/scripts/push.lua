-- Stores messages, all or none, and what is to be recorded with them: not when every message was stored before.
-- ARGV[1…]  messages, see store(); then changes of records, see record().
-- Returns {stored, repeated}, or the name of the queue that is full.

local ends, stored, other = store(1, true, true)
if not stored then return other end
record(ends, stored > 0 or other == 0)
return { stored, other }
