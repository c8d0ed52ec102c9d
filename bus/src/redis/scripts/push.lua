-- Stores messages, and records what is to be recorded with them. Several pushes share a run; each is done whole or not at
-- all, and what one of them meets does not concern the others.
-- ARGV[1] number of pushes, then for each: messages, see check_messages(), and changes of records, see check_facts()
-- Returns for each push how many messages were stored, the others had been before; or {'full', queue}, or {'error', what
-- Redis said}. What is recorded with messages is recorded unless all of them had been stored before. Where the changes
-- begin with an 'open' of a slot that has a value, all messages had been stored before.

-- Where each push is described: its messages come first.
local pushes, ends, only_facts = {}, 2, true
for place = 1, whole(1) do
  pushes[place] = ends
  only_facts = only_facts and whole(ends) == 0
  ends = check_facts(check_messages(ends))
end
ends_at(ends)

local function take_back_opening(kept, field)
  if kept and opened[field] then
    opened[field] = nil
    try('HDEL', kept, ARGV[field])
  end
end

local function push_one(at)
  local kept, field = opening(skip_messages(at))
  if kept and whole(at) > 0 and not open(kept, field) then return 0 end
  local full = overfull(at)
  if full then
    take_back_opening(kept, field)
    return { 'full', full }
  end
  local facts, stored = store(at)
  if stored > 0 or whole(at) == 0 then record(facts) end
  return stored
end

-- What is only recorded is of work that was accepted already, and the way to more memory is that it ends.
if only_facts then even_when_full() end
local answers = {}
for place, at in ipairs(pushes) do
  local before = #stored_now
  local done, answer = pcall(push_one, at)
  if not done then
    take_back(before)
    take_back_opening(opening(skip_messages(at)))
    -- Redis 6.2 has the text alone, with the error's code somewhere in it.
    local text = type(answer) == 'table' and answer.err or tostring(answer)
    answer = { 'error', string.match(text, '%-(%u+ .*)') or text }
  end
  answers[place] = answer
end
write_tags()
return answers
