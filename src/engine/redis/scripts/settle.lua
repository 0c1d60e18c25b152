-- Makes a node's connections those that are listed, whatever they were.
-- ARGV: …, node, then connection, user, info of each
local node, listed = ARGV[3] .. '/', {}
local came, gone = {}, {}
for at = 4, #ARGV, 3 do listed[ARGV[at]] = true end
for _, connection in ipairs(redis.call('HKEYS', connections)) do
  if string.sub(connection, 1, #node) == node and not listed[connection] then gone[#gone + 1] = part(connection) end
end
for at = 4, #ARGV, 3 do
  local new, old = enter(ARGV[at], ARGV[at + 1], ARGV[at + 2])
  came[#came + 1] = new
  gone[#gone + 1] = old
end
return { came, gone }
