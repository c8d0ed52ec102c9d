-- One dead letter.
-- ARGV[1] queue   ARGV[2] id of the letter
-- Returns {died at (ms), why and after how many attempts (as the client wrote it), envelope}, or nil.

local queue, id = ARGV[1], ARGV[2]
local died = redis.call('ZSCORE', key(queue, 'dead'), id)
local packed = redis.call('HGET', key(queue, 'bodies'), id)
if not died or not packed then return nil end
local _, envelope = cmsgpack.unpack(packed)
return { tonumber(died), redis.call('HGET', key(queue, 'letters'), id) or '', envelope }
