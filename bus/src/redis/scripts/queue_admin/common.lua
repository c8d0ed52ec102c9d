-- The second part of each script of the operator's operations.

-- The maximum number of messages that a script reads or changes, and their approximate maximum size in bytes: a script blocks
-- the server. The caller goes on with the next call.
local MAX_MESSAGES, MAX_BYTES = 200, 4 * 1024 * 1024

-- Whether an entry is in flight, and the number of its deliveries.
local function is_in_flight(stream, entry)
  local pending = try('XPENDING', stream, GROUP, entry, entry, 1)
  if pending.err or not pending[1] then return false, 0 end
  return pending[1][2] ~= NOBODY, pending[1][4]
end

-- Whether an envelope has the id (16 bytes; '' for any). An envelope begins with its id.
local function has_id(envelope, id)
  return id == '' or string.find(string.sub(envelope, 1, 64), id, 1, true) ~= nil
end

-- The id of the selected message, or '' for all.
local function message_id(at)
  local value = given(at)
  return (#value == 0 or #value == 16) and value or refuse(at, 'an id of 16 bytes')
end

-- The place at which a walk goes on, or '' for its beginning.
local function place_of(at, is_place)
  local value = given(at)
  return (value == '' or is_place(value)) and value or refuse(at, 'a place to go on from')
end

-- The milliseconds and the number of a stream entry.
local function parts(entry)
  local ms, number = string.match(entry, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(number)
end
