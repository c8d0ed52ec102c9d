-- Walks over the delayed messages in the order in which they are due, and reads them, throws them away or makes them
-- ready now.
-- ARGV[1] queue   ARGV[2] 'read' | 'drop' | 'requeue'   ARGV[3] id of the only message that is meant (16 bytes), or ''
-- ARGV[4] most messages that are wanted
-- ARGV[5] due time to go on from, and ARGV[6] how many messages of that very time were passed already, or ''
-- Returns {due time, passed, count, found}: where it ended (the time is '' when there is nothing more), how many
-- messages were read or changed, and for 'read' {'delayed', due (ms), attempts, envelope} each.

local queue, how = filled(1), one_of(2, { read = true, drop = true, requeue = true })
local id, wanted, from, passed = message_id(3), whole(4), place_of(5, tonumber), tonumber(place_of(6, tonumber)) or 0
ends_at(7)
local delayed = key(queue, 'delayed')
if from == '' then from = '-inf' end

local count, found, visited, bytes = 0, {}, 0, 0
while count < wanted and visited < MOST and bytes < BUDGET do
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
