-- Dead letters, the newest first, without what they hold.
-- ARGV[1] queue
-- ARGV[2] time of death (ms) to go on from, and ARGV[3] how many letters of that very time were passed already, or ''
-- Returns {time, passed, letters}: where it ended (the time is '' when there is nothing more), and {id, died at (ms),
-- why and after how many attempts (as the client wrote it)} each.

local queue, from, passed = filled(1), place_of(2, tonumber), tonumber(place_of(3, tonumber)) or 0
ends_at(4)
if from == '' then from = '+inf' end
local found = call('ZREVRANGEBYSCORE', key(queue, 'dead'), from, '-inf', 'WITHSCORES', 'LIMIT', passed, MOST)
local letters = {}
for i = 1, #found, 2 do
  local id, died = found[i], found[i + 1]
  if died ~= from then from, passed = died, 0 end
  passed = passed + 1
  letters[#letters + 1] = { id, tonumber(died), call('HGET', key(queue, 'letters'), id) or '' }
end
if #letters < MOST then from = '' end
return { from, tostring(passed), letters }
