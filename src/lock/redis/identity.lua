-- KEYS: identity. ARGV: a UUID to start a history with. Returns the one that counts.
redis.call('set', KEYS[1], ARGV[1], 'nx')
return redis.call('get', KEYS[1])
