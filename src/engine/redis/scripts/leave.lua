-- ARGV: …, connection
return { {}, { part(ARGV[3]) } }
