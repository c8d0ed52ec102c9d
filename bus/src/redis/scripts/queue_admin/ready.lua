-- Walks over the messages that are ready or in flight, in the order in which they became ready, and reads them or drops those
-- that are ready.
-- ARGV[1] queue   ARGV[2] 'read' | 'drop'   ARGV[3] id of the selected message (16 bytes), or '' for all
-- ARGV[4] maximum number of messages   ARGV[5] entry and ARGV[6] partition to go on after, or ''
-- Returns {entry, partition, count, found}: the place at which it ended (the entry is '' at the end), the number of messages
-- that were read or dropped, and for 'read' {'in flight' or 'ready', ready since (ms), attempts, envelope} of each.

local queue, how, id = filled(1), one_of(2, { read = true, drop = true }), message_id(3)
local wanted, after, after_partition = whole(4), place_of(5, is_entry), given(6)
ends_at(7)

-- The next entry of each partition.
local heads = {}

local function read_head(partition, from)
  heads[partition] = call('XRANGE', stream_of(queue, partition), from, '+', 'COUNT', 1)[1]
end

for _, partition in ipairs(partitions_of(queue)) do
  -- Entries of different partitions may have the same id.
  if after == '' then
    read_head(partition, '-')
  else
    read_head(partition, partition <= after_partition and '(' .. after or after)
  end
end

local function oldest_partition()
  local oldest, ms, number
  for partition, entry in pairs(heads) do
    local its_ms, its_number = parts(entry[1])
    local older = not oldest or its_ms < ms
      or its_ms == ms and (its_number < number or its_number == number and partition < oldest)
    if older then oldest, ms, number = partition, its_ms, its_number end
  end
  return oldest, ms
end

local count, found, visited, bytes = 0, {}, 0, 0
while count < wanted and visited < MAX_MESSAGES and bytes < MAX_BYTES do
  local partition, since = oldest_partition()
  if not partition then return { '', '', count, found } end
  local stream, entry = stream_of(queue, partition), heads[partition]
  after, after_partition = entry[1], partition
  local attempts, envelope = content(entry)
  visited = visited + 1
  bytes = bytes + #envelope
  if has_id(envelope, id) then
    local in_flight, delivered = is_in_flight(stream, entry[1])
    if how == 'read' then
      found[#found + 1] = { in_flight and 'in flight' or 'ready', since, attempts + delivered, envelope }
      count = count + 1
    elseif not in_flight then
      call('XACK', stream, GROUP, entry[1])
      call('XDEL', stream, entry[1])
      count = count + 1
    end
  end
  read_head(partition, '(' .. entry[1])
end
return { after, after_partition, count, found }
