-- Takes dead letters out, and throws them away or puts them back into their queue, their attempts at zero.
-- ARGV[1] queue   ARGV[2] 'drop' | 'requeue'   ARGV[3] number of letters, MOST of them at most, then their ids
-- Returns {done, count}: how many of the ids were worked through, and how many of these were letters.

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
  -- A letter whose body is gone has nothing to put back.
  if how == 'drop' or packed then
    count = count + call('ZREM', key(queue, 'dead'), id)
    call('HDEL', key(queue, 'letters'), id)
    call('HDEL', key(queue, 'bodies'), id)
  end
  if bytes >= BUDGET then return { place, count } end
end
return { #ids, count }
