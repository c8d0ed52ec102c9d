-- Stores messages and writes their record updates. Several pushes share a run; each is done whole or not at all, and the failure
-- of one does not concern the others.
-- ARGV[1] number of kinds, then for each: messages, see check_messages(), and changes of records, see check_updates(), both
-- with empty values, see value(); the number of pushes, and for each of them its values.
-- Returns for each push the number of messages that were stored, the others were duplicates; or {'full messages' or
-- 'full bytes', queue}, or {'refused', error of a key of a wrong type}, or {'error', error of Redis}. Updates are written unless
-- all messages of the push are duplicates. When the changes begin with an 'open' of a field that has a value, all messages are.

-- For each kind: the place of its description (messages come first), the places of the values in it, and the places of the
-- first and the last value of its pushes.
local kinds, at, only_updates = {}, 2, true
for place = 1, whole(1) do
  holes = {}
  local kind = { at = at, holes = holes }
  only_updates = only_updates and whole(at) == 0
  at = check_updates(check_messages(at))
  if #holes == 0 then refuse(at, 'behind a kind that has values') end
  kind.first, kind.pushes, kind.bytes = at + 1, whole(at), 0
  at = at + 1 + whole(at) * #holes
  given(at - 1)
  for filled_in = kind.first, at - 1 do
    if ARGV[filled_in] == '' then refuse(filled_in, 'a value') end
    kind.bytes = kind.bytes + #ARGV[filled_in]
  end
  kind.last = at - 1
  kinds[place] = kind
end
ends_at(at)

local function take_back_opening(kept, field)
  if kept and opened[field] then
    opened[field] = nil
    try('HDEL', kept, ARGV[field])
  end
end

-- Whether there is room for all pushes of a kind.
local function has_room(kind)
  local count = numbers[ARGV[kind.at]]
  for base = kind.at + 1, kind.at + count * WIDTH, WIDTH do
    local queue, bound, bytes = ARGV[base], numbers[ARGV[base + 5]], numbers[ARGV[base + 6]]
    if bound > 0 and count_of(queue) + count * kind.pushes > bound then return false end
    if bytes > 0 and size_of(queue, bytes, kind.bytes) + kind.bytes >= bytes then return false end
  end
  return true
end

-- Makes the checks that are common to all pushes of a kind, which differ only in their values. When it is uncertain whether
-- there is room for all, each push checks that.
local function check_kind(kind)
  local at, changes = kind.at, skip_messages(kind.at)
  local _, field = opening(changes)
  -- push_one() checks the key of the opening: one command less for each build.
  kind.opening = numbers[ARGV[at]] > 0 and field
  kind.wrong = unfit_messages(at)
  if not kind.wrong then kind.wrong, kind.left_out = unfit_updates(changes, kind.opening) end
  if not kind.wrong then
    local asked, room = pcall(has_room, kind)
    kind.has_room = asked and room
  end
end

local function push_one(kind)
  local at = kind.at
  local changes = skip_messages(at)
  local kept, field = opening(changes)
  if kept then opened[field] = nil end
  local wrong = kind.wrong
  if kind.left_out then wrong = unfit_updates(changes, kind.opening) end
  if wrong then return { 'refused', wrong } end
  if kind.opening then
    local free, answer = pcall(open, kept, field)
    if not free then
      local held = call('TYPE', kept).ok
      if held ~= 'hash' and held ~= 'none' then return { 'refused', wrong_type(kept) } end
      return error(answer, 0)
    end
    if not answer then return 0 end
  end
  if not kind.has_room then
    local full, of = overfull(at)
    if full then
      take_back_opening(kept, field)
      return { 'full ' .. of, full }
    end
  end
  local updates, stored = store(at)
  if stored > 0 or whole(at) == 0 then record(updates) end
  return stored
end

-- Updates without messages are of accepted work, and memory is freed when that is done.
if only_updates then even_when_full() end
local answers = {}
for _, kind in ipairs(kinds) do
  local at, holes = kind.at, kind.holes
  local width = #holes
  check_kind(kind)
  for first = kind.first, kind.last, width do
    for place = 1, width do ARGV[holes[place]] = ARGV[first + place - 1] end
    local before = #stored_now
    local done, answer = pcall(push_one, kind)
    if not done then
      take_back(before)
      take_back_opening(opening(skip_messages(at)))
      -- Redis 6.2 has only a text, which contains the error's code.
      local text = type(answer) == 'table' and answer.err or tostring(answer)
      answer = { 'error', string.match(text, '%-(%u+ .*)') or text }
    end
    answers[#answers + 1] = answer
  end
end
write_indexes()
return answers
