-- Ends reservations, each in one step with what it sends.
-- ARGV[1] consumer, then groups, one for each stream:
--   queue, lane, lowest entry, highest entry, number of runs, then for each run
--     how, delivery, number of entries, the entries, and by how
--       sure, done, release   nothing
--       emit            messages, see store()
--       retry, defer    the wait (ms)
--       dead            the letter's id, why and after how many attempts, messages
--     and for the last four changes of records, see record().
--     Only "sure" and "done" have runs of more than one entry. "sure" is "done" for the first time: if nothing was ever
--     taken from this consumer, it still holds what it was given, and need not be asked for each.
-- Returns the places (from 0, over all groups) of those whose lease is lost; nothing was written for them.

local consumer = ARGV[1]
local at = 2

local function next_arg()
  at = at + 1
  return ARGV[at - 1]
end

-- Writes what one settlement says, if it is `held`; returns whether the entry is to go.
local function settle(queue, lane, stream, entry, delivery, how, held)
  if how == 'emit' then
    at = store(at, held, false)
    return held
  end
  if how == 'release' then
    if held then
      -- Idle for ten years, so it is taken over at once; the count is set back, so the next delivery has this one's number.
      redis.call('XCLAIM', stream, GROUP, NOBODY, 0, entry, 'IDLE', 315360000000, 'RETRYCOUNT', delivery - 1, 'JUSTID')
      if lane ~= '' then hint(queue) end
    end
    return false
  end
  local attempts, bytes
  if held then
    local found = redis.call('XRANGE', stream, entry, entry)[1]
    -- Who deleted it under our hands did so on purpose: nothing is left to be kept.
    if found then attempts, bytes = content(found) end
  end
  if how == 'dead' then
    local id, letter = next_arg(), next_arg()
    if bytes then
      redis.call('ZADD', key(queue, 'dead'), now_ms(), id)
      redis.call('HSET', key(queue, 'letters'), id, letter)
      redis.call('HSET', key(queue, 'bodies'), id, cmsgpack.pack(lane, bytes))
    end
    at = store(at, held, false)
  else
    local counted = how == 'retry' and delivery or delivery - 1
    local after = tonumber(next_arg())
    if bytes and after > 0 then delay(queue, lane, attempts + counted, bytes, entry, after) end
    if bytes and after == 0 then append(queue, lane, attempts + counted, bytes) end
  end
  return held
end

-- The entries that this consumer holds, with their deliveries.
local function held_by_us(stream, lowest, highest)
  local holds = {}
  local pending = redis.pcall('XPENDING', stream, GROUP, lowest, highest, 1000000, consumer)
  if not pending.err then
    for _, one in ipairs(pending) do holds[one[1]] = one[4] end
  end
  return holds
end

-- What is sent and kept here was accepted already, and the way to more memory is that messages end.
even_when_full()
local trusted = redis.call('EXISTS', taken_from(consumer)) == 0
local place, lost = 0, {}
while at <= #ARGV do
  local queue, lane, lowest, highest = next_arg(), next_arg(), next_arg(), next_arg()
  local stream = stream_of(queue, lane)
  local holds
  local gone, finished = {}, 0
  for _ = 1, tonumber(next_arg()) do
    local how, delivery = next_arg(), tonumber(next_arg())
    local count = tonumber(next_arg())
    if how == 'sure' and trusted then
      for _ = 1, count do
        local entry = next_arg()
        gone[#gone + 1] = entry
        if holds then holds[entry] = nil end
      end
      finished, place, count = finished + count, place + count, 0
    elseif not holds then
      holds = held_by_us(stream, lowest, highest)
      for _, entry in ipairs(gone) do holds[entry] = nil end
    end
    for _ = 1, count do
      local entry = next_arg()
      local held = holds[entry] == delivery
      if held then holds[entry] = nil else lost[#lost + 1] = place end
      place = place + 1
      local goes = held
      if how ~= 'done' and how ~= 'sure' then
        goes = settle(queue, lane, stream, entry, delivery, how, held)
        if how ~= 'release' then at = record(at, held) end
      end
      if goes then
        gone[#gone + 1] = entry
        if how ~= 'retry' and how ~= 'defer' then finished = finished + 1 end
      end
    end
  end
  if #gone > 0 then
    redis.call('XACK', stream, GROUP, unpack(gone))
    redis.call('XDEL', stream, unpack(gone))
  end
  if finished > 0 then
    local counter = key(queue, 'done:' .. math.floor(now_ms() / 60000))
    redis.call('INCRBY', counter, finished)
    redis.call('PEXPIRE', counter, 180000)
  end
end
return lost
