-- What the scripts about members begin with.
-- KEYS: connections (node/connection -> user), users (sorted), counts (user -> connections), infos (user -> JSON)
-- ARGV: topic, how to announce, …
local connections, users, counts, infos = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local function tell(sign, user, info)
  local head = sign .. redis.call('ZCARD', users) .. ' ' .. #user .. '\n'
  redis.call(ARGV[2], ARGV[1], head .. user .. info)
end

-- Takes a connection out. The answer is the user who is gone with it.
local function part(connection)
  local user = redis.call('HGET', connections, connection)
  if not user then return nil end
  redis.call('HDEL', connections, connection)
  if redis.call('HINCRBY', counts, user, -1) > 0 then return nil end
  local info = redis.call('HGET', infos, user) or ''
  redis.call('HDEL', counts, user)
  redis.call('HDEL', infos, user)
  redis.call('ZREM', users, user)
  tell('-', user, info)
  return user
end

-- Puts a connection in. The answers are the user who came with it, and the one who is gone from it.
local function enter(connection, user, info)
  local before, gone, came = redis.call('HGET', connections, connection), nil, nil
  if before ~= user then
    -- Nobody becomes somebody else on a live connection; if one did, the old user is not there any more.
    if before then gone = part(connection) end
    redis.call('HSET', connections, connection, user)
    if redis.call('HINCRBY', counts, user, 1) == 1 then
      redis.call('ZADD', users, 0, user)
      came = user
    end
  end
  local known = redis.call('HGET', infos, user) or ''
  if known ~= info then
    if info == '' then redis.call('HDEL', infos, user) else redis.call('HSET', infos, user, info) end
  end
  if came or known ~= info then tell('+', user, info) end
  return came, gone
end
