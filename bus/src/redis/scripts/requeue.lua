-- Puts a dead letter back into its queue, its attempts at zero.
-- ARGV[1] queue   ARGV[2] id of the letter
-- Returns 1, or 0 when there is no such letter.

local queue, id = ARGV[1], ARGV[2]
local packed = redis.call('HGET', key(queue, 'bodies'), id)
if not packed then return 0 end
local lane, bytes = cmsgpack.unpack(packed)
append(queue, lane, 0, bytes)
redis.call('ZREM', key(queue, 'dead'), id)
redis.call('HDEL', key(queue, 'letters'), id)
redis.call('HDEL', key(queue, 'bodies'), id)
return 1
