-- Numbers, stores and announces publications of one channel in their order, or answers what became of earlier ones of the
-- same ids.
-- KEYS: numbering, stream, ids, older ids
-- ARGV: topic, how to announce, epoch if it is the first, history size, history ttl, positions, idempotency, and then of
--       each: id, whether it is recognised if it comes again (1), body
local now = clock()
local numbering, stream, ids, older_ids = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local topic, announce, new_epoch = ARGV[1], ARGV[2], ARGV[3]
local size, ttl, positions, window = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local function known(id)
  local known = redis.call('HGET', ids, id) or redis.call('HGET', older_ids, id)
  if not known then return nil end
  local epoch, seq, at = string.match(known, '^(%x+) (%d+) (%d+)$')
  if tonumber(at) + window > now then return { epoch, seq, 1 } end
  return nil
end

-- Ids are kept in two halves that take turns, so that forgetting them costs nothing.
local function recognise(id, epoch, number, turned)
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

local function publish(id, is_recognised, body)
  local before = is_recognised and known(id)
  if before then return before end
  local at = redis.call('HMGET', numbering, 'epoch', 'id', 'turned')
  local epoch, before_id = at[1], at[2] or ''
  if not epoch then
    epoch, before_id = new_epoch, ''
    redis.call('HSET', numbering, 'epoch', epoch)
    redis.call('DEL', stream)
  end
  local seq = redis.call('HINCRBY', numbering, 'seq', 1)
  local number = digits(seq)
  redis.call('HSET', numbering, 'id', id)
  if is_recognised then recognise(id, epoch, number, tonumber(at[3] or '0')) end
  if size > 0 then
    local entry = number .. '-' .. digits(now)
    redis.call('XADD', stream, 'MAXLEN', '=', digits(size), entry, 'before', before_id, 'body', body)
    -- Once in a while is enough: who reads looks at the time itself.
    if seq % 16 == 0 then expire(stream, now, ttl) end
  end
  local head = epoch .. ' ' .. number .. ' ' .. digits(now) .. ' ' .. #before_id .. '\n'
  redis.call(announce, topic, head .. before_id .. body)
  return { epoch, number, 0 }
end

local answers = {}
for at = 8, #ARGV, 3 do
  answers[#answers + 1] = publish(ARGV[at], ARGV[at + 1] == '1', ARGV[at + 2])
end
redis.call('PEXPIRE', numbering, digits(math.max(positions, ttl)))
if size > 0 then redis.call('PEXPIRE', stream, digits(ttl)) else redis.call('DEL', stream) end
return answers
