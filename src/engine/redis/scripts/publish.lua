-- Numbers, stores and announces one publication, or answers what became of an earlier one of the same id.
-- KEYS: numbering, stream, ids, older ids
-- ARGV: topic, how to announce, epoch if it is the first, id, body, history size, history ttl, positions, idempotency (0: none)
local now = clock()
local numbering, stream, ids, older_ids = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local topic, announce, id, body = ARGV[1], ARGV[2], ARGV[4], ARGV[5]
local size, ttl, positions, window = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

local known = window > 0 and (redis.call('HGET', ids, id) or redis.call('HGET', older_ids, id))
if known then
  local epoch, seq, at = string.match(known, '^(%x+) (%d+) (%d+)$')
  if tonumber(at) + window > now then
    return { epoch, seq, 1 }
  end
end

local before = redis.call('HMGET', numbering, 'epoch', 'seq', 'id', 'turned')
local epoch, before_id = before[1], before[3] or ''
if not epoch then
  epoch = ARGV[3]
  before_id = ''
  redis.call('HSET', numbering, 'epoch', epoch)
  redis.call('DEL', stream)
end
local seq = redis.call('HINCRBY', numbering, 'seq', 1)
local number = digits(seq)
redis.call('HSET', numbering, 'id', id)
redis.call('PEXPIRE', numbering, digits(math.max(positions, ttl)))

-- Ids are kept in two halves that take turns, so that forgetting them costs nothing.
if window > 0 then
  local turned = tonumber(before[4] or '0')
  if now - turned >= window then
    if redis.call('EXISTS', ids) == 1 then
      redis.call('RENAME', ids, older_ids)
      redis.call('PEXPIRE', older_ids, digits(window))
    end
    redis.call('HSET', numbering, 'turned', digits(now))
  end
  redis.call('HSET', ids, id, epoch .. ' ' .. number .. ' ' .. digits(now))
  redis.call('PEXPIRE', ids, digits(2 * window))
end

if size > 0 then
  local entry = number .. '-' .. digits(now)
  redis.call('XADD', stream, 'MAXLEN', '=', digits(size), entry, 'before', before_id, 'body', body)
  redis.call('PEXPIRE', stream, digits(ttl))
  -- Once in a while is enough: who reads looks at the time itself.
  if seq % 16 == 0 then expire(stream, now, ttl) end
else
  redis.call('DEL', stream)
end

local head = epoch .. ' ' .. number .. ' ' .. digits(now) .. ' ' .. #before_id .. '\n'
redis.call(announce, topic, head .. before_id .. body)
return { epoch, number, 0 }
