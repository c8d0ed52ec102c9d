-- Walks over the delayed messages in the order in which they are due, and reads them, drops them or makes them ready now.
-- ARGV[1] queue   ARGV[2] 'read' | 'drop' | 'requeue'   ARGV[3] id of the selected message (16 bytes), or '' for all
-- ARGV[4] maximum number of messages
-- ARGV[5] due time to go on from, and ARGV[6] number of messages of that very time that were passed already, or ''
-- Returns {due time, passed, count, found}: the place at which it ended (the time is '' at the end), the number of messages
-- that were read or changed, and for 'read' {'delayed', due (ms), attempts, envelope} of each.

local queue, how = filled(1), one_of(2, { read = true, drop = true, requeue = true })
local id, wanted, from, passed = message_id(3), whole(4), place_of(5, tonumber), tonumber(place_of(6, tonumber)) or 0
ends_at(7)
local delayed = key(queue, 'delayed')
if from == '' then from = '-inf' end

local count, found, visited, bytes = 0, {}, 0, 0
while count < wanted and visited < MAX_MESSAGES and bytes < MAX_BYTES do
  local next = call('ZRANGEBYSCORE', delayed, from, '+inf', 'WITHSCORES', 'LIMIT', passed, 1)
  local member, due = next[1], next[2]
  if not member then return { '', '', count, found } end
  if due ~= from then from, passed = due, 0 end
  local partition, attempts, envelope = read_delayed(member)
  visited = visited + 1
  bytes = bytes + #envelope
  local meant = has_id(envelope, id)
  if meant then
    count = count + 1
    if how == 'read' then found[#found + 1] = { 'delayed', tonumber(due), attempts, envelope } end
    if how ~= 'read' then call('ZREM', delayed, member) end
    if how == 'requeue' then append(queue, partition, attempts, envelope) end
  end
  if how == 'read' or not meant then passed = passed + 1 end
end
return { from, tostring(passed), count, found }
