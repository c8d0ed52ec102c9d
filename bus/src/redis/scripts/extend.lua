-- Renews a lease.
-- ARGV[1] queue   ARGV[2] partition   ARGV[3] entry   ARGV[4] consumer   ARGV[5] delivery
-- Returns 1, or 0 when the lease is lost.

local stream, entry, consumer, delivery = stream_of(filled(1), given(2)), entry_name(3), filled(4), positive(5)
ends_at(6)
if not has_lease(stream, entry, consumer, delivery) then return 0 end
call('XCLAIM', stream, GROUP, consumer, 0, entry, 'JUSTID')
return 1
