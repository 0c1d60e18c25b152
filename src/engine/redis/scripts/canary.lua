-- Goes the way of every publication: a write, and word of it.
-- KEYS: a record. ARGV: topic, how to announce, number
redis.call('SET', KEYS[1], ARGV[3], 'PX', 60000)
return redis.call(ARGV[2], ARGV[1], ARGV[3])
