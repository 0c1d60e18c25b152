-- Reads a channel's head, and what it keeps: the newest, or what came after a number.
-- KEYS: numbering, stream
-- ARGV: epoch if there is none, after which number (empty: the newest), at most how many, history size (empty: as it is),
--       history ttl, positions, at most how many bytes
local now = clock()
local numbering, stream = KEYS[1], KEYS[2]
local since, limit, size, ttl = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local positions, most = tonumber(ARGV[6]), tonumber(ARGV[7])

local head = redis.call('HMGET', numbering, 'epoch', 'seq', 'id')
if not head[1] then
  head = { ARGV[1], '0', '' }
  redis.call('HSET', numbering, 'epoch', head[1], 'seq', '0')
  redis.call('DEL', stream)
end
redis.call('PEXPIRE', numbering, digits(math.max(positions, ttl)))
local answer = { head[1], head[2] or '0', head[3] or '' }

-- A rule that keeps less than before is obeyed at once.
if size then
  if size == 0 then
    redis.call('DEL', stream)
  else
    redis.call('XTRIM', stream, 'MAXLEN', '=', digits(size))
    expire(stream, now, ttl)
  end
end
if limit == 0 then return answer end

local found, bytes = {}, 0
-- In small steps: entries are as large as their publishers made them.
local function collect(step, from)
  while #found < limit and bytes < most do
    local entries = step(from, math.min(16, limit - #found))
    if #entries == 0 then return end
    for _, entry in ipairs(entries) do
      if bytes < most then
        found[#found + 1] = { entry[1], entry[2][2], entry[2][4] }
        bytes = bytes + #entry[2][4] + 64
        from = '(' .. entry[1]
      end
    end
  end
end
if since then
  collect(function(from, count)
    return redis.call('XRANGE', stream, from, '+', 'COUNT', count)
  end, digits(since) .. '-0')
else
  collect(function(from, count)
    return redis.call('XREVRANGE', stream, from, '-', 'COUNT', count)
  end, '+')
end
answer[4] = found
return answer
