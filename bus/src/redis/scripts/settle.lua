-- Ends reservations, each in one step with what it sends.
-- ARGV[1] consumer, then groups, one for each stream:
--   queue, lane, lowest entry, highest entry, number of settlements, then for each
--     entry, delivery, how, and by how
--       done, release   nothing
--       emit            messages, see store()
--       retry, defer    the wait (ms)
--       dead            the letter's id, why and after how many attempts, messages
-- Returns for each settlement 1, or 0 when the lease is lost; then nothing was written for it.

local consumer = ARGV[1]
local at = 2
local results = {}

local function next_arg()
  at = at + 1
  return ARGV[at - 1]
end

local function settle(queue, lane, stream, entry, delivery, how, held)
  if how == 'done' or how == 'emit' then
    if how == 'emit' then at = store(at, held, false) end
    return held
  end
  if how == 'release' then
    if held then
      -- Idle for a day, so it is taken over at once; the count is set back, so the next delivery has this one's number.
      redis.call('XCLAIM', stream, GROUP, NOBODY, 0, entry, 'IDLE', 86400000, 'RETRYCOUNT', delivery - 1, 'JUSTID')
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
    if bytes then delay(queue, lane, attempts + counted, bytes, entry, after) end
  end
  return held
end

while at <= #ARGV do
  local queue, lane, lowest, highest = next_arg(), next_arg(), next_arg(), next_arg()
  local stream = stream_of(queue, lane)
  -- What this consumer holds there: entry -> delivery.
  local holds = {}
  local pending = redis.pcall('XPENDING', stream, GROUP, lowest, highest, 1000000, consumer)
  if not pending.err then
    for _, one in ipairs(pending) do holds[one[1]] = one[4] end
  end
  local gone, finished = {}, 0
  for _ = 1, tonumber(next_arg()) do
    local entry, delivery, how = next_arg(), tonumber(next_arg()), next_arg()
    local held = holds[entry] == delivery
    if held then holds[entry] = nil end
    if settle(queue, lane, stream, entry, delivery, how, held) then
      gone[#gone + 1] = entry
      if how ~= 'retry' and how ~= 'defer' then finished = finished + 1 end
    end
    results[#results + 1] = held and 1 or 0
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
return results
