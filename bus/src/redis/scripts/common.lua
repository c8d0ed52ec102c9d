-- The first part of each script.
--
-- KEYS[1]  the prefix of all keys, with its hash tag, such as "{events}:". Every key below starts with it, so all of
--          them are in one slot of a Redis Cluster.
--
-- Keys of a queue Q (after the prefix):
--   Q:ready        stream   messages that are ready or in flight (consumer group "workers")
--   Q:partition:P  stream   the same for partition P of a queue with partitions
--   Q:partitions   set      the partitions that were ever used
--   Q:delayed      zset     packed messages by the time (ms) at which they become ready
--   Q:hint         stream   one entry, rewritten for each new message of a partition: waits for partitions read it
--   Q:paused       string   while it exists, nothing is reserved
--   Q:done:M       string   the number of messages that were done or became dead letters in minute M since 1970; expires
--   Q:late         string   the time (ms) at which a delayed message last became ready late; expires
--   Q:dead         zset     ids of dead letters by the time (ms) at which they became that
--   Q:letters      hash     id -> reason, attempts and whether it is unreadable, as the client wrote them
--   Q:bodies       hash     id -> packed message
--   Q:key:K        string   deduplication key K was stored; expires
--
-- Beside the queues:
--   -probe-:C      string   exists for an instant while consumer C checks that it can write

-- A stream entry has the fields "a" (attempts so far, without the delivery count of the group) and "e" (the envelope). The
-- clock is that of Redis.

local call, try = redis.call, redis.pcall
local PREFIX = KEYS[1] or error('the prefix of the keys is missing', 0)
local GROUP = 'workers'
-- The owner of released entries: no lease has this consumer.
local NOBODY = '-released-'

local function key(queue, part)
  return PREFIX .. queue .. ':' .. part
end

-- The streams of queues without partitions, by queue: concatenation is slow in Lua.
local streams = {}

local function stream_of(queue, partition)
  if partition ~= '' then return key(queue, 'partition:' .. partition) end
  local stream = streams[queue]
  if not stream then
    stream = key(queue, 'ready')
    streams[queue] = stream
  end
  return stream
end

-- The time of Redis in ms, the same for the whole run, as a number and as text: conversion to text is slow in Redis.
local now, now_text
local function now_ms()
  if not now then
    local time = call('TIME')
    now_text = time[1] .. string.format('%03d', math.floor(time[2] / 1000))
    now = tonumber(now_text)
  end
  return now, now_text
end

-- Redis keeps the writes of a script that fails later. So a script checks all arguments before its first write: a call with
-- too few, too many or malformed arguments changes nothing. Each check has the place of an argument as its parameter.
local ARGV, COUNT, find = ARGV, #ARGV, string.find

local function refuse(at, expected)
  return error('argument ' .. at .. ' of ' .. COUNT .. ' is not ' .. expected, 0)
end

local function given(at)
  return ARGV[at] or refuse(at, 'there')
end

local function filled(at)
  local value = ARGV[at]
  return value and value ~= '' and value or refuse(at, 'there, or empty')
end

-- Checked numbers by their text, since many arguments are equal. Later code reads them here without another check.
local numbers = {}

local function whole(at)
  local value = given(at)
  local number = numbers[value]
  if not number then
    if value == '' or #value > 15 or find(value, '%D') then refuse(at, 'a whole number of up to 15 digits') end
    number = tonumber(value)
    numbers[value] = number
  end
  return number
end

local function positive(at)
  local number = whole(at)
  return number > 0 and number or refuse(at, 'more than 0')
end

-- Each part of an entry's id has at most 19 digits; Redis may refuse more.
local function is_entry(value)
  local dash = find(value, '^%d+%-%d+$') and find(value, '-', 1, true)
  return dash and dash <= 20 and #value - dash <= 19
end

local function entry_name(at)
  local value = given(at)
  return is_entry(value) and value or refuse(at, "an entry's name")
end

-- A run may have many pushes of one kind: one description with empty values is common to them, and each push has its values in
-- the same order. These are the places of the values; nil in other scripts.
local holes

local function value(at)
  if not holes then return filled(at) end
  if given(at) ~= '' then refuse(at, 'empty: each push gives a value of its own') end
  holes[#holes + 1] = at
end

local function one_of(at, words)
  local value = given(at)
  return words[value] and value or refuse(at, 'a word that is known here')
end

-- Checks that there is no argument from `ends` on.
local function ends_at(ends)
  if COUNT ~= ends - 1 then error('the script has ' .. COUNT .. ' arguments, expected are ' .. ends - 1, 0) end
end

-- Allows the following writes though Redis has reached its maxmemory: Redis refuses only the first write of a script, if that
-- needs memory. This one needs none, and changes nothing, since no key is equal to the prefix.
local function even_when_full()
  call('DEL', PREFIX)
end

local function hint(queue)
  call('XADD', key(queue, 'hint'), 'MAXLEN', '1', '*', 'h', '')
end

local function append(queue, partition, attempts, bytes)
  local entry = call('XADD', stream_of(queue, partition), '*', 'a', attempts, 'e', bytes)
  if partition ~= '' then
    call('SADD', key(queue, 'partitions'), partition)
    hint(queue)
  end
  return entry
end

-- `id` keeps two equal messages apart: members of a sorted set are unique.
local function delay(queue, partition, attempts, bytes, id, after)
  local member = cmsgpack.pack(partition, attempts, id, bytes)
  call('ZADD', key(queue, 'delayed'), now_ms() + after, member)
  return member
end

-- Partition, attempts and envelope of a delayed message. A member that is not the bus's is an envelope as a whole.
local function read_delayed(member)
  local ours, partition, attempts, _, envelope = pcall(cmsgpack.unpack, member)
  if ours and type(partition) == 'string' and type(attempts) == 'number' and type(envelope) == 'string' then
    return partition, attempts, envelope
  end
  return '', 0, member
end

-- Partition and envelope of a dead letter's body, in the same way.
local function read_body(packed)
  local ours, partition, envelope = pcall(cmsgpack.unpack, packed)
  if ours and type(partition) == 'string' and type(envelope) == 'string' then return partition, envelope end
  return '', packed
end

-- Attempts and envelope of a stream entry. The fields of an entry that is not the bus's are joined in place of an envelope.
local function content(entry)
  local fields = entry[2]
  local attempts, bytes = 0, nil
  for i = 1, #fields, 2 do
    if fields[i] == 'a' then attempts = tonumber(fields[i + 1]) or 0 end
    if fields[i] == 'e' then bytes = fields[i + 1] end
  end
  return attempts, bytes or table.concat(fields, ' ')
end

-- The partitions of a queue. '' is the stream of a queue without partitions; in a queue with partitions it is one of them.
local function partitions_of(queue)
  local partitions = call('SMEMBERS', key(queue, 'partitions'))
  partitions[#partitions + 1] = ''
  return partitions
end

-- The number of messages of a queue that are ready, in flight or delayed, and the keys that have some.
local function waiting(queue)
  local delayed = key(queue, 'delayed')
  local count, keys = call('ZCARD', delayed), {}
  if count > 0 then keys[1] = delayed end
  for _, partition in ipairs(partitions_of(queue)) do
    local stream = stream_of(queue, partition)
    local length = call('XLEN', stream)
    count = count + length
    if length > 0 then keys[#keys + 1] = stream end
  end
  return count, keys
end

-- The approximate size in bytes of the messages of `keys`.
local function bytes_of(keys)
  local bytes = 0
  for _, name in ipairs(keys) do bytes = bytes + (call('MEMORY', 'USAGE', name) or 0) end
  return bytes
end

-- A message of more bytes than this is large. Redis measures a queue by walking through it. So it is measured only when
-- a large message is pushed, or when the waiting messages would reach the bound if each had this size.
local LARGE = 65536

-- The number of arguments of a message.
local WIDTH = 8

-- Checks the description of messages that begins at ARGV[at]: their number, then for each
--   queue, partition ('' for none), after (ms), key ('' for none), window of the key (ms, 0 for no key), bound (0 for none),
--   bound in bytes (0 for none), envelope.
-- Key and envelope are values, see value().
-- Returns the place after the description.
local function check_messages(at)
  local ends = at + 1 + whole(at) * WIDTH
  given(ends - 1)
  for base = at + 1, ends - 1, WIDTH do
    filled(base)
    whole(base + 2)
    if whole(base + 4) > 0 then
      value(base + 3)
    elseif ARGV[base + 3] ~= '' then
      refuse(base + 4, 'more than 0: a key needs a window')
    end
    whole(base + 5)
    whole(base + 6)
    value(base + 7)
  end
  return ends
end

local function skip_messages(at)
  return at + 1 + numbers[ARGV[at]] * WIDTH
end

local function once_key(base)
  return PREFIX .. ARGV[base] .. ':key:' .. ARGV[base + 3]
end

-- For each queue that has a bound, once it was read: the number of its messages, their size, and the keys that have some.
local counts, sizes, occupied = {}, {}, {}

-- The number of messages of a queue that has a bound.
local function count_of(queue)
  local count = counts[queue]
  if not count then
    count, occupied[queue] = waiting(queue)
    counts[queue] = count
  end
  return count
end

-- The size of the messages of a queue that has a bound in bytes, before a push of `pushed` bytes; 0 when they are too few to
-- reach the bound.
local function size_of(queue, bound, pushed)
  local size = sizes[queue]
  local count = count_of(queue)
  if not size and pushed <= LARGE and count * LARGE < bound then return 0 end
  if not size then
    size = bytes_of(occupied[queue])
    sizes[queue] = size
  end
  return size
end

-- The queue that would exceed its bound with the messages of the description at ARGV[at], and 'messages' or 'bytes'; or nil.
local function overfull(at)
  local crowded, pushed = false, 0
  local count = numbers[ARGV[at]]
  for base = at + 1, at + count * WIDTH, WIDTH do pushed = pushed + #ARGV[base + 7] end
  for base = at + 1, at + count * WIDTH, WIDTH do
    local queue, bound, bytes = ARGV[base], numbers[ARGV[base + 5]], numbers[ARGV[base + 6]]
    if bound > 0 then crowded = crowded or count_of(queue) + count > bound end
    if bytes > 0 then crowded = crowded or size_of(queue, bytes, pushed) >= bytes end
  end
  if not crowded then return nil end
  -- Each queue gets only some of the messages, and duplicates need no room.
  local more, seen = {}, {}
  for base = at + 1, at + count * WIDTH, WIDTH do
    local queue, bound, bytes = ARGV[base], whole(base + 5), whole(base + 6)
    if bound > 0 or bytes > 0 then
      local once = ARGV[base + 3] ~= '' and once_key(base)
      local repeated = once and (seen[once] or call('EXISTS', once) == 1)
      if once then seen[once] = true end
      if not repeated then
        more[queue] = (more[queue] or 0) + 1
        if bound > 0 and count_of(queue) + more[queue] > bound then return queue, 'messages' end
        if bytes > 0 and size_of(queue, bytes, pushed) >= bytes then return queue, 'bytes' end
      end
    end
  end
end

-- The messages that store() has stored, for take_back(): the place of each, and its entry or its member of the delayed ones.
-- The last one may have only its deduplication key.
local stored_now = {}

-- Stores the messages of the description at ARGV[at]. Returns the place after the description, and the number of messages that
-- were stored; the others were duplicates.
local function store(at)
  local ends, stored = skip_messages(at), 0
  for base = at + 1, ends - 1, WIDTH do
    local once = ARGV[base + 3] ~= ''
    if not once or call('SET', once_key(base), '1', 'NX', 'PX', ARGV[base + 4]) then
      local queue, partition, after, bytes = ARGV[base], ARGV[base + 1], numbers[ARGV[base + 2]], ARGV[base + 7]
      local place = #stored_now + 1
      stored_now[place] = base
      if after > 0 then
        stored_now[place + 1] = delay(queue, partition, 0, bytes, '', after)
      else
        stored_now[place + 1] = append(queue, partition, '0', bytes)
      end
      if counts[queue] then counts[queue] = counts[queue] + 1 end
      if sizes[queue] then sizes[queue] = sizes[queue] + #bytes end
      stored = stored + 1
    end
  end
  return ends, stored
end

-- Removes the messages that were stored after the first `from` elements of `stored_now`.
local function take_back(from)
  for place = from + 1, #stored_now, 2 do
    local base, name = stored_now[place], stored_now[place + 1]
    local queue = ARGV[base]
    if ARGV[base + 3] ~= '' then try('DEL', once_key(base)) end
    if name and whole(base + 2) > 0 then
      try('ZREM', key(queue, 'delayed'), name)
    elseif name then
      try('XDEL', stream_of(queue, ARGV[base + 1]), name)
    end
    stored_now[place], stored_now[place + 1] = nil, nil
  end
  counts, sizes = {}, {}
end

-- Whether `consumer` has the lease of this delivery of the entry.
local function has_lease(stream, entry, consumer, delivery)
  local pending = try('XPENDING', stream, GROUP, entry, entry, 1)
  if pending.err or not pending[1] then return false end
  return pending[1][2] == consumer and pending[1][4] == tonumber(delivery)
end
