-- Stores a value and removes it again. Fails when messages cannot be stored.
-- ARGV[1] consumer

local probe = key('-probe-', filled(1))
ends_at(2)
call('SET', probe, '1', 'PX', '60000')
call('DEL', probe)
return 1
