-- events: a server simulated by a queue of timed events; connections, requests and timers live for
-- mixed times and die out of order.
local limit = tonumber((...)) or 60000

local seed = 77
local function random(n)
  seed = seed * 16807 % 2147483647
  return seed % n + 1
end

local heap, count, serial, now = {}, 0, 0, 0

local function earlier(a, b)
  if a.at ~= b.at then return a.at < b.at end
  return a.serial < b.serial
end

local function schedule(delay, action)
  serial = serial + 1
  local event = { at = now + delay, serial = serial, action = action }
  count = count + 1
  local i = count
  while i > 1 do
    local parent = math.floor(i / 2)
    if not earlier(event, heap[parent]) then break end
    heap[i] = heap[parent]
    i = parent
  end
  heap[i] = event
  return event
end

local function take()
  local first, last = heap[1], heap[count]
  heap[count] = nil
  count = count - 1
  local i = 1
  while i * 2 <= count do
    local child = i * 2
    if child < count and earlier(heap[child + 1], heap[child]) then child = child + 1 end
    if not earlier(heap[child], last) then break end
    heap[i] = heap[child]
    i = child
  end
  if count > 0 then heap[i] = last end
  return first
end

local sessions, served, timeouts, digest = {}, 0, 0, 0

local function respond(session, request)
  local body = {}
  for i = 1, 1 + request.size % 5 do body[i] = request.path .. "?" .. i end
  local headers = { length = request.size, type = "text/html" }
  local response = { status = 200, headers = headers, body = table.concat(body, "&") }
  session.bytes = session.bytes + #response.body
  served = served + 1
  digest = (digest * 31 + #response.body + session.id) % 1000000007
end

local function request(session)
  if sessions[session.id] ~= session then return end
  local r = { path = "/page/" .. random(300), size = random(2000), at = now }
  session.queue[#session.queue + 1] = r
  if session.timer then session.timer.action = nil end
  session.timer = schedule(400, function()
    sessions[session.id] = nil
    timeouts = timeouts + 1
  end)
  schedule(random(60), function()
    local first = table.remove(session.queue, 1)
    if first then respond(session, first) end
  end)
  if random(20) > 1 then schedule(random(300), function() request(session) end) end
end

local function connect()
  local id = random(2000)
  local session = { id = id, queue = {}, bytes = 0, peer = { address = "10.0.0." .. id % 256 } }
  sessions[id] = session
  request(session)
  schedule(random(12), connect)
end

schedule(0, connect)
for _ = 1, limit do
  local event = take()
  now = event.at
  if event.action then event.action() end
end

local bytes = 0
for _, session in pairs(sessions) do bytes = bytes + session.bytes end
print(string.format("checksum %d", (digest + served * 3 + timeouts * 5 + bytes) % 1000000007))
