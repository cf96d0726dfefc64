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

local function parameter(applet, name) return tonumber(applet.qs:match(name .. "=(%d+)")) or 10 end

core.register_service("hello", "http", function(applet) answer(applet, 200, "hello from haproxy\n") end)

-- ?rows=N: as many rows as the client asks for, in 1 MiB of memory.
core.register_service("rows", "http", function(applet)
  local n = parameter(applet, "rows")
  local text, message, code = hakmem.with_limit({ hard = "1M" }, function()
    local rows = {}
    for i = 1, n do rows[i] = ("row %d of %d: %s\n"):format(i, n, ("*"):rep(i % 50)) end
    return table.concat(rows)
  end)
  answer(applet, text and 200 or code == "QUOTA" and 413 or 503, text or message .. "\n")
end)

-- ?kb=N: no limit but that of the VM. The request fails, the thread lives.
core.register_service("greedy", "http", function(applet)
  local kb = parameter(applet, "kb")
  local ok, result = pcall(function()
    local list = {}
    for i = 1, kb do list[i] = ("%8d"):format(i):rep(127) end
    return #list .. "\n"
  end)
  answer(applet, ok and 200 or 507, ok and result or tostring(result) .. "\n")
end)

core.register_service("metrics", "http", function(applet) answer(applet, 200, hakmem.report "prometheus") end)
