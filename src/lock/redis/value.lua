-- The value of a lock's key, as all scripts read and write it:
-- fencegate:<SHA-256 of the holder>:<sequence>:<attempt>:<ttl in ms>:<label>
local function read(value)
    return string.match(value, '^fencegate:(%x+):(%d+):(%d+):(%d+):(.*)$')
end

local function write(holder, sequence, attempt, ttl, label)
    return table.concat({'fencegate', holder, sequence, attempt, ttl, label}, ':')
end

-- Whether one decimal number is smaller than the other. Lua would make doubles of them, which end at 2^53.
local function below(a, b)
    if #a ~= #b then
        return #a < #b
    end
    return a < b
end
