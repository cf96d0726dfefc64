-- install.lua - a program puts itself onto an arena and bounds what one request may take.
-- No second VM: all share their tables. A limit meters what a function allocates, not what it owns, so it
-- stops runaways. Strangers get a VM of their own: plugin.lua.

local hakmem = require "hakmem"

local arena, why = hakmem.install { name = "service", limit = "32M" }
assert(arena, why) -- nil and a reason where the host's allocator has to stay
assert(hakmem.current() == arena)

local cache = {} -- what all requests share

local handlers = {
  greet = function(name) return "hello, " .. name end,
  remember = function(key)
    cache[key] = key:rep(1000) -- outlives the request, in the arena
    return #cache[key] .. " bytes kept"
  end,
  expand = function(n)
    local rows = {}
    for i = 1, n do rows[i] = { id = i } end
    return #rows .. " rows"
  end,
  broken = function() error "no such thing" end,
  export = function(n) -- waits: others have their turn, at their own cost
    local parts = {}
    for i = 1, n do
      parts[i] = ("part %d;"):format(i)
      coroutine.yield()
    end
    return table.concat(parts)
  end,
}

local function request(name, argument)
  return coroutine.wrap(function()
    local good, result, message, code =
      pcall(hakmem.with_limit, { hard = "1M" }, handlers[name], argument)
    if not good then return "500 " .. tostring(result) end
    if code == "QUOTA" then return "503 " .. message end
    return "200 " .. result
  end)
end

local waiting = request("export", 3)
assert(waiting() == nil)
assert(request("greet", "world")() == "200 hello, world")
assert(request("expand", 1000)() == "200 1000 rows")
assert(request("expand", 1e9)() == "503 memory limit reached") -- the runaway ends alone
assert(request("remember", "abc")() == "200 3000 bytes kept" and cache.abc)
assert(request("broken")():find "^500 .*no such thing")
assert(waiting() == nil and waiting() == nil)
assert(waiting() == "200 part 1;part 2;part 3;")

local stats = arena:stats()
print(("%d requests under a limit, %d overran"):format(stats.lua.scopes, stats.lua.overruns))
print(("%d KiB charged, peak %d of %d KiB"):format(stats.charged / 1024, stats.peak / 1024, stats.hard / 1024))
assert(stats.lua.overruns == 1 and stats.peak <= stats.hard)
