-- Shared by the scripts that reserve.

-- Makes due messages ready, in chunks that are limited by number and by bytes, since a script blocks the server. The next
-- reservation, which follows at once, moves the rest.
local function move_due(queue)
  local delayed = key(queue, 'delayed')
  local moved, budget = 0, 4 * 1024 * 1024
  local now, late = now_ms(), false
  repeat
    local found = call('ZRANGEBYSCORE', delayed, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
    local member = found[1]
    if member then
      late = late or now - tonumber(found[2]) >= 30000
      call('ZREM', delayed, member)
      -- A member that is not the bus's becomes a dead letter when it is reserved.
      local partition, attempts, bytes = read_delayed(member)
      append(queue, partition, attempts, bytes)
      moved = moved + 1
      budget = budget - #bytes
    end
  until not member or moved == 100 or budget <= 0
  if late then call('SET', key(queue, 'late'), now, 'PX', 2592000000) end
end

-- The time in ms until a delayed message is due, or -1 when there is none.
local function until_due(queue)
  local first = call('ZRANGE', key(queue, 'delayed'), 0, 0, 'WITHSCORES')
  if not first[2] then return -1 end
  return math.max(0, tonumber(first[2]) - now_ms())
end

-- Reserves entries that were released or whose lease has run out, in the order of the stream: at most `count`, and a poison
-- suspect (after `suspect` unsettled deliveries in a row) alone. Appends {partition, entry, delivery, attempts, envelope} to
-- `reserved`. Returns whether it met a suspect. Makes the group when there is none.
local function take_over(stream, partition, consumer, count, lease, suspect, reserved)
  local from = '-'
  while count > 0 do
    local page = count
    local pending = try('XPENDING', stream, GROUP, 'IDLE', lease, from, '+', page)
    if pending.err then
      if not string.find(pending.err, 'NOGROUP', 1, true) then return error(pending.err) end
      even_when_full()
      call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
      return false
    end
    for _, pending_entry in ipairs(pending) do
      local entry, delivered = pending_entry[1], pending_entry[4]
      local suspected = delivered >= suspect
      if suspected and #reserved > 0 then return true end
      local claimed = call('XCLAIM', stream, GROUP, consumer, 0, entry)[1]
      if claimed then
        local attempts, bytes = content(claimed)
        reserved[#reserved + 1] = { partition, entry, delivered + 1, attempts, bytes }
        count = count - 1
        if suspected then return true end
      else
        -- The entry was deleted from the stream. Redis 6.2 keeps it pending.
        call('XACK', stream, GROUP, entry)
      end
    end
    if #pending < page then return false end
    from = '(' .. pending[#pending][1]
  end
  return false
end
