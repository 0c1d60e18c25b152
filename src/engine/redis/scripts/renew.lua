-- Begins a new epoch where writes were lost, unless somebody has done so. The numbers go on.
-- KEYS: numbering. ARGV: the epoch that cannot be trusted, the new one
if redis.call('HGET', KEYS[1], 'epoch') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'id')
