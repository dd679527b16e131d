-- Makes the lock last another TTL on this instance, if this very acquisition still has it.
-- KEYS: lock, counter, instance. ARGV: members, holder, ballot.
-- Returns {1, instance, ttl in ms}, {0, instance} if it has not, or {-1}: no member.
local instance = member(KEYS[3], ARGV[1])
if not instance then
    return {-1}
end
-- An instance that took the lock and missed the second round learns its number now.
if not number(KEYS[1], KEYS[2], ARGV[2], ARGV[3]) then
    return {0, instance}
end
local _, _, _, ttl = read(redis.call('get', KEYS[1]))
redis.call('pexpire', KEYS[1], ttl)
return {1, instance, ttl}
