-- Ends reservations, each in one step with what it sends.
-- ARGV[1] consumer   ARGV[2] number of groups, then groups, one for each stream:
--   queue, lane, lowest entry, highest entry, number of runs, then for each run
--     how, delivery, number of entries, the entries, and by how
--       sure, done, release   nothing
--       emit            messages, see check_messages()
--       retry, defer    the wait (ms)
--       dead            the letter's id, why and after how many attempts, messages
--     and for the last four changes of records, see check_facts().
--     Only "sure" and "done" have runs of more than one entry. "sure" is "done" for the first time: if nothing was ever
--     taken from this consumer, it still holds what it was given, and need not be asked for each.
-- Returns the places (from 0, over all groups) of those whose lease is lost; nothing was written for them.

local HOW = { sure = true, done = true, emit = true, release = true, retry = true, defer = true, dead = true }

local function check_run(at)
  local how, count = one_of(at, HOW), whole(at + 2)
  positive(at + 1)
  given(at + 2 + count)
  for place = at + 3, at + 2 + count do entry_name(place) end
  at = at + 3 + count
  if how == 'sure' or how == 'done' then return at end
  if count ~= 1 then refuse(at, '1: one entry is settled so at a time') end
  if how == 'release' then return at end
  if how == 'retry' or how == 'defer' then
    whole(at)
    at = at + 1
  elseif how == 'dead' then
    filled(at)
    filled(at + 1)
    at = at + 2
  end
  if how == 'emit' or how == 'dead' then at = check_messages(at) end
  return check_facts(at)
end

local consumer, at = filled(1), 3
for _ = 1, whole(2) do
  filled(at)
  given(at + 1)
  entry_name(at + 2)
  entry_name(at + 3)
  local runs = whole(at + 4)
  at = at + 5
  for _ = 1, runs do at = check_run(at) end
end
ends_at(at)
at = 3

local function next_arg()
  at = at + 1
  return ARGV[at - 1]
end

-- Writes what one settlement says, if it is `held`; returns whether the entry is to go.
local function settle(queue, lane, stream, entry, delivery, how, held)
  if how == 'release' then
    if held then
      -- Idle for ten years, so it is taken over at once; the count is set back, so the next delivery has this one's number.
      call('XCLAIM', stream, GROUP, NOBODY, 0, entry, 'IDLE', 315360000000, 'RETRYCOUNT', delivery - 1, 'JUSTID')
      if lane ~= '' then hint(queue) end
    end
    return false
  end
  local attempts, bytes
  if held and how ~= 'emit' then
    local found = call('XRANGE', stream, entry, entry)[1]
    -- Who deleted it under our hands did so on purpose: nothing is left to be kept.
    if found then attempts, bytes = content(found) end
  end
  if how == 'retry' or how == 'defer' then
    local counted = how == 'retry' and delivery or delivery - 1
    local after = tonumber(next_arg())
    if bytes and after > 0 then delay(queue, lane, attempts + counted, bytes, entry, after) end
    if bytes and after == 0 then append(queue, lane, attempts + counted, bytes) end
  else
    if how == 'dead' then
      local id, letter = next_arg(), next_arg()
      if bytes then
        call('ZADD', key(queue, 'dead'), now_ms(), id)
        call('HSET', key(queue, 'letters'), id, letter)
        call('HSET', key(queue, 'bodies'), id, cmsgpack.pack(lane, bytes))
      end
    end
    if held then store(at) end
    at = skip_messages(at)
  end
  local facts = at
  at = check_facts(facts)
  if held then record(facts) end
  return held
end

-- The entries that this consumer holds, with their deliveries.
local function held_by_us(stream, lowest, highest)
  local holds = {}
  local pending = try('XPENDING', stream, GROUP, lowest, highest, 1000000, consumer)
  if not pending.err then
    for _, one in ipairs(pending) do holds[one[1]] = one[4] end
  end
  return holds
end

-- What is sent and kept here was accepted already, and the way to more memory is that messages end.
even_when_full()
local trusted = call('EXISTS', taken_from(consumer)) == 0
local place, lost = 0, {}
for _ = 1, whole(2) do
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
      if how ~= 'done' and how ~= 'sure' then goes = settle(queue, lane, stream, entry, delivery, how, held) end
      if goes then
        gone[#gone + 1] = entry
        if how ~= 'retry' and how ~= 'defer' then finished = finished + 1 end
      end
    end
  end
  if #gone > 0 then
    call('XACK', stream, GROUP, unpack(gone))
    call('XDEL', stream, unpack(gone))
  end
  if finished > 0 then
    local counter = key(queue, 'done:' .. math.floor(now_ms() / 60000))
    call('INCRBY', counter, finished)
    call('PEXPIRE', counter, 180000)
  end
end
write_tags()
return lost
