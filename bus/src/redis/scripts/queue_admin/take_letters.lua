-- Removes dead letters, and drops their messages or makes them ready again with no attempts.
-- ARGV[1] queue   ARGV[2] 'drop' | 'requeue'   ARGV[3] number of dead letters, at most MAX_MESSAGES, then their ids
-- Returns {done, count}: the number of ids that were processed, and the number of these that were dead letters.

local queue, how = filled(1), one_of(2, { drop = true, requeue = true })
ends_at(4 + whole(3))
local ids = {}
for at = 4, COUNT do ids[at - 3] = filled(at) end
local count, bytes = 0, 0
for place, id in ipairs(ids) do
  local packed = how == 'requeue' and call('HGET', key(queue, 'bodies'), id)
  if packed then
    local partition, envelope = read_body(packed)
    append(queue, partition, 0, envelope)
    bytes = bytes + #packed
  end
  -- A dead letter without a body has no message to make ready.
  if how == 'drop' or packed then
    count = count + call('ZREM', key(queue, 'dead'), id)
    call('HDEL', key(queue, 'letters'), id)
    call('HDEL', key(queue, 'bodies'), id)
  end
  if bytes >= MAX_BYTES then return { place, count } end
end
return { #ids, count }
