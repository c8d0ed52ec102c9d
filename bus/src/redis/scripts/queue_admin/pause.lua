-- Pauses or resumes reservations.
-- ARGV[1] queue   ARGV[2] '1' to pause, '0' to resume
-- Returns 1.

local queue, paused = filled(1), one_of(2, { ['0'] = true, ['1'] = true })
ends_at(3)
even_when_full()
if paused == '1' then
  call('SET', key(queue, 'paused'), 1)
else
  call('DEL', key(queue, 'paused'))
end
hint(queue)
return 1
