-- Reserves messages of a queue with partitions, at most one of each partition: first those that were released or whose lease
-- has run out, then new ones, in order.
-- ARGV[1] queue   ARGV[2] consumer   ARGV[3] maximum number of messages   ARGV[4] lease (ms)
-- ARGV[5] number of unsettled deliveries of a suspect   ARGV[6] number of partitions to skip, then these
-- Returns {reserved, pause, last id of Q:hint}, see poll.lua.

local queue, consumer, max, lease, suspect = filled(1), filled(2), whole(3), whole(4), whole(5)
local skip = {}
ends_at(7 + whole(6))
for at = 7, COUNT do skip[ARGV[at]] = true end
move_due(queue)

local reserved, met = {}, false
local all = partitions_of(queue)
-- Another partition goes first each time, so that each gets its turn.
local first = now_ms() % #all
local paused = call('EXISTS', key(queue, 'paused')) == 1
for i = 1, paused and 0 or #all do
  local partition = all[(first + i) % #all + 1]
  if #reserved < max and not met and not skip[partition] then
    local stream, before = stream_of(queue, partition), #reserved
    met = take_over(stream, partition, consumer, 1, lease, suspect, reserved)
    if #reserved == before and not met then
      local read = call('XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
      if read then
        local entry = read[1][2][1]
        local attempts, bytes = content(entry)
        reserved[#reserved + 1] = { partition, entry[1], 1, attempts, bytes }
      end
    end
  end
end

local hint = '0-0'
local info = try('XINFO', 'STREAM', key(queue, 'hint'))
if not info.err then
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then hint = info[i + 1] end
  end
end
return { reserved, until_due(queue), hint }
