-- Ends a reservation in one step with what it sends.
-- ARGV[1] queue   ARGV[2] lane   ARGV[3] entry   ARGV[4] consumer   ARGV[5] delivery
-- ARGV[6] 'done' | 'retry' | 'defer' | 'dead' | 'release'
-- ARGV[7] retry, defer: the wait (ms)   ARGV[8] dead: the letter's id   ARGV[9] dead: why, and after how many attempts
-- ARGV[10…] messages, see store()
-- Returns 1, or 0 when the lease is lost; then nothing was written.

local queue, lane, entry, consumer, delivery = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local how = ARGV[6]
local stream = stream_of(queue, lane)

if not holds(stream, entry, consumer, delivery) then return 0 end

if how == 'release' then
  -- Idle for a day, so it is taken over at once; the count is set back, so the next delivery has this one's number.
  redis.call('XCLAIM', stream, GROUP, NOBODY, 0, entry, 'IDLE', 86400000, 'RETRYCOUNT', delivery - 1, 'JUSTID')
  hint(queue)
  return 1
end

if how == 'done' then
  local finished = key(queue, 'done:' .. math.floor(now_ms() / 60000))
  -- Read for two minutes at most.
  if redis.call('INCR', finished) == 1 then redis.call('EXPIRE', finished, 180) end
else
  local attempts, bytes = content(redis.call('XRANGE', stream, entry, entry)[1])
  if how == 'retry' then
    delay(queue, lane, attempts + delivery, bytes, entry, tonumber(ARGV[7]))
  elseif how == 'defer' then
    delay(queue, lane, attempts + delivery - 1, bytes, entry, tonumber(ARGV[7]))
  else
    redis.call('ZADD', key(queue, 'dead'), now_ms(), ARGV[8])
    redis.call('HSET', key(queue, 'letters'), ARGV[8], ARGV[9])
    redis.call('HSET', key(queue, 'bodies'), ARGV[8], cmsgpack.pack(lane, bytes))
  end
end
redis.call('XACK', stream, GROUP, entry)
redis.call('XDEL', stream, entry)
store(10, false)
return 1
