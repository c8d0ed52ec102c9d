-- Shared by the scripts that write: it is put before each of them.
--
-- KEYS[1]  the prefix of all keys, with its hash tag, such as "{events}:". Every key below starts with it, so all of
--          them are in one slot of a Redis Cluster.
--
-- Keys of a queue Q (after the prefix):
--   Q:ready      stream   messages that can be taken, or are held (consumer group "workers")
--   Q:lane:L     stream   the same for lane L of a queue with lanes
--   Q:lanes      set      the lanes that were ever used
--   Q:delayed    zset     packed messages by the time (ms) at which they become ready
--   Q:hint       stream   one entry, rewritten when something came into a lane: whoever waits for a lane reads it
--   Q:paused     string   while it exists, nothing is taken
--   Q:done:M     string   how many messages ended in minute M since 1970; expires
--   Q:late       string   the time (ms) at which a delayed message was last made ready late; expires
--   Q:dead       zset     ids of dead letters by the time of death (ms)
--   Q:letters    hash     id -> why, and after how many attempts (written by the client)
--   Q:bodies     hash     id -> packed message
--   Q:key:K      string   idempotence key K was seen; expires
--
-- Beside the queues:
--   -taken-from-:C   string   consumer C lost a lease; expires long after C is gone

-- A stream entry has the fields "a" (attempts counted so far, the delivery count of the group comes on top) and "e"
-- (the envelope). Time is Redis's own.

local PREFIX = KEYS[1]
local GROUP = 'workers'
-- Owns what was released: nobody's lease matches it.
local NOBODY = '-released-'

local function key(queue, part)
  return PREFIX .. queue .. ':' .. part
end

local function stream_of(queue, lane)
  if lane == '' then return key(queue, 'ready') end
  return key(queue, 'lane:' .. lane)
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Lets what follows write though Redis has reached its maxmemory: it refuses only the first write of a script, if that
-- needs memory. This one does not, and changes nothing, since no key is named like the prefix.
local function even_when_full()
  redis.call('DEL', PREFIX)
end

local function hint(queue)
  redis.call('XADD', key(queue, 'hint'), 'MAXLEN', 1, '*', 'h', '')
end

local function append(queue, lane, attempts, bytes)
  redis.call('XADD', stream_of(queue, lane), '*', 'a', attempts, 'e', bytes)
  if lane ~= '' then
    redis.call('SADD', key(queue, 'lanes'), lane)
    hint(queue)
  end
end

-- `id` keeps two equal messages apart: members of a sorted set are unique.
local function delay(queue, lane, attempts, bytes, id, after)
  redis.call('ZADD', key(queue, 'delayed'), now_ms() + after, cmsgpack.pack(lane, attempts, id, bytes))
end

-- The fields of a stream entry. Something that is not ours keeps all its bytes and has no envelope.
local function content(entry)
  local fields = entry[2]
  local attempts, bytes = 0, nil
  for i = 1, #fields, 2 do
    if fields[i] == 'a' then attempts = tonumber(fields[i + 1]) or 0 end
    if fields[i] == 'e' then bytes = fields[i + 1] end
  end
  return attempts, bytes or table.concat(fields, ' ')
end

-- The lanes of a queue's streams; '' is that of a queue without lanes, and a lane of its own where there are others.
local function lanes_of(queue)
  local lanes = redis.call('SMEMBERS', key(queue, 'lanes'))
  lanes[#lanes + 1] = ''
  return lanes
end

-- How many messages wait in a queue: ready, in flight or delayed.
local function waiting(queue)
  local count = redis.call('ZCARD', key(queue, 'delayed'))
  for _, lane in ipairs(lanes_of(queue)) do count = count + redis.call('XLEN', stream_of(queue, lane)) end
  return count
end

-- Stores the messages described from ARGV[at] on, if they are `wanted`: a count, then for each
--   queue, lane ('' for none), after (ms), key ('' for none), window of the key (ms), bound (0 for none), id, envelope.
-- `bounded`: nothing is stored when a queue would hold more than its bound.
-- Returns where the description ends, and: how many were stored and how many repeated, or nil and the full queue.
local function store(at, wanted, bounded)
  local count = tonumber(ARGV[at])
  local ends = at + 1 + count * 8
  if not wanted then return ends end
  local counts, seen = {}, {}
  for base = at + 1, bounded and ends - 1 or at, 8 do
    local queue, once, bound = ARGV[base], ARGV[base + 3], tonumber(ARGV[base + 5])
    local once_key = key(queue, 'key:' .. once)
    local repeated = once ~= '' and (seen[once_key] or redis.call('EXISTS', once_key) == 1)
    if bound > 0 and not repeated then
      seen[once_key] = true
      counts[queue] = (counts[queue] or waiting(queue)) + 1
      if counts[queue] > bound then return ends, nil, queue end
    end
  end
  local stored, repeated = 0, 0
  for base = at + 1, ends - 1, 8 do
    local queue, lane, after, once = ARGV[base], ARGV[base + 1], tonumber(ARGV[base + 2]), ARGV[base + 3]
    if once ~= '' and not redis.call('SET', key(queue, 'key:' .. once), 1, 'NX', 'PX', ARGV[base + 4]) then
      repeated = repeated + 1
    else
      local id, bytes = ARGV[base + 6], ARGV[base + 7]
      if after > 0 then delay(queue, lane, 0, bytes, id, after) else append(queue, lane, 0, bytes) end
      stored = stored + 1
    end
  end
  return ends, stored, repeated
end

-- Exists when something that `consumer` held was given to somebody else, or to itself anew.
local function taken_from(consumer)
  return PREFIX .. '-taken-from-:' .. consumer
end

-- Whether `consumer` still holds this very delivery of the entry.
local function holds(stream, entry, consumer, delivery)
  local pending = redis.pcall('XPENDING', stream, GROUP, entry, entry, 1)
  if pending.err or not pending[1] then return false end
  return pending[1][2] == consumer and pending[1][4] == tonumber(delivery)
end
