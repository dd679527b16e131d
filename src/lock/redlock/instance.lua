-- What the scripts that run on an instance share.

-- The instance's own UUID, if it is one of the set. One that has lost its data has none, and does not vote.
local function member(key, members)
    local instance = redis.call('get', key)
    return instance and string.find(members, instance, 1, true) and instance
end

-- How far the instance has counted.
local function counted(key)
    local last = redis.call('get', key) or '0'
    if not string.match(last, '^%d+$') then
        error('the counter of this fence is not a number')
    end
    return last
end

-- Gives the lock a ballot, if it is the holder's and has that ballot already, or has none and the instance
-- has not counted so far.
local function number(lock, counter, holder, ballot)
    local value = redis.call('get', lock)
    if not value then
        return false
    end
    local held_by, sequence, attempt, ttl, label = read(value)
    if held_by ~= holder then
        return false
    end
    if sequence == ballot then
        return true
    end
    if not below(counted(counter), ballot) then
        return false
    end
    redis.call('set', counter, ballot)
    redis.call('set', lock, write(holder, ballot, attempt, ttl, label), 'keepttl')
    return true
end
