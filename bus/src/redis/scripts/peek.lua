-- The oldest messages that are ready or in flight.
-- ARGV[1] queue   ARGV[2] most messages
-- Returns their envelopes, lane by lane.

local queue, max = ARGV[1], tonumber(ARGV[2])
local found = {}

local function add(stream)
  if #found >= max then return end
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', max - #found)) do
    local _, bytes = content(entry)
    found[#found + 1] = bytes
  end
end

add(key(queue, 'ready'))
for _, lane in ipairs(redis.call('SMEMBERS', key(queue, 'lanes'))) do add(key(queue, 'lane:' .. lane)) end
return found
