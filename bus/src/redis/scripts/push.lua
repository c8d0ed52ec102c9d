-- Stores messages, all or none.
-- ARGV[1…]  messages, see store().
-- Returns {stored, repeated}, or the name of the queue that is full.

local _, stored, other = store(1, true, true)
if not stored then return other end
return { stored, other }
