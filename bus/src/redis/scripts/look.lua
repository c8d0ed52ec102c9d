-- The first half of a reservation from a queue without partitions: everything but the new messages, which the client reads
-- with a plain XREADGROUP in the same exchange.
-- ARGV[1] queue   ARGV[2] consumer   ARGV[3] most messages   ARGV[4] lease (ms)
-- ARGV[5] how many deliveries make a suspect
-- Returns {taken, pause, room, closed}: `taken` holds {partition, entry, delivery, attempts, envelope} each, `pause` is the
-- time in ms until a delayed message is due (-1 for none), `room` is how many new messages may come along (none when a
-- suspect was met: it goes alone, and before them), `closed` is 1 when the queue is paused.

local queue, consumer, max, lease, suspect = filled(1), filled(2), whole(3), whole(4), whole(5)
ends_at(6)
move_due(queue)
if call('EXISTS', key(queue, 'paused')) == 1 then return { {}, -1, 0, 1 } end
local taken = {}
local met = take_over(stream_of(queue, ''), '', consumer, max, lease, suspect, taken)
return { taken, until_due(queue), met and 0 or max - #taken, 0 }
