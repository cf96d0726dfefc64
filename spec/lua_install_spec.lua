-- hakmem.install, hakmem.current: the running VM on an arena. Each case in a process of its own.
local support = dofile "spec/lua_support.lua"

local function child(code, env)
  local output, status = support.child(code, env)
  assert.equal(0, status, output)
  return output
end

describe("hakmem.install", function()
  it("moves the running VM, which then allocates from the arena", function()
    assert.equal("app true true true\n", child [[
      local hakmem = require "hakmem"
      local kept = {}
      for i = 1, 1000 do kept[i] = { i } end
      assert(hakmem.current() == nil)
      local arena = assert(hakmem.install { name = "app", limit = "64M", soft = "48M" })
      assert(hakmem.current() == arena)
      local before, foreign = arena:stats "allocated", arena:stats "foreign"
      local more = {}
      for i = 1, 10000 do more[i] = { i } end
      local stats = arena:stats()
      print(stats.name, stats.hard == 64 * 1024 * 1024, stats.allocated > before + 10000 * 40, foreign > 30000)
    ]]:gsub("\t", " "), nil)
  end)

  it("declines a second time, where a host says so, and in a child VM", function()
    assert.equal([[
this Lua state lives on an arena already EXISTS
the allocator is mine DECLINED
this Lua state lives on an arena already EXISTS
]], (child [[
      local hakmem = require "hakmem"
      local registry = debug.getregistry()
      registry["hakmem.decline"] = "the allocator is mine"
      local _, declined, code = hakmem.install()
      assert(hakmem.current() == nil)
      registry["hakmem.decline"] = nil
      local vm = hakmem.vm()
      local paths = { path = package.path, cpath = package.cpath }
      local ok, text, inner = vm:call([=[
        local paths = ...
        package.path, package.cpath = paths.path, paths.cpath
        return select(2, require "hakmem".install())
      ]=], paths)
      assert(ok, text)
      vm:close()
      assert(hakmem.install())
      print(select(2, hakmem.install()))
      print(declined, code)
      print(text, inner)
    ]]:gsub("\t", " ")))
  end)

  it("works from LUA_INIT, for any program", function()
    local env = { LUA_INIT = "require'hakmem'.install{ name = 'init' }" }
    assert.equal("init\n", child("print(require'hakmem'.current():stats().name)", env))
  end)

  it("works in a finalizer, or leaves all as it was", function()
    local expected = support.is_jit and "nil operation not permitted PERM true\n" or "app nil nil true\n"
    assert.equal(expected, (child [[
      local hakmem = require "hakmem"
      local function finalizer(f)
        if newproxy then getmetatable(newproxy(true)).__gc = f else setmetatable({}, { __gc = f }) end
      end
      local arena, why, code
      finalizer(function() arena, why, code = hakmem.install { name = "app", limit = "64M" } end)
      collectgarbage()
      collectgarbage()
      local now = arena or hakmem.install { limit = "64M" }
      print(arena and arena:stats().name, why, code, hakmem.current() == now)
    ]]:gsub("\t", " ")))
  end)

  it("keeps arguments straight", function()
    local output = child [[
      local hakmem = require "hakmem"
      for _, options in ipairs { "x", { colour = 1 }, { limit = -1 }, { soft = "2M", hard = "1M" }, { kind = "shared" },
        { types = 1 }, { name = 5 }, { purge = { nothing = 1 } } } do
        print(select(2, pcall(hakmem.install, options)))
      end
      assert(hakmem.current() == nil)
    ]]
    assert.equal([[
bad argument #1 to 'install' (table expected, got string)
bad argument #1 to 'install' (unknown key 'colour')
bad argument #1 to 'install' (limit: size out of range)
bad argument #1 to 'install' (soft limit is above the hard limit)
bad argument #1 to 'install' (unknown key 'kind')
bad argument #1 to 'install' (types: boolean expected, got number)
bad argument #1 to 'install' (name: string expected, got number)
unknown knob 'purge.nothing'
]], output)
  end)

  it("holds its limit, and the VM goes on", function()
    local output = child [[
      local hakmem = require "hakmem"
      local arena = hakmem.install { limit = "8M" }
      local function usable()
        for i = 1, 5000 do local n = i * 2 end
        local t = {}
        for i = 1, 300 do t[i] = { ("x"):rep(i) } end
      end
      local greedy = {
        function() return #("x"):rep(1e9) end,
        function() local s = "x" while true do s = s .. s end end,
        function() local t = {} for i = 1, 1e9 do t[i] = { i } end end,
        function() local t = {} for i = 1, 1e9 do t[i] = "key" .. i end end,
        function() local t = {} for i = 1, 1e6 do t[i] = coroutine.create(function() end) end end,
      }
      for round = 1, 3 do
        for _, f in ipairs(greedy) do
          local ok, message = pcall(f)
          assert(not ok and tostring(message):find "not enough memory", message)
          usable()
        end
      end
      assert(arena:stats "peak" <= 8 * 1024 * 1024)
      print(arena:stats "refusals" > 0)
    ]]
    assert.equal("true\n", output)
  end)

  it("cannot be closed or reset under the VM, which ends as ever", function()
    local path = os.tmpname()
    local output = child(([[
      local hakmem = require "hakmem"
      local arena = hakmem.install()
      for _, method in ipairs { "close", "reset" } do
        print((select(2, pcall(arena[method], arena))))
      end
      arena:trim()
      local buffer = arena:buffer(1000)
      buffer:write(1, "kept")
      file = io.open(%q, "w")
      file:setvbuf("full", 65536)
      file:write "flushed by its finalizer"
      os.exit(true, true)
    ]]):format(path))
    assert.equal("arena in use by a Lua state\narena in use by a Lua state\n", output)
    assert.equal("flushed by its finalizer", support.text(path))
    os.remove(path)
  end)

  it("finds the arena of a state that its host has made", function()
    local hakmem = require "hakmem"
    local vm = hakmem.vm { name = "made", limit = "16M" }
    local ok, name, closed = vm:call([[
      local paths = ...
      package.path, package.cpath = paths.path, paths.cpath
      local arena = require "hakmem".current()
      return arena:stats().name, select(2, pcall(arena.close, arena))
    ]], { path = package.path, cpath = package.cpath })
    assert.same({ true, "made", "arena in use by a Lua state" }, { ok, name, closed })
    vm:close()
  end)

  it("counts allocations by type, from Lua 5.2 on", function()
    local output = child [[
      local hakmem = require "hakmem"
      local arena = hakmem.install { types = true }
      local before = arena:stats().lua
      local t = {}
      for i = 1, 1000 do t[i] = { function() return i end, "text " .. i } end
      for i = 1, 100 do t[i] = coroutine.create(print) end
      local after = arena:stats().lua
      local path = os.tmpname()
      local opened = io.open(path, "w")
      opened:close()
      os.remove(path)
      after = arena:stats().lua
      for _, name in ipairs { "tables", "functions", "strings", "threads", "userdata", "others" } do
        print(name, after[name] - before[name])
      end
    ]]
    local counts = {}
    for name, n in output:gmatch "(%a+)\t(%d+)" do counts[name] = tonumber(n) end
    if support.is_jit then
      assert.same({ tables = 0, functions = 0, strings = 0, threads = 0, userdata = 0, others = 0 }, counts)
    else
      assert.truthy(counts.tables >= 1000 and counts.tables < 1100, output)
      assert.truthy(counts.functions >= 1000 and counts.functions < 1100, output)
      assert.truthy(counts.strings >= 1000 and counts.strings < 2200, output)
      assert.equal(100, counts.threads)
      assert.truthy(counts.userdata >= 1 and counts.others >= 1000, output)
    end
  end)
end)
