-- Takes dead letters out, and throws them away or puts them back into their queue, their attempts at zero.
-- ARGV[1] queue   ARGV[2] 'drop' | 'requeue'   ARGV[3…] ids of letters, MOST of them at most
-- Returns {done, count}: how many of the ids were worked through, and how many of these were letters.

local queue, how = ARGV[1], ARGV[2]
local count, bytes = 0, 0
for i = 3, #ARGV do
  local id = ARGV[i]
  if how == 'requeue' then
    local packed = redis.call('HGET', key(queue, 'bodies'), id)
    if packed then
      local lane, envelope = cmsgpack.unpack(packed)
      append(queue, lane, 0, envelope)
      bytes = bytes + #packed
    end
  end
  count = count + redis.call('ZREM', key(queue, 'dead'), id)
  redis.call('HDEL', key(queue, 'letters'), id)
  redis.call('HDEL', key(queue, 'bodies'), id)
  if bytes >= BUDGET then return { i - 2, count } end
end
return { #ARGV - 2, count }
