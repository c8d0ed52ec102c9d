-- Records, see records.rs. Keys (after the prefix):
--   -record-:L:record:R   hash   "=field" -> value; "#n" -> the n-th entry; "n" -> how many entries were ever added
--   -record-:L:tag:T      zset   records by the time (ms) at which they got the tag T
-- All expire with the retention, which each change renews, but a record that an 'open' alone has made: its expiry begins
-- with its next change. From a tag's set the older records are taken out now and then; whoever reads it leaves them out.

local CHANGES = { open = true, set = true, add = true, swap = true, tag = true, untag = true, erase = true }

-- Checks that changes of records are described from ARGV[at] on: a number of groups, then for each group
--   store, record, retention (ms), number of changes, then for each change its name, the number of arguments that
--   follow, and these:
--     'open'    the name of a field, and the value that it gets if it is empty
--     'set'     the name of a field and its value, once or more
--     'add'     an entry
--     'swap'    the name of a field, what it must hold, what it is to hold ('' is an empty field)
--     'tag'     tags
--     'untag'   a tag
--     'erase'   nothing
-- Returns where the description ends.
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
      elseif how == 'tag' then
        right = count > 0
        for tag = at - count, at - 1 do
          if ARGV[tag] == '' then value(tag) end
        end
      elseif right then
        value(at - 1)
      end
      if not right then refuse(at - count - 1, 'as many arguments as the change ' .. how .. ' has') end
    end
  end
  return at
end

-- What all keys of a store's records and tags begin with, once it was asked for.
local of_records = {}

local function record_key(store, id)
  local before = of_records[store]
  if not before then
    before = PREFIX .. '-record-:' .. store .. ':record:'
    of_records[store] = before
  end
  return before .. id
end

local function tag_key(store, tag)
  return PREFIX .. '-record-:' .. store .. ':tag:' .. tag
end

-- Which records are to get a tag, by its store and name, and its retention: several that get the same one share a command.
local tagged, retentions = {}, {}

-- The most arguments of one command.
local MANY = 1000

local function write_tag(store, tag)
  local records = tagged[store][tag]
  if not records then return end
  tagged[store][tag] = nil
  local kept, retention = tag_key(store, tag), retentions[store]
  call('ZADD', kept, 'NX', unpack(records))
  local number = now_ms()
  if number % 64 == 0 then call('ZREMRANGEBYSCORE', kept, '-inf', number - tonumber(retention)) end
  call('PEXPIRE', kept, retention)
end

local function add_tag(store, tag, record, retention)
  local tags = tagged[store]
  if not tags then
    tags = {}
    tagged[store] = tags
    now_ms()
  end
  retentions[store] = retention
  local records = tags[tag]
  if not records then
    tags[tag] = { now_text, record }
    return
  end
  local count = #records
  records[count + 1], records[count + 2] = now_text, record
  if count >= MANY then write_tag(store, tag) end
end

-- Where the changes that are described from ARGV[at] on begin with an 'open', if they do: its record and the place of its
-- field.
local function opening(at)
  if ARGV[at + 5] ~= 'open' or numbers[ARGV[at]] == 0 or numbers[ARGV[at + 4]] == 0 then return nil end
  return record_key(ARGV[at + 1], ARGV[at + 2]), at + 7
end

-- The places of the fields that were opened by a push.
local opened = {}

-- Opens a record. Returns false when its field has a value already.
local function open(kept, at)
  if call('HSETNX', kept, ARGV[at], ARGV[at + 1]) == 0 then return false end
  opened[at] = true
  return true
end

-- Makes one change of a record, whose `count` arguments begin at ARGV[at].
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

-- Writes the changes that are described from ARGV[at] on. Tags are written by write_tags(), which comes last. Returns where
-- the description ends.
local function record(at)
  local groups = numbers[ARGV[at]]
  at = at + 1
  for _ = 1, groups do
    local store, id, retention, changes = ARGV[at], ARGV[at + 1], ARGV[at + 2], numbers[ARGV[at + 3]]
    -- Once the record is changed by more than an 'open'.
    local kept
    at = at + 4
    for _ = 1, changes do
      local how, count = ARGV[at], numbers[ARGV[at + 1]]
      at = at + 2
      if how == 'tag' then
        for place = at, at + count - 1 do add_tag(store, ARGV[place], id, retention) end
      elseif how == 'untag' then
        local tag = ARGV[at]
        if tagged[store] then write_tag(store, tag) end
        call('ZREM', tag_key(store, tag), id)
        call('PEXPIRE', tag_key(store, tag), retention)
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

local function write_tags()
  for store, tags in pairs(tagged) do
    for tag in pairs(tags) do write_tag(store, tag) end
  end
end
