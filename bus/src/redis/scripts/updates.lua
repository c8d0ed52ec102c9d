-- Records, see records.rs. Keys (after the prefix):
--   -record-:S:record:R   hash   "=field" -> value; "#n" -> the n-th event; "n" -> the number of events that were added
--   -record-:S:index:I    zset   records by the time (ms) at which they were added to index I
-- Each change renews the expiry of both, after the retention of the store S. A record that was only opened has no expiry
-- before its next change. Records beyond the retention are removed from an index from time to time; reads leave them out.

local CHANGES = { open = true, set = true, add = true, swap = true, index = true, unindex = true, erase = true }

-- Checks the description of changes of records that begins at ARGV[at]: a number of groups, then for each group
--   store, record, retention (ms), number of changes, then for each change its name, the number of its arguments, and these:
--     'open'     the name of a field, and its value if it is empty
--     'set'      the name of a field and its value, once or more
--     'add'      an event
--     'swap'     the name of a field, its expected value, its new value ('' is an empty field)
--     'index'    indexes to add the record to
--     'unindex'  an index to remove the record from
--     'erase'    nothing
-- Returns the place after the description.
local function check_updates(at)
  local groups = whole(at)
  at = at + 1
  for _ = 1, groups do
    filled(at)
    value(at + 1)
    whole(at + 2)
    local changes = whole(at + 3)
    at = at + 4
    for _ = 1, changes do
      local how, count = one_of(at, CHANGES), whole(at + 1)
      at = at + 2 + count
      given(at - 1)
      local right = count == 1
      if how == 'set' then
        right = count > 0 and count % 2 == 0
        for field = at - count, right and at - 2 or 0, 2 do
          filled(field)
          value(field + 1)
        end
      elseif how == 'open' then
        right = count == 2 and filled(at - 2)
        if right then value(at - 1) end
      elseif how == 'swap' then
        right = count == 3 and filled(at - 3)
      elseif how == 'erase' then
        right = count == 0
      elseif how == 'index' then
        right = count > 0
        for index = at - count, at - 1 do
          if ARGV[index] == '' then value(index) end
        end
      elseif right then
        value(at - 1)
      end
      if not right then refuse(at - count - 1, 'as many arguments as the change ' .. how .. ' has') end
    end
  end
  return at
end

-- The beginning of the keys of a store's records, by store: concatenation is slow in Lua.
local of_records = {}

local function record_key(store, id)
  local before = of_records[store]
  if not before then
    before = PREFIX .. '-record-:' .. store .. ':record:'
    of_records[store] = before
  end
  return before .. id
end

local function index_key(store, index)
  return PREFIX .. '-record-:' .. store .. ':index:' .. index
end

-- The records to add to indexes, by store and index, and the retention of each store: additions to one index share a command.
local additions, retentions = {}, {}

-- The maximum number of arguments of one command.
local MANY = 1000

local function write_index(store, index)
  local records = additions[store][index]
  if not records then return end
  additions[store][index] = nil
  local kept, retention = index_key(store, index), retentions[store]
  call('ZADD', kept, 'NX', unpack(records))
  local number = now_ms()
  if number % 64 == 0 then call('ZREMRANGEBYSCORE', kept, '-inf', number - tonumber(retention)) end
  call('PEXPIRE', kept, retention)
end

local function add_to_index(store, index, record, retention)
  local indexes = additions[store]
  if not indexes then
    indexes = {}
    additions[store] = indexes
    now_ms()
  end
  retentions[store] = retention
  local records = indexes[index]
  if not records then
    indexes[index] = { now_text, record }
    return
  end
  local count = #records
  records[count + 1], records[count + 2] = now_text, record
  if count >= MANY then write_index(store, index) end
end

-- The key of the record and the place of the field of an 'open' with which the description at ARGV[at] begins, or nil.
local function opening(at)
  if ARGV[at + 5] ~= 'open' or numbers[ARGV[at]] == 0 or numbers[ARGV[at + 4]] == 0 then return nil end
  return record_key(ARGV[at + 1], ARGV[at + 2]), at + 7
end

-- The places of the fields that this run has opened.
local opened = {}

-- Opens a record. Returns false when the field has a value.
local function open(kept, at)
  if call('HSETNX', kept, ARGV[at], ARGV[at + 1]) == 0 then return false end
  opened[at] = true
  return true
end

-- Makes one change of a record. Its `count` arguments begin at ARGV[at].
local function change(how, kept, at, count)
  if how == 'set' then
    for from = at, at + count - 1, MANY do
      call('HSET', kept, unpack(ARGV, from, math.min(from + MANY, at + count) - 1))
    end
  elseif how == 'add' then
    call('HSET', kept, '#' .. call('HINCRBY', kept, 'n', '1'), ARGV[at])
  elseif how == 'erase' then
    call('DEL', kept)
  else
    local field, from, to = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    if (call('HGET', kept, field) or '') ~= from then return end
    if to == '' then call('HDEL', kept, field) else call('HSET', kept, field, to) end
  end
end

-- Writes the changes that the description at ARGV[at] has. write_indexes() writes additions to indexes, at the end of the run.
-- Returns the place after the description.
local function record(at)
  local groups = numbers[ARGV[at]]
  at = at + 1
  for _ = 1, groups do
    local store, id, retention, changes = ARGV[at], ARGV[at + 1], ARGV[at + 2], numbers[ARGV[at + 3]]
    -- The key of the record, once a change other than an 'open' was made.
    local kept
    at = at + 4
    for _ = 1, changes do
      local how, count = ARGV[at], numbers[ARGV[at + 1]]
      at = at + 2
      if how == 'index' then
        for place = at, at + count - 1 do add_to_index(store, ARGV[place], id, retention) end
      elseif how == 'unindex' then
        local index = ARGV[at]
        if additions[store] then write_index(store, index) end
        call('ZREM', index_key(store, index), id)
        call('PEXPIRE', index_key(store, index), retention)
      elseif how == 'open' then
        if not opened[at] then open(record_key(store, id), at) end
      else
        kept = kept or record_key(store, id)
        change(how, kept, at, count)
      end
      at = at + count
    end
    if kept then call('PEXPIRE', kept, retention) end
  end
  return at
end

local function write_indexes()
  for store, indexes in pairs(additions) do
    for index in pairs(indexes) do write_index(store, index) end
  end
end
