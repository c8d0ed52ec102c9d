-- Stores messages, all or none.
-- ARGV[1…]  messages, see store().
-- Returns {stored, repeated}, or the name of the queue that is full.

local stored, repeated = store(1, true)
if not stored then return repeated end
return { stored, repeated }
