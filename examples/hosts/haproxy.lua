--- What haproxy.cfg serves. Loaded once per thread, each time into a VM of its own.
local hakmem = require "hakmem"

-- install() takes the VM away from HAProxy's allocator, which goes on to count what was there before.
-- So tune.lua.maxmem is shared out: a megabyte of each thread's part stays with HAProxy.
local share = tonumber(os.getenv "LUA_MAXMEM") // tonumber(os.getenv "LUA_THREADS") - 1
assert(hakmem.install { name = "haproxy." .. core.thread, limit = share .. "M" })

local function answer(applet, status, text)
  applet:set_status(status)
  applet:add_header("Content-Type", "text/plain; version=0.0.4")
  applet:add_header("Content-Length", #text)
  applet:start_response()
  applet:send(text)
end

core.register_service("hello", "http", function(applet) answer(applet, 200, "hello from haproxy\n") end)

local function rows(n)
  local list = {}
  for i = 1, n do list[i] = ("row %d of %d: %s\n"):format(i, n, ("*"):rep(i % 50)) end
  return table.concat(list)
end

-- ?rows=N: as many rows as the client asks for. At the limit of the VM the request fails, the thread
-- lives.
core.register_service("rows", "http", function(applet)
  local ok, text = pcall(rows, tonumber(applet.qs:match "rows=(%d+)") or 10)
  answer(applet, ok and 200 or 507, ok and text or tostring(text) .. "\n")
end)

core.register_service("metrics", "http", function(applet) answer(applet, 200, hakmem.report "prometheus") end)
