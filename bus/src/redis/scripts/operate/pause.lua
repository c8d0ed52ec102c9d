-- Stops or resumes reservations.
-- ARGV[1] queue   ARGV[2] '1' to stop, '0' to resume
-- Returns nothing of interest.

local queue = ARGV[1]
even_when_full()
if ARGV[2] == '1' then
  redis.call('SET', key(queue, 'paused'), 1)
else
  redis.call('DEL', key(queue, 'paused'))
end
hint(queue)
return 1
