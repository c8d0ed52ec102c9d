-- Walks over the messages that are ready or held, in the order in which they became ready, and reads them or throws
-- away those that no worker holds.
-- ARGV[1] queue   ARGV[2] 'read' | 'drop'   ARGV[3] id of the only message that is meant (16 bytes), or ''
-- ARGV[4] most messages that are wanted   ARGV[5] entry and ARGV[6] partition to go on after, or ''
-- Returns {entry, partition, count, found}: where it ended (the entry is '' when there is nothing more), how many messages
-- were read or thrown away, and for 'read' {'held' or 'ready', ready since (ms), attempts, envelope} each.

local queue, how, id = filled(1), one_of(2, { read = true, drop = true }), message_id(3)
local wanted, after, after_partition = whole(4), place_of(5, is_entry), given(6)
ends_at(7)

-- The next entry of each partition.
local heads = {}

local function read_head(partition, from)
  heads[partition] = call('XRANGE', stream_of(queue, partition), from, '+', 'COUNT', 1)[1]
end

for _, partition in ipairs(partitions_of(queue)) do
  -- Entries of different partitions may have the same number.
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
while count < wanted and visited < MOST and bytes < BUDGET do
  local partition, since = oldest_partition()
  if not partition then return { '', '', count, found } end
  local stream, entry = stream_of(queue, partition), heads[partition]
  after, after_partition = entry[1], partition
  local attempts, envelope = content(entry)
  visited = visited + 1
  bytes = bytes + #envelope
  if has_id(envelope, id) then
    local held, taken = held_by_worker(stream, entry[1])
    if how == 'read' then
      found[#found + 1] = { held and 'held' or 'ready', since, attempts + taken, envelope }
      count = count + 1
    elseif not held then
      call('XACK', stream, GROUP, entry[1])
      call('XDEL', stream, entry[1])
      count = count + 1
    end
  end
  read_head(partition, '(' .. entry[1])
end
return { after, after_partition, count, found }
