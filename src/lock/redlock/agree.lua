-- Writes down who is in the set, unless that is written, or this instance is none of them.
-- KEYS: instance, members. ARGV: members. Returns the members that are written, or ''.
if member(KEYS[1], ARGV[1]) then
    redis.call('set', KEYS[2], ARGV[1], 'nx')
end
return redis.call('get', KEYS[2]) or ''
