-- Renews a lease.
-- ARGV[1] queue   ARGV[2] lane   ARGV[3] entry   ARGV[4] consumer   ARGV[5] delivery
-- Returns 1, or 0 when the lease is lost.

local stream = stream_of(ARGV[1], ARGV[2])
if not holds(stream, ARGV[3], ARGV[4], ARGV[5]) then return 0 end
redis.call('XCLAIM', stream, GROUP, ARGV[4], 0, ARGV[3], 'JUSTID')
return 1
