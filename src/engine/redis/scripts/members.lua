-- Who is there: at most so many, in order of their ids, and how many in all.
-- ARGV: limit
local answer = { redis.call('ZCARD', users) }
local limit = tonumber(ARGV[1])
if limit == 0 then return answer end
for _, user in ipairs(redis.call('ZRANGE', users, 0, limit - 1)) do
  answer[#answer + 1] = { user, redis.call('HGET', infos, user) or '' }
end
return answer
