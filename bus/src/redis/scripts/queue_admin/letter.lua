-- Reads one dead letter.
-- ARGV[1] queue   ARGV[2] id of the dead letter
-- Returns {time (ms), description as the client wrote it, envelope}, or nil.

local queue, id = filled(1), filled(2)
ends_at(3)
local died = call('ZSCORE', key(queue, 'dead'), id)
local packed = call('HGET', key(queue, 'bodies'), id)
if not died or not packed then return nil end
local _, envelope = read_body(packed)
return { tonumber(died), call('HGET', key(queue, 'letters'), id) or '', envelope }
