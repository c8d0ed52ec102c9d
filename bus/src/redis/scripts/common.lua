-- Shared by all scripts: it is put before each of them.
--
-- KEYS[1]  the prefix of all keys, with its hash tag, such as "{events}:". Every key below starts with it, so all of
--          them are in one slot of a Redis Cluster.
--
-- Keys of a queue Q (after the prefix):
--   Q:ready      stream   messages that can be taken, or are held (consumer group "workers")
--   Q:partition:L     stream   the same for partition L of a queue with partitions
--   Q:partitions      set      the partitions that were ever used
--   Q:delayed    zset     packed messages by the time (ms) at which they become ready
--   Q:hint       stream   one entry, rewritten when something came into a partition: whoever waits for a partition reads it
--   Q:paused     string   while it exists, nothing is taken
--   Q:done:M     string   how many messages ended in minute M since 1970; expires
--   Q:late       string   the time (ms) at which a delayed message was last made ready late; expires
--   Q:dead       zset     ids of dead letters by the time of death (ms)
--   Q:letters    hash     id -> why, and after how many attempts (written by the client)
--   Q:bodies     hash     id -> packed message
--   Q:key:K      string   idempotence key K was seen; expires
--
-- Beside the queues:
--   -probe-:C        string   there for an instant while it is checked that C can write

-- A stream entry has the fields "a" (attempts counted so far, the delivery count of the group comes on top) and "e"
-- (the envelope). Time is Redis's own.

local call, try = redis.call, redis.pcall
local PREFIX = KEYS[1] or error('the prefix of the keys is missing', 0)
local GROUP = 'workers'
-- Owns what was released: nobody's lease matches it.
local NOBODY = '-released-'

local function key(queue, part)
  return PREFIX .. queue .. ':' .. part
end

-- The streams of queues without partitions, once they were asked for: making text takes Lua long.
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

-- Redis's time, the same for the whole run, as a number and as text: making text of a number takes Redis long.
local now, now_text
local function now_ms()
  if not now then
    local time = call('TIME')
    now_text = time[1] .. string.format('%03d', math.floor(time[2] / 1000))
    now = tonumber(now_text)
  end
  return now, now_text
end

-- What a script has written when it meets an error stays. So it checks all arguments before the first write: a call with an
-- argument too few, too many or of another form changes nothing. Each check takes the place of an argument.
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

-- Numbers by their text: many arguments have the same. What was checked is read here, without another check.
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

-- No part of an entry's name has more than 19 digits, or Redis might not take it.
local function is_entry(value)
  local dash = find(value, '^%d+%-%d+$') and find(value, '-', 1, true)
  return dash and dash <= 20 and #value - dash <= 19
end

local function entry_name(at)
  local value = given(at)
  return is_entry(value) and value or refuse(at, "an entry's name")
end

-- A run may have many pushes of one kind: what they have in common is described once, with empty values, and each of
-- them gives its values in their order. Then these are the places of the values; otherwise there are none.
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

-- Every argument comes before `ends`.
local function ends_at(ends)
  if COUNT ~= ends - 1 then error('the script has ' .. COUNT .. ' arguments, expected are ' .. ends - 1, 0) end
end

-- Lets what follows write though Redis has reached its maxmemory: it refuses only the first write of a script, if that
-- needs memory. This one does not, and changes nothing, since no key is named like the prefix.
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

-- Partition, attempts and envelope of a delayed message. Something that is not ours keeps all its bytes as the envelope.
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

-- The partitions of a queue's streams; '' is that of a queue without partitions, and a partition of its own where there are others.
local function partitions_of(queue)
  local partitions = call('SMEMBERS', key(queue, 'partitions'))
  partitions[#partitions + 1] = ''
  return partitions
end

-- How many messages wait in a queue (ready, in flight or delayed), and which of its keys have some.
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

-- What the messages of a queue take, about, in bytes. `keys` are those that have some.
local function bytes_of(keys)
  local bytes = 0
  for _, name in ipairs(keys) do bytes = bytes + (call('MEMORY', 'USAGE', name) or 0) end
  return bytes
end

-- A message that has more bytes than this is large. Redis counts the bytes of a queue by walking through it, so the count is
-- taken only when a large message is pushed, or when so many wait that with this size each they would reach the bound.
local LARGE = 65536

-- How many arguments a message has.
local WIDTH = 8

-- Checks that messages are described from ARGV[at] on: a count, then for each
--   queue, partition ('' for none), after (ms), key ('' for none), window of the key (ms, 0 for no key), bound (0 for none),
--   bound in bytes (0 for none), envelope.
-- Key and envelope are values, see value().
-- Returns where the description ends.
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

-- How many messages wait in each queue that has a bound, and what they take, once it was asked for.
local counts, sizes, occupied = {}, {}, {}

-- How many messages wait in a queue that has a bound.
local function count_of(queue)
  local count = counts[queue]
  if not count then
    count, occupied[queue] = waiting(queue)
    counts[queue] = count
  end
  return count
end

-- What the messages of a queue take that has a bound in bytes, before a push with so many bytes. Few messages that are not
-- large cannot reach it.
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

-- Whether a queue would hold more messages than its bound with those that are described from ARGV[at] on, or is at its bound
-- in bytes: which, and 'messages' or 'bytes', if so.
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
  -- Each queue has some of them only, and what was stored before needs no room.
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

-- What store() has stored, for take_back(): the place of each message and its entry, or member of the delayed ones. The
-- last one may have its key only.
local stored_now = {}

-- Stores the messages that are described from ARGV[at] on. Returns where the description ends, and how many were stored;
-- the others had been before.
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

-- Takes back what was stored after `from` places of `stored_now`.
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

-- Whether `consumer` still holds this very delivery of the entry.
local function holds(stream, entry, consumer, delivery)
  local pending = try('XPENDING', stream, GROUP, entry, entry, 1)
  if pending.err or not pending[1] then return false end
  return pending[1][2] == consumer and pending[1][4] == tonumber(delivery)
end
