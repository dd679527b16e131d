-- KEYS: lock. Returns {1, holder, sequence, label, time left in ms}, {0} for a free lock, or {2, time left in ms}
-- for one that fencegate did not take.
local value = redis.call('get', KEYS[1])
if not value then
    return {0}
end
local left = redis.call('pttl', KEYS[1])
local holder, sequence, _, _, label = read(value)
if not holder then
    return {2, left}
end
return {1, holder, sequence, label, left}
