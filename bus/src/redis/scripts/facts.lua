-- Records, see ledger.rs. Keys (after the prefix):
--   -ledger-:L:record:R   hash   "=slot" -> value; "#n" -> the n-th entry; "n" -> how many entries were ever added
--   -ledger-:L:tag:T      zset   records by the time (ms) at which they got the tag T
-- All expire with the retention, which each change renews; from a tag's set the older records are taken out.

-- Writes the changes described from ARGV[at] on, if they are `wanted`: a count, then for each
--   ledger, record, how, name (of the slot or tag), retention (ms), value, the value that is swapped for it.
-- An empty value is none.
-- Returns where the description ends.
local function record(at, wanted)
  local count = tonumber(ARGV[at])
  local ends = at + 1 + count * 7
  if not wanted then return ends end
  for base = at + 1, ends - 1, 7 do
    local ledger, id, how = '-ledger-:' .. ARGV[base], ARGV[base + 1], ARGV[base + 2]
    local name, retention, value = ARGV[base + 3], tonumber(ARGV[base + 4]), ARGV[base + 5]
    local kept = key(ledger, 'record:' .. id)
    if how == 'tag' or how == 'untag' then
      kept = key(ledger, 'tag:' .. name)
      if how == 'tag' then
        redis.call('ZADD', kept, 'NX', now_ms(), id)
      else
        redis.call('ZREM', kept, id)
      end
      redis.call('ZREMRANGEBYSCORE', kept, '-inf', now_ms() - retention)
    elseif how == 'add' then
      redis.call('HSET', kept, '#' .. redis.call('HINCRBY', kept, 'n', 1), value)
    elseif how == 'set' then
      redis.call('HSET', kept, '=' .. name, value)
    elseif how == 'swap' then
      if (redis.call('HGET', kept, '=' .. name) or '') == ARGV[base + 6] then
        if value == '' then redis.call('HDEL', kept, '=' .. name) else redis.call('HSET', kept, '=' .. name, value) end
      end
    else
      redis.call('DEL', kept)
    end
    redis.call('PEXPIRE', kept, retention)
  end
  return ends
end
