-- The first half of a reservation from a queue without lanes: everything but the new messages, which the client reads
-- with a plain XREADGROUP in the same exchange.
-- ARGV[1] queue   ARGV[2] consumer   ARGV[3] most messages   ARGV[4] lease (ms)
-- ARGV[5] how many deliveries make a suspect
-- Returns {taken, pause, closed}: `taken` holds {lane, entry, delivery, attempts, envelope} each, `pause` is the time in
-- ms until a delayed message is due (-1 for none), `closed` is 1 when no new messages may be taken.

local queue = ARGV[1]
move_due(queue)
if redis.call('EXISTS', key(queue, 'paused')) == 1 then return { {}, -1, 1 } end
local taken = {}
take_over(stream_of(queue, ''), '', ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), taken)
return { taken, until_due(queue), 0 }
