-- Frees the lock, if this acquisition, or this attempt at one, still has it, and tells those who wait for it.
-- KEYS: lock. ARGV: holder, sequence or '', attempt or '', channel. Returns how many listened, or -1.
local value = redis.call('get', KEYS[1])
if not value then
    return -1
end
local holder, sequence, attempt = read(value)
if holder ~= ARGV[1] then
    return -1
end
-- Sequence 0 is a lock that was taken and not yet numbered (redlock), so it is no later acquisition.
if ARGV[2] ~= '' and sequence ~= ARGV[2] and sequence ~= '0' then
    return -1
end
if ARGV[3] ~= '' and attempt ~= ARGV[3] then
    return -1
end
redis.call('del', KEYS[1])

-- Without the right to publish the lock is free all the same: waiters also ask from time to time.
local listeners = redis.pcall('pubsub', 'numsub', ARGV[4])
local count = listeners.err and 0 or listeners[2]
if count > 0 then
    redis.pcall('publish', ARGV[4], count)
end
return count
