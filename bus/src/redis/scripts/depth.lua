-- How full a queue is.
-- ARGV[1] queue
-- Returns {ready, in flight, delayed, dead}.

local queue = ARGV[1]
local total, held = 0, 0

local function add(stream)
  total = total + redis.call('XLEN', stream)
  local pending = redis.pcall('XPENDING', stream, GROUP)
  if pending.err or pending[1] == 0 then return end
  for _, owner in ipairs(pending[4]) do
    if owner[1] ~= NOBODY then held = held + tonumber(owner[2]) end
  end
end

add(key(queue, 'ready'))
for _, lane in ipairs(redis.call('SMEMBERS', key(queue, 'lanes'))) do add(key(queue, 'lane:' .. lane)) end
return { total - held, held, redis.call('ZCARD', key(queue, 'delayed')), redis.call('ZCARD', key(queue, 'dead')) }
