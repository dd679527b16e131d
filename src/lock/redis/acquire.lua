-- Takes the lock and counts, or says for how long it is still held. Asked again by the holder of the lock, it
-- gives the same sequence and a new term.
-- KEYS: lock, counter, identity. ARGV: holder, attempt, ttl in ms, label, floor, a UUID to start a history with.
-- Returns {1, sequence, identity}, or {0, time left in ms or -1, 1 if fencegate holds it}.
local value = redis.call('get', KEYS[1])
local holder, sequence, attempt
if value then
    holder, sequence, attempt = read(value)
    if holder ~= ARGV[1] then
        return {0, redis.call('pttl', KEYS[1]), holder and 1 or 0}
    end
end

local identity = redis.call('get', KEYS[3])
if not identity then
    identity = ARGV[6]
    redis.call('set', KEYS[3], identity)
end

-- Whatever can fail comes before the lock is taken: a script's writes are not undone when it fails.
if not value then
    local last = redis.call('get', KEYS[2])
    if last and not string.match(last, '^%d+$') then
        return redis.error_reply('ERR the counter of this fence is not a number')
    end
    if not last or below(last, ARGV[5]) then
        redis.call('set', KEYS[2], ARGV[5])
    end
    redis.call('incr', KEYS[2])
    sequence = redis.call('get', KEYS[2])
end
-- The latest attempt owns the lock: an earlier one that is undone late must not take it away.
if not attempt or attempt < ARGV[2] then
    attempt = ARGV[2]
end
redis.call('set', KEYS[1], write(ARGV[1], sequence, attempt, ARGV[3], ARGV[4]), 'px', ARGV[3])
return {1, sequence, identity}
