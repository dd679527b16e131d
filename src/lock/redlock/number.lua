-- Second round: writes the ballot, if the lock is still this holder's, and only upward.
-- KEYS: lock, counter, instance. ARGV: members, holder, ballot.
-- Returns {1, instance}, {0, instance} if it is refused, or {-1}: no member.
local instance = member(KEYS[3], ARGV[1])
if not instance then
    return {-1}
end
return {number(KEYS[1], KEYS[2], ARGV[2], ARGV[3]) and 1 or 0, instance}
