-- The first half of a reservation from a queue without partitions: all but new messages, which the client reads with a plain
-- XREADGROUP in the same exchange.
-- ARGV[1] queue   ARGV[2] consumer   ARGV[3] maximum number of messages   ARGV[4] lease (ms)
-- ARGV[5] number of unsettled deliveries of a suspect
-- Returns {reserved, pause, room, closed}: `reserved` has {partition, entry, delivery, attempts, envelope} for each message,
-- `pause` is the time in ms until a delayed message is due (-1 for none), `room` is the number of new messages that may be
-- delivered with these (0 beside a suspect, which is delivered alone and before them), `closed` is 1 when the queue is paused.

local queue, consumer, max, lease, suspect = filled(1), filled(2), whole(3), whole(4), whole(5)
ends_at(6)
move_due(queue)
if call('EXISTS', key(queue, 'paused')) == 1 then return { {}, -1, 0, 1 } end
local reserved = {}
local met = take_over(stream_of(queue, ''), '', consumer, max, lease, suspect, reserved)
return { reserved, until_due(queue), met and 0 or max - #reserved, 0 }
