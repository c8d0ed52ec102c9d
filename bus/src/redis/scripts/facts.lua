-- Records, see ledger.rs. Keys (after the prefix):
--   -ledger-:L:record:R   hash   "=slot" -> value; "#n" -> the n-th entry; "n" -> how many entries were ever added
--   -ledger-:L:tag:T      zset   records by the time (ms) at which they got the tag T
-- All expire with the retention, which each change renews. From a tag's set the older records are taken out now and then;
-- whoever reads it leaves them out.

local CHANGES = { open = true, set = true, add = true, swap = true, tag = true, untag = true, erase = true }

-- Checks that changes of records are described from ARGV[at] on: a number of groups, then for each group
--   ledger, record, retention (ms), number of changes, then for each change its name, the number of arguments that
--   follow, and these:
--     'open'    the field of a slot, and the value that it gets if it is empty
--     'set'     the field of a slot and its value, once or more
--     'add'     an entry
--     'swap'    the field of a slot, what it must hold, what it is to hold ('' is an empty slot)
--     'tag'     tags
--     'untag'   a tag
--     'erase'   nothing
-- Returns where the description ends.
local function check_facts(at)
  local groups = whole(at)
  at = at + 1
  for _ = 1, groups do
    filled(at)
    filled(at + 1)
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
        for field = at - count, at - 1, 2 do filled(field) end
      elseif how == 'open' then
        right = count == 2 and filled(at - 2) and filled(at - 1)
      elseif how == 'swap' then
        right = count == 3 and filled(at - 3)
      elseif how == 'erase' then
        right = count == 0
      elseif how == 'tag' then
        right = count > 0
      elseif right then
        filled(at - 1)
      end
      if not right then refuse(at - count - 1, 'as many arguments as the change ' .. how .. ' has') end
    end
  end
  return at
end

-- Which records are to get a tag, by its key, and its retention: several that get the same one share a command.
local tagged, retentions = {}, {}

-- The most arguments of one command.
local MANY = 1000

local function write_tag(kept)
  local records = tagged[kept]
  if not records then return end
  tagged[kept] = nil
  local number, text = now_ms()
  local retention = retentions[kept]
  if type(records) == 'table' then
    call('ZADD', kept, 'NX', unpack(records))
  else
    call('ZADD', kept, 'NX', text, records)
  end
  if number % 64 == 0 then call('ZREMRANGEBYSCORE', kept, '-inf', number - tonumber(retention)) end
  call('PEXPIRE', kept, retention)
end

local function tag(kept, record, retention)
  local records, _, text = tagged[kept], now_ms()
  if not records then
    tagged[kept], retentions[kept] = record, retention
    return
  end
  if type(records) ~= 'table' then
    records = { text, records }
    tagged[kept] = records
  end
  local count = #records
  records[count + 1], records[count + 2] = text, record
  if count >= MANY then write_tag(kept) end
end

local function record_key(ledger, id)
  return PREFIX .. '-ledger-:' .. ledger .. ':record:' .. id
end

-- Where the changes that are described from ARGV[at] on begin with an 'open', if they do: its record and the place of its
-- field.
local function opening(at)
  if ARGV[at + 5] ~= 'open' or numbers[ARGV[at]] == 0 or numbers[ARGV[at + 4]] == 0 then return nil end
  return record_key(ARGV[at + 1], ARGV[at + 2]), at + 7
end

-- The places of the fields that were opened by a push.
local opened = {}

-- Opens a record. Returns false when its slot has a value already.
local function open(kept, at)
  if call('HSETNX', kept, ARGV[at], ARGV[at + 1]) == 0 then return false end
  opened[at] = true
  return true
end

-- Makes one change of a record, whose `count` arguments begin at ARGV[at].
local function change(how, kept, at, count)
  if how == 'open' then
    if not opened[at] then open(kept, at) end
  elseif how == 'set' then
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
    local ledger, id, retention, changes = ARGV[at], ARGV[at + 1], ARGV[at + 2], numbers[ARGV[at + 3]]
    local kept, touched = record_key(ledger, id), false
    local tags = PREFIX .. '-ledger-:' .. ledger .. ':tag:'
    at = at + 4
    for _ = 1, changes do
      local how, count = ARGV[at], numbers[ARGV[at + 1]]
      at = at + 2
      if how == 'tag' then
        for place = at, at + count - 1 do tag(tags .. ARGV[place], id, retention) end
      elseif how == 'untag' then
        local tag = tags .. ARGV[at]
        write_tag(tag)
        call('ZREM', tag, id)
        call('PEXPIRE', tag, retention)
      else
        touched = true
        change(how, kept, at, count)
      end
      at = at + count
    end
    if touched then call('PEXPIRE', kept, retention) end
  end
  return at
end

local function write_tags()
  for kept in pairs(tagged) do write_tag(kept) end
end
