-- Stores messages, and records what is to be recorded with them. Several pushes share a run; each is done whole or not at
-- all, and what one of them meets does not concern the others.
-- ARGV[1] number of kinds, then for each: messages, see check_messages(), and changes of records, see check_updates(), both
-- with empty values, see value(); the number of pushes, and for each of them its values.
-- Returns for each push how many messages were stored, the others had been before; or {'full messages' or 'full bytes',
-- queue}, or {'refused', why a key is not fit}, or {'error', what Redis said}. What is recorded with messages is recorded
-- unless all of them had been stored before. Where the changes begin with an 'open' of a field that has a value, all
-- messages had been stored before.

-- Where each kind is described (its messages come first), where its values go, and where the values of its pushes begin
-- and end.
local kinds, at, only_updates = {}, 2, true
for place = 1, whole(1) do
  holes = {}
  local kind = { at = at, holes = holes }
  only_updates = only_updates and whole(at) == 0
  at = check_updates(check_messages(at))
  if #holes == 0 then refuse(at, 'behind a kind that has values') end
  kind.first = at + 1
  at = at + 1 + whole(at) * #holes
  given(at - 1)
  for filled_in = kind.first, at - 1 do
    if ARGV[filled_in] == '' then refuse(filled_in, 'a value') end
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

local function push_one(at)
  local changes = skip_messages(at)
  local kept, field = opening(changes)
  if kept then opened[field] = nil end
  -- The opening asks for its own key: that is one command less for each build.
  local wrong = unfit_messages(at) or unfit_updates(changes, whole(at) > 0 and field)
  if wrong then return { 'refused', wrong } end
  if kept and whole(at) > 0 then
    local free, answer = pcall(open, kept, field)
    if not free then
      local held = call('TYPE', kept).ok
      if held ~= 'hash' and held ~= 'none' then return { 'refused', wrong_type(kept) } end
      return error(answer, 0)
    end
    if not answer then return 0 end
  end
  local full, of = overfull(at)
  if full then
    take_back_opening(kept, field)
    return { 'full ' .. of, full }
  end
  local updates, stored = store(at)
  if stored > 0 or whole(at) == 0 then record(updates) end
  return stored
end

-- What is only recorded is of work that was accepted already, and the way to more memory is that it ends.
if only_updates then even_when_full() end
local answers = {}
for _, kind in ipairs(kinds) do
  local at, holes = kind.at, kind.holes
  local width = #holes
  for first = kind.first, kind.last, width do
    for place = 1, width do ARGV[holes[place]] = ARGV[first + place - 1] end
    local before = #stored_now
    local done, answer = pcall(push_one, at)
    if not done then
      take_back(before)
      take_back_opening(opening(skip_messages(at)))
      -- Redis 6.2 has the text alone, with the error's code somewhere in it.
      local text = type(answer) == 'table' and answer.err or tostring(answer)
      answer = { 'error', string.match(text, '%-(%u+ .*)') or text }
    end
    answers[#answers + 1] = answer
  end
end
write_tags()
return answers
