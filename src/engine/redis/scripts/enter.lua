-- ARGV: …, connection, user, info
local came, gone = enter(ARGV[3], ARGV[4], ARGV[5])
return { { came }, { gone } }
