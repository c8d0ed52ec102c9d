-- Takes messages from a queue with partitions, at most one of each partition: first what was released or whose lease ran out, then
-- new ones, in order.
-- ARGV[1] queue   ARGV[2] consumer   ARGV[3] most messages   ARGV[4] lease (ms)
-- ARGV[5] how many deliveries make a suspect   ARGV[6] number of partitions that are not to be taken from, then these
-- Returns {taken, pause, last id of Q:hint}, see look.lua.

local queue, consumer, max, lease, suspect = filled(1), filled(2), whole(3), whole(4), whole(5)
local skip = {}
ends_at(7 + whole(6))
for at = 7, COUNT do skip[ARGV[at]] = true end
move_due(queue)

local taken, met = {}, false
local all = partitions_of(queue)
-- Another partition goes first each time, so that none is passed over for ever.
local first = now_ms() % #all
local paused = call('EXISTS', key(queue, 'paused')) == 1
for i = 1, paused and 0 or #all do
  local partition = all[(first + i) % #all + 1]
  if #taken < max and not met and not skip[partition] then
    local stream, before = stream_of(queue, partition), #taken
    met = take_over(stream, partition, consumer, 1, lease, suspect, taken)
    if #taken == before and not met then
      local read = call('XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
      if read then
        local entry = read[1][2][1]
        local attempts, bytes = content(entry)
        taken[#taken + 1] = { partition, entry[1], 1, attempts, bytes }
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
return { taken, until_due(queue), hint }
