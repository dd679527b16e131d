-- First round: takes the lock on this instance if it is free, and tells how far this instance has counted.
-- KEYS: lock, counter, instance. ARGV: members, holder, attempt, ttl in ms, label.
-- Returns {1, instance, counter, sequence or 0}, {0, instance, time left in ms or -1}, or {-1}: no member.
local instance = member(KEYS[3], ARGV[1])
if not instance then
    return {-1}
end
local value = redis.call('get', KEYS[1])
local holder, sequence, attempt
if value then
    holder, sequence, attempt = read(value)
    if holder ~= ARGV[2] then
        return {0, instance, redis.call('pttl', KEYS[1])}
    end
end
local last = counted(KEYS[2])
-- The latest attempt owns the lock: an earlier one that is undone late must not take it away.
if not attempt or attempt < ARGV[3] then
    attempt = ARGV[3]
end
redis.call('set', KEYS[1], write(ARGV[2], sequence or '0', attempt, ARGV[4], ARGV[5]), 'px', ARGV[4])
return {1, instance, last, sequence or '0'}
