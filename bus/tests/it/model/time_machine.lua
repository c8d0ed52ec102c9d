-- Lets time pass on a bus: makes all that it keeps older.
-- KEYS[1] the prefix of its keys
-- ARGV[1] how much time (ms)   ARGV[2] number of queues, then their names, then every deduplication key in use

local passed, queues = tonumber(ARGV[1]), tonumber(ARGV[2])

local function age_leases(stream)
  local pending = redis.pcall('XPENDING', stream, 'workers', '-', '+', 1000)
  if pending.err then return end
  for _, pending_entry in ipairs(pending) do
    local entry, owner, idle, count = pending_entry[1], pending_entry[2], pending_entry[3], pending_entry[4]
    redis.call('XCLAIM', stream, 'workers', owner, 0, entry, 'IDLE', idle + passed, 'RETRYCOUNT', count, 'JUSTID')
  end
end

for q = 3, 2 + queues do
  local queue = KEYS[1] .. ARGV[q] .. ':'
  age_leases(queue .. 'ready')
  for _, partition in ipairs(redis.call('SMEMBERS', queue .. 'partitions')) do age_leases(queue .. 'partition:' .. partition) end
  for _, member in ipairs(redis.call('ZRANGE', queue .. 'delayed', 0, -1)) do
    redis.call('ZINCRBY', queue .. 'delayed', -passed, member)
  end
  for k = 3 + queues, #ARGV do
    local key = queue .. 'key:' .. ARGV[k]
    local left = redis.call('PTTL', key)
    -- One that is left no time is deleted.
    if left >= 0 then redis.call('PEXPIRE', key, left - passed) end
  end
end
