-- The load that wrk makes: fenced writes of records.
--
--   wrk ... -s write.lua URL -- TARGETS DELAY
--
-- TARGETS is a file with a path and a token on each line; each of two threads takes half of them, shuffled, so that no
-- two requests that are under way at once are for one record unless there is only one. DELAY is the longest pause of a
-- connection between two requests, in milliseconds.

local threads = 0
local requests = {}
local next_request = 0
local longest_delay = 0

function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(args)
  local lines = {}
  for line in io.lines(args[1]) do lines[#lines + 1] = line end
  longest_delay = tonumber(args[2])
  if longest_delay == 0 then delay = nil end
  local body = '{"invoice":17,"customer":"c-000017","amount":"123.45","currency":"EUR","state":"paid","by":"worker-7"}'
  for i, line in ipairs(lines) do
    if #lines == 1 or i % 2 == id % 2 then
      local path, token = line:match("^(%S+) (%S+)$")
      local headers = { ["Fencing-Token"] = token, ["Content-Type"] = "application/json" }
      requests[#requests + 1] = wrk.format("PUT", path, headers, body)
    end
  end
  math.randomseed(4711 + id)
  for i = #requests, 2, -1 do
    local j = math.random(i)
    requests[i], requests[j] = requests[j], requests[i]
  end
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end

function delay()
  return math.random(0, longest_delay)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n",
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
