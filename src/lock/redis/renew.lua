-- Makes the lock last another TTL, if this very acquisition still has it.
-- KEYS: lock. ARGV: holder, sequence. Returns the TTL in ms, or 0.
local value = redis.call('get', KEYS[1])
if not value then
    return 0
end
local holder, sequence, _, ttl = read(value)
if holder ~= ARGV[1] or sequence ~= ARGV[2] then
    return 0
end
redis.call('pexpire', KEYS[1], ttl)
return tonumber(ttl)
