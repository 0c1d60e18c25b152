-- Renews a node's lease, and claims nodes whose lease ran out, for the time it takes to clear up after them.
-- KEYS: leases (node -> when it ends). ARGV: node, lease, whether it may claim
local now, lease = clock(), tonumber(ARGV[2])
local is_new = redis.call('ZADD', KEYS[1], digits(now + lease), ARGV[1])
local ended = {}
if ARGV[3] == '1' then
  ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', digits(now), 'LIMIT', 0, 16)
  for _, node in ipairs(ended) do redis.call('ZADD', KEYS[1], digits(now + 3 * lease), node) end
end
return { is_new, ended }
