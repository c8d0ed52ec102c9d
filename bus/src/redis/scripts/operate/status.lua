-- How a queue is doing.
-- ARGV[1] queue
-- Returns {{ready, in flight, delayed, dead}, {1 when it is paused, age (ms) of the oldest ready or held message or -1},
-- {finished in the last whole minute, finished in this minute, seconds of this minute}}.

local queue = ARGV[1]
local now = now_ms()
local total, held, oldest = 0, 0, nil

for _, lane in ipairs(lanes_of(queue)) do
  local stream = stream_of(queue, lane)
  total = total + redis.call('XLEN', stream)
  local pending = redis.pcall('XPENDING', stream, GROUP)
  if not pending.err and pending[1] > 0 then
    for _, owner in ipairs(pending[4]) do
      if owner[1] ~= NOBODY then held = held + tonumber(owner[2]) end
    end
  end
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if first then oldest = math.min(oldest or math.huge, (parts(first[1]))) end
end

local function finished(minute)
  return tonumber(redis.call('GET', key(queue, 'done:' .. minute)) or 0)
end

local minute = math.floor(now / 60000)
return {
  { total - held, held, redis.call('ZCARD', key(queue, 'delayed')), redis.call('ZCARD', key(queue, 'dead')) },
  { redis.call('EXISTS', key(queue, 'paused')), oldest and math.max(0, now - oldest) or -1 },
  { finished(minute - 1), finished(minute), math.floor(now / 1000) % 60 },
}
