-- What the other scripts begin with.

-- Milliseconds since the Unix epoch, by this server's clock: the only one all nodes agree on.
local function clock()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
end

-- Numbers as digits: Lua would write large ones as 1e+15.
local function digits(number)
  return string.format('%.0f', number)
end

-- An entry's id is `seq-milliseconds`.
local function parts(entry_id)
  local seq, at = string.match(entry_id, '^(%d+)-(%d+)$')
  return tonumber(seq), tonumber(at)
end

-- Takes away what has outlived its time. Entries are in the order of their numbers and of their times.
local function expire(stream, now, ttl)
  while true do
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 8)
    if #oldest == 0 then return end
    local alive = nil
    for _, entry in ipairs(oldest) do
      local seq, at = parts(entry[1])
      if at + ttl > now then
        alive = entry[1]
        break
      end
    end
    if alive == oldest[1][1] then return end
    if alive then
      redis.call('XTRIM', stream, 'MINID', alive)
      return
    end
    local seq = parts(oldest[#oldest][1])
    redis.call('XTRIM', stream, 'MINID', digits(seq + 1) .. '-0')
  end
end
