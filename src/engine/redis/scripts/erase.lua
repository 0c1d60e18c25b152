-- Puts what is left of some entries in their place; a stream's entries cannot be changed, so it is written anew.
-- KEYS: stream. ARGV: entry id, new body, entry id, new body, …
local stream, instead, count = KEYS[1], {}, 0
for at = 1, #ARGV, 2 do instead[ARGV[at]] = ARGV[at + 1] end
local entries, left = redis.call('XRANGE', stream, '-', '+'), redis.call('PTTL', stream)
for _, entry in ipairs(entries) do
  if instead[entry[1]] then count = count + 1 end
end
if count == 0 then return 0 end
redis.call('DEL', stream)
for _, entry in ipairs(entries) do
  redis.call('XADD', stream, entry[1], 'before', entry[2][2], 'body', instead[entry[1]] or entry[2][4])
end
if left > 0 then redis.call('PEXPIRE', stream, left) end
return count
