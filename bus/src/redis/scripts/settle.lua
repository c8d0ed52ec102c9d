-- Settles deliveries. Each settlement is written whole, with its messages and updates, or not at all.
-- ARGV[1]  the request, in MessagePack; see `Request` in settle.rs, which has the same fields:
--   consumer  the owner of the leases
--   streams   for each: queue, partition, lowest and highest entry, and its settlements, for each of these
--     entry, delivery
--     how       one of HOW
--     after     of 'retry' and 'defer': the wait (ms)
--     letter    of 'dead': id, reason, attempts, and whether it is unreadable
--     effects   whether it has messages or updates
-- The other arguments describe the effects of each settlement that has any, in order: messages, see check_messages(), and
-- changes of records, see check_updates().
-- Returns {lost, failed}: the places (from 0, over all streams) of settlements whose lease is lost, and {place, error} of those
-- that Redis refused.

local HOW = { done = true, retry = true, defer = true, dead = true, release = true }
-- The settlements after which the message is no longer in its queue.
local FINISHED = { done = true, dead = true }

local function field(of, name, kind)
  local found = of[name]
  return type(found) == kind and found or refuse(1, 'a request with ' .. name)
end

local function number(of, name)
  local found = field(of, name, 'number')
  return found >= 0 and found % 1 == 0 and found or refuse(1, 'a request with a whole ' .. name)
end

local function entry_of(of, name)
  local found = of[name]
  return type(found) == 'string' and is_entry(found) and found or refuse(1, "a request with an entry's name as " .. name)
end

-- The place at which the effects of a settlement begin.
local effects = {}

-- Checks a settlement; its effects, if any, begin at ARGV[at]. Returns the place after them.
local function check(one, at)
  entry_of(one, 'entry')
  number(one, 'delivery')
  if not HOW[one.how] then refuse(1, 'a request with a known how') end
  if one.how == 'retry' or one.how == 'defer' then number(one, 'after') end
  if one.how == 'dead' then
    local letter = field(one, 'letter', 'table')
    field(letter, 'id', 'string')
    field(letter, 'reason', 'string')
    number(letter, 'attempts')
    if type(letter.unreadable) ~= 'boolean' then refuse(1, 'a request with unreadable') end
  end
  if not one.effects then return at end
  effects[one] = at
  return check_updates(check_messages(at))
end

local readable, request = pcall(cmsgpack.unpack, filled(1))
if not readable or type(request) ~= 'table' then refuse(1, 'a request') end
local consumer, at = field(request, 'consumer', 'string'), 2
for _, group in ipairs(field(request, 'streams', 'table')) do
  field(group, 'queue', 'string')
  field(group, 'partition', 'string')
  entry_of(group, 'lowest')
  entry_of(group, 'highest')
  for _, one in ipairs(field(group, 'settlements', 'table')) do at = check(one, at) end
end
ends_at(at)

-- The error of a key of a wrong type that the settlement would write, or nil.
local function unfit_for(queue, partition, one)
  local how, place, wrong = one.how, effects[one], nil
  if how == 'dead' then
    wrong = unfit(key(queue, 'dead'), 'ZCARD') or unfit(key(queue, 'letters'), 'HLEN') or unfit(key(queue, 'bodies'), 'HLEN')
  elseif how == 'release' then
    wrong = partition ~= '' and unfit(key(queue, 'hint'), 'XLEN')
  elseif how ~= 'done' then
    if one.after > 0 then wrong = unfit(key(queue, 'delayed'), 'ZCARD') else wrong = unfit_stream(queue, partition) end
  end
  return wrong or place and (unfit_messages(place) or unfit_updates(skip_messages(place))) or nil
end

-- Stores a message that is not done as a dead letter, a delayed or a ready message.
local function keep(queue, partition, one, attempts, bytes)
  local letter = one.letter
  if letter then
    call('ZADD', key(queue, 'dead'), now_ms(), letter.id)
    call('HSET', key(queue, 'letters'), letter.id, cmsgpack.pack({ letter.reason, letter.attempts, letter.unreadable }))
    call('HSET', key(queue, 'bodies'), letter.id, cmsgpack.pack(partition, bytes))
    return
  end
  local counted = attempts + (one.how == 'retry' and one.delivery or one.delivery - 1)
  if one.after > 0 then
    delay(queue, partition, counted, bytes, one.entry, one.after)
  else
    append(queue, partition, counted, bytes)
  end
end

local function write(queue, partition, one)
  local stream, entry, place = stream_of(queue, partition), one.entry, effects[one]
  if one.how == 'release' then
    if partition ~= '' then hint(queue) end
    -- Idle for ten years, so it is reserved at once. The count is decremented, so the next delivery has the same number.
    call('XCLAIM', stream, GROUP, NOBODY, 0, entry, 'IDLE', 315360000000, 'RETRYCOUNT', one.delivery - 1, 'JUSTID')
    return
  end
  if one.how ~= 'done' then
    local found = call('XRANGE', stream, entry, entry)[1]
    -- An entry that somebody has deleted cannot be kept.
    if found then keep(queue, partition, one, content(found)) end
  end
  if place then record((store(place))) end
end

-- Writes a settlement whose lease is valid. Returns an error or nil.
local function settle(queue, partition, one)
  local wrong = unfit_for(queue, partition, one)
  if wrong then return wrong end
  local before = #stored_now
  local written, failure = pcall(write, queue, partition, one)
  if written then return nil end
  take_back(before)
  return type(failure) == 'table' and failure.err or tostring(failure)
end

-- The deliveries whose lease this consumer has, by entry.
local function leased_to_us(stream, lowest, highest)
  local deliveries = {}
  local pending = try('XPENDING', stream, GROUP, lowest, highest, 1000000, consumer)
  if not pending.err then
    for _, one in ipairs(pending) do deliveries[one[1]] = one[4] end
  end
  return deliveries
end

-- These messages are of accepted work, and memory is freed when that is done.
even_when_full()
local place, lost, failed = 0, {}, {}
for _, group in ipairs(request.streams) do
  local queue, partition = group.queue, group.partition
  local stream = stream_of(queue, partition)
  local deliveries = leased_to_us(stream, group.lowest, group.highest)
  local gone, finished = {}, 0
  for _, one in ipairs(group.settlements) do
    local entry, how = one.entry, one.how
    if deliveries[entry] ~= one.delivery then
      lost[#lost + 1] = place
    else
      local failure
      if how ~= 'done' or one.effects then failure = settle(queue, partition, one) end
      if failure then
        failed[#failed + 1] = { place, failure }
      else
        deliveries[entry] = nil
        if how ~= 'release' then gone[#gone + 1] = entry end
        if FINISHED[how] then finished = finished + 1 end
      end
    end
    place = place + 1
  end
  if #gone > 0 then
    call('XACK', stream, GROUP, unpack(gone))
    call('XDEL', stream, unpack(gone))
  end
  if finished > 0 then
    -- A statistic: a wrong type of its key does not prevent the settlement.
    local counter = key(queue, 'done:' .. math.floor(now_ms() / 60000))
    try('INCRBY', counter, finished)
    try('PEXPIRE', counter, 180000)
  end
end
write_indexes()
return { lost, failed }
