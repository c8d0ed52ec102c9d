-- Reads the state of a queue.
-- ARGV[1] queue
-- Returns {{ready, in flight, delayed, dead}, {1 when it is paused, time (ms) since the oldest message that is ready or in flight
-- became ready or -1, time (ms) since a delayed message last became ready late or -1},
-- {finished in the last whole minute, finished in this minute, seconds of this minute}, size of its messages in bytes}.

local queue = filled(1)
ends_at(2)
local now = now_ms()
local total, in_flight, oldest = 0, 0, nil

for _, partition in ipairs(partitions_of(queue)) do
  local stream = stream_of(queue, partition)
  total = total + call('XLEN', stream)
  local pending = try('XPENDING', stream, GROUP)
  if not pending.err and pending[1] > 0 then
    for _, owner in ipairs(pending[4]) do
      if owner[1] ~= NOBODY then in_flight = in_flight + tonumber(owner[2]) end
    end
  end
  local first = call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if first then oldest = math.min(oldest or math.huge, (parts(first[1]))) end
end

local late = tonumber(call('GET', key(queue, 'late')) or nil)
local function ago(ms)
  return ms and math.max(0, now - ms) or -1
end

local function finished(minute)
  return tonumber(call('GET', key(queue, 'done:' .. minute)) or 0)
end

local _, keys = waiting(queue)
local minute = math.floor(now / 60000)
return {
  { total - in_flight, in_flight, call('ZCARD', key(queue, 'delayed')), call('ZCARD', key(queue, 'dead')) },
  { call('EXISTS', key(queue, 'paused')), ago(oldest), ago(late) },
  { finished(minute - 1), finished(minute), math.floor(now / 1000) % 60 },
  bytes_of(keys),
}
