-- Checks the types of keys before a script writes to them. Redis keeps the writes of a script that fails later, so these checks
-- come before the first write.

-- The keys that have the right type. The script itself writes right types only.
local fit = {}

local function wrong_type(name)
  return 'WRONGTYPE ' .. name .. ' holds a ' .. call('TYPE', name).ok .. ', which is not the bus\'s: remove it'
end

-- The error of a key of a wrong type, or nil. `count` is a command that fails for wrong types.
local function unfit(name, count)
  if fit[name] then return nil end
  local answer = try(count, name)
  if type(answer) == 'table' and answer.err then return wrong_type(name) end
  fit[name] = true
end

-- The same for a record.
local function unfit_record(name)
  if fit[name] then return nil end
  local added = try('HGET', name, 'n')
  if type(added) == 'table' and added.err then return wrong_type(name) end
  if added and not find(added, '^%d+$') then return 'WRONGTYPE ' .. name .. ' has the field n, which is not a number: remove it' end
  fit[name] = true
end

-- The same for the stream of a queue or partition, and the other keys that append() writes.
local function unfit_stream(queue, partition)
  return unfit(stream_of(queue, partition), 'XLEN')
    or partition ~= '' and (unfit(key(queue, 'partitions'), 'SCARD') or unfit(key(queue, 'hint'), 'XLEN'))
    or nil
end

-- The same for the keys that store() writes. The messages were checked.
local function unfit_messages(at)
  for base = at + 1, skip_messages(at) - 1, WIDTH do
    local queue, after = ARGV[base], numbers[ARGV[base + 2]]
    local wrong
    if after > 0 then wrong = unfit(key(queue, 'delayed'), 'ZCARD') else wrong = unfit_stream(queue, ARGV[base + 1]) end
    if wrong then return wrong end
  end
end

-- The same for the keys that record() writes. The changes were checked. Leaves out an 'open' whose field is ARGV[opening], and
-- records and indexes whose names are values that are still empty; the second result tells whether it left out any of these.
local function unfit_updates(at, opening)
  local groups, left_out = numbers[ARGV[at]], false
  at = at + 1
  for _ = 1, groups do
    local store, id, changes = ARGV[at], ARGV[at + 1], numbers[ARGV[at + 3]]
    at = at + 4
    for _ = 1, changes do
      local how, count = ARGV[at], numbers[ARGV[at + 1]]
      at = at + 2
      local wrong
      if how == 'index' or how == 'unindex' then
        for place = at, at + count - 1 do
          if ARGV[place] == '' then
            left_out = true
          else
            wrong = wrong or unfit(index_key(store, ARGV[place]), 'ZCARD')
          end
        end
      elseif how == 'open' and at == opening then
        -- push_one() checks this key.
      elseif id == '' then
        left_out = true
      else
        wrong = unfit_record(record_key(store, id))
      end
      if wrong then return wrong end
      at = at + count
    end
  end
  return nil, left_out
end
