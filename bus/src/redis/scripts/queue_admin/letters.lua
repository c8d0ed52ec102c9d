-- Lists dead letters, the newest first, without their messages.
-- ARGV[1] queue
-- ARGV[2] time (ms) to go on from, and ARGV[3] number of dead letters of that very time that were passed already, or ''
-- Returns {time, passed, letters}: the place at which it ended (the time is '' at the end), and {id, time (ms), description as
-- the client wrote it} of each.

local queue, from, passed = filled(1), place_of(2, tonumber), tonumber(place_of(3, tonumber)) or 0
ends_at(4)
if from == '' then from = '+inf' end
local found = call('ZREVRANGEBYSCORE', key(queue, 'dead'), from, '-inf', 'WITHSCORES', 'LIMIT', passed, MAX_MESSAGES)
local letters = {}
for i = 1, #found, 2 do
  local id, died = found[i], found[i + 1]
  if died ~= from then from, passed = died, 0 end
  passed = passed + 1
  letters[#letters + 1] = { id, tonumber(died), call('HGET', key(queue, 'letters'), id) or '' }
end
if #letters < MAX_MESSAGES then from = '' end
return { from, tostring(passed), letters }
