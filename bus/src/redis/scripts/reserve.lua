-- Takes messages: first those whose lease ran out or that were released, then new ones, in order. None of a paused
-- queue.
-- ARGV[1] queue   ARGV[2] consumer   ARGV[3] most messages   ARGV[4] lease (ms)   ARGV[5] '1' for a queue with lanes
-- ARGV[6…] lanes that are not to be taken from
-- Returns {taken, pause, last id of Q:ready, last id of Q:hint}; `taken` holds {lane, entry, delivery, attempts,
-- envelope} each, `pause` is the time in ms until a delayed message is due (-1 for none).

local queue, consumer, max, lease, lanes = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5] == '1'
local delayed = key(queue, 'delayed')

-- In small chunks, by number and by bytes: many due messages, or large ones, must not stop the server. What is left is
-- moved by the next reservation, which comes at once.
local moved, budget = 0, 4 * 1024 * 1024
repeat
  local member = redis.call('ZRANGEBYSCORE', delayed, '-inf', now_ms(), 'LIMIT', 0, 1)[1]
  if member then
    redis.call('ZREM', delayed, member)
    local lane, attempts, _, bytes = cmsgpack.unpack(member)
    append(queue, lane, attempts, bytes)
    moved = moved + 1
    budget = budget - #bytes
  end
until not member or moved == 100 or budget <= 0

local taken = {}

local function take(lane, count)
  local stream = stream_of(queue, lane)
  local function add(entry, delivery)
    local attempts, bytes = content(entry)
    taken[#taken + 1] = { lane, entry[1], delivery, attempts, bytes }
    count = count - 1
  end
  local cursor = '0-0'
  repeat
    local claimed = redis.pcall('XAUTOCLAIM', stream, GROUP, consumer, lease, cursor, 'COUNT', count)
    if claimed.err then
      if not string.find(claimed.err, 'NOGROUP', 1, true) then return error(claimed.err) end
      redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
      claimed = { '0-0', {} }
    end
    cursor = claimed[1]
    for _, entry in ipairs(claimed[2]) do
      -- Redis 6.2 gives nil for an entry that somebody deleted.
      if entry then add(entry, redis.call('XPENDING', stream, GROUP, entry[1], entry[1], 1)[1][4]) end
    end
  until cursor == '0-0' or count <= 0
  if count > 0 then
    local read = redis.call('XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', count, 'STREAMS', stream, '>')
    if read then
      for _, entry in ipairs(read[1][2]) do add(entry, 1) end
    end
  end
end

local paused = redis.call('EXISTS', key(queue, 'paused')) == 1
if lanes and not paused then
  local skip = {}
  for i = 6, #ARGV do skip[ARGV[i]] = true end
  local all = redis.call('SMEMBERS', key(queue, 'lanes'))
  -- Another lane goes first each time, so that none is passed over for ever.
  local first = now_ms() % math.max(#all, 1)
  for i = 1, #all do
    local lane = all[(first + i) % #all + 1]
    if #taken < max and not skip[lane] then take(lane, 1) end
  end
elseif not paused then
  take('', max)
end

local function last_id(stream)
  local info = redis.pcall('XINFO', 'STREAM', stream)
  if not info.err then
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then return info[i + 1] end
    end
  end
  return '0-0'
end

if #taken > 0 then return { taken, -1, '', '' } end
local pause = -1
local next_due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
if next_due[2] then pause = math.max(0, tonumber(next_due[2]) - now_ms()) end
return { taken, pause, last_id(key(queue, 'ready')), last_id(key(queue, 'hint')) }
