-- hakmem.vm{ instructions =, seconds = }: budgets that a script cannot swallow.
local support = dofile "spec/lua_support.lua"
local hakmem = require "hakmem"
local message = support.message

local INSTRUCTIONS = "instruction budget exceeded"
local TIME = "time budget exceeded"
local spin = "local function spin() while true do end end "

describe("a budget of a hakmem.vm", function()
  local open = {}
  local function child(options)
    local vm = assert(hakmem.vm(options))
    open[#open + 1] = vm
    return vm
  end
  after_each(function()
    for _, vm in ipairs(open) do pcall(vm.close, vm) end
    open = {}
  end)

  -- The call ends, says why, and leaves a child that works.
  local function ends(vm, what, code, ...)
    local ok, text, short = vm:call(code, ...)
    assert.is_false(ok)
    assert.truthy(tostring(text):find(what, 1, true), text)
    assert.equal("BUDGET", short)
    assert.same({ true, 4950 }, { vm:call "local n = 0 for i = 1, 99 do n = n + i end return n" })
  end

  local greedy = {
    { "a bare loop", "while true do end" },
    { "pcall in a loop", spin .. "while true do pcall(spin) end" },
    { "pcall of pcall", spin .. "while true do pcall(pcall, pcall, spin) end" },
    { "a result of pcall that is returned at once", spin .. "return pcall(spin)" },
    { "xpcall with a handler that loops", spin .. "while true do xpcall(spin, spin) end" },
    { "a handler that is entered before", spin .. "while true do xpcall(error, spin) end" },
    { "coroutines that catch", spin .. [[
        while true do coroutine.wrap(function() while true do pcall(spin) end end)() end]] },
    { "resumed coroutines", spin .. [[
        while true do coroutine.resume(coroutine.create(spin)) end]] },
    { "coroutines in coroutines", spin .. [[
        local function nest(n)
          while true do
            if n == 0 then pcall(spin) else coroutine.resume(coroutine.create(nest), n - 1) end
          end
        end
        nest(5)]] },
    { "metamethods", spin .. [[
        local t = setmetatable({}, { __index = spin, __add = spin, __tostring = spin })
        while true do pcall(function() return t.x end) pcall(function() return t + 1 end) pcall(tostring, t) end]] },
    { "an error object that speaks for ever", [[
        error(setmetatable({}, { __tostring = function() while true do end end }))]] },
    { "callbacks of C functions", spin .. [[
        while true do
          pcall(string.gsub, "aaa", "a", function() pcall(spin) end)
          pcall(table.sort, { 3, 2, 1 }, function(a, b) pcall(spin) return a < b end)
        end]] },
    { "iterators", "for _ in function() return 1 end do end" },
    { "tail calls", "local function f() return f() end return f()" },
    { "goto the C stack", [[
        local function f() return pcall(f) end
        while true do f() end]] },
    { "code that is loaded", "local load = loadstring or load while true do load('return 1')() end" },
  }
  if coroutine.close then -- 5.4
    greedy[#greedy + 1] = { "variables to be closed", load [[return [=[
      local loud = setmetatable({}, { __close = function() while true do end end })
      local function f() local x <close> = loud local y <close> = loud while true do end end
      while true do pcall(f) end]=] ]]() }
    greedy[#greedy + 1] = { "variables of coroutines to be closed", [[
      local loud = setmetatable({}, { __close = function() while true do end end })
      local function f() local x <close> = loud while true do end end
      local co = coroutine.create(f)
      while true do
        pcall(coroutine.wrap(f))
        coroutine.resume(co)
        pcall(coroutine.close, co)
      end]] }
  end
  if support.is_jit then
    greedy[#greedy + 1] = { "a compiler that is asked for", spin .. "jit.on() jit.on(spin) while true do pcall(spin) end" }
  end

  greedy[#greedy + 1] = { "requests that are refused", spin .. [[
    while true do
      pcall(string.rep, "x", 1e9)
      pcall(function() local t = {} for i = 1, 1e9 do t[i] = i end end)
    end]], "2M" }
  greedy[#greedy + 1] = { "handlers of refused requests", spin .. [[
    while true do
      xpcall(function() return ("x"):rep(1e9) end, spin)
      xpcall(function() local s = "x" while true do s = s .. s end end, spin)
    end]], "2M" }

  for _, case in ipairs(greedy) do
    it("ends " .. case[1], function()
      ends(child { instructions = 1e5, limit = case[3] }, INSTRUCTIONS, case[2])
      ends(child { instructions = 1e5, seconds = 60, limit = case[3] }, INSTRUCTIONS, case[2])
      ends(child { seconds = "20ms", limit = case[3] }, TIME, case[2])
      ends(child { instructions = 1e12, seconds = 0.02, limit = "8M" }, TIME, case[2])
    end)
  end

  it("says where it ran out", function()
    local vm = child { name = "plugin", instructions = 1000 }
    local _, text = vm:call "local n = 0\nwhile true do\nn = n + 1\nend"
    assert.truthy(text:find("^plugin:[23]: instruction budget exceeded\nstack traceback:\n"
      .. "\tplugin:[23]: in main chunk$"), text)
    _, text = vm:call "return pcall(function() while true do end end)"
    assert.equal("plugin:1: instruction budget exceeded", text)
  end)

  it("is fresh for each call", function()
    local vm = child { instructions = 1e5 }
    for _ = 1, 20 do
      assert.same({ true, 20000 }, { vm:call "local n = 0 for i = 1, 20000 do n = i end return n" })
    end
  end)

  -- One iteration of an empty numeric loop is one instruction, in PUC Lua as on LuaJIT.
  it("is exact without coroutines", function()
    local vm = child { instructions = 1e5 }
    assert.truthy((vm:call "for i = 1, 99000 do end"))
    assert.falsy((vm:call "for i = 1, 100001 do end"))
    assert.falsy((child { instructions = 1 }:call "local x = 1 x = 2 x = 3"))
    assert.truthy((child { instructions = 100 }:call "return 1"))
  end)

  it("counts coroutines: never more than twice as much is done", function()
    for _, length in ipairs { 1, 10, 95, 150, 990, 5000 } do
      local vm = child { instructions = 1e6 }
      ends(vm, INSTRUCTIONS, [[
        done = 0
        local length = ...
        while true do
          local co = coroutine.create(function() for i = 1, length do end done = done + length end)
          coroutine.resume(co)
        end]], length)
      local _, done = vm:call "return done"
      assert.truthy(done > 1000 and done <= 2e6, length .. ": " .. done)
    end
  end)

  it("reaches coroutines of earlier calls", function()
    local vm = child { instructions = 1e5 }
    assert(vm:call [[
      co = coroutine.create(function() while true do coroutine.yield() while go do end end end)
      coroutine.resume(co)]])
    ends(vm, INSTRUCTIONS, "go = true while true do coroutine.resume(co) end")
    assert(vm:call "fresh = coroutine.wrap(function() while true do coroutine.yield(1) end end) fresh()")
    for _ = 1, 100 do assert.same({ true, 1 }, { vm:call "return fresh()" }) end
  end)

  it("is not taken off by the debug library", function()
    local vm = child { instructions = 1e5, libs = { "base", "debug", "coroutine" } }
    ends(vm, INSTRUCTIONS, "pcall(debug.sethook) pcall(debug.setmetatable, 1) while true do end")
    local _, gone = vm:call [[
      local n = 0
      for _, name in ipairs { "sethook", "setmetatable", "getmetatable", "getregistry", "setupvalue", "debug" } do
        if debug[name] == nil then n = n + 1 end
      end
      return n]]
    assert.equal(6, gone)
    assert.truthy((vm:call "return debug.traceback() .. debug.getinfo(1).short_src"))
  end)

  it("leaves no room for finalizers, where no hook runs", function()
    local vm = child { instructions = 1e5 }
    if support.is_jit then
      assert.same({ true, "nil" }, { vm:call "return type(newproxy)" })
      assert.same({ true, "nil", false }, { vm:call "return type(jit.attach), (pcall(require, 'jit.profile'))" })
      assert.same({ true, false }, { vm:call "jit.on() return (jit.status())" })
    else
      local ok, text = vm:call "setmetatable({}, { __gc = function() while true do end end })"
      assert.is_false(ok)
      assert.truthy(text:find("no finalizers in a VM with a budget", 1, true), text)
    end
    assert.same({ true, false }, { vm:call "return getmetatable(io.stdout)" })
    assert.truthy((vm:call "return setmetatable({}, { __index = {} })"))
  end)

  it("is kept by children of the child", function()
    local vm = child { instructions = 1e6 }
    local paths = { path = package.path, cpath = package.cpath }
    ends(vm, INSTRUCTIONS, [[
      local paths = ...
      package.path, package.cpath = paths.path, paths.cpath
      local inner = require "hakmem".vm()
      while true do inner:call "while true do end" end]], paths)
    ends(vm, INSTRUCTIONS, [[
      local inner = require "hakmem".vm()
      while true do inner:call "for i = 1, 1000 do end" end]])
  end)

  it("keeps what xpcall and coroutine.wrap are", function()
    local vm = child { instructions = 1e6 }
    assert.same({ true, false, "handled: vm:1: no" },
      { vm:call "return xpcall(function() error 'no' end, function(m) return 'handled: ' .. m end)" })
    assert.same({ true, 1, 2 }, { vm:call [[
      local w = coroutine.wrap(function() local _, x = xpcall(coroutine.yield, print, 1) return x end)
      local a = w()
      if a == nil then a = 1 end -- 5.1 passes xpcall no arguments
      return a, w(2)]] })
    local ok, text = vm:call "coroutine.wrap(function() error 'inside' end)()"
    assert.is_false(ok)
    assert.truthy(text:find("inside", 1, true))
    assert.is_false((vm:call "coroutine.wrap(1)"))
    assert.is_false((vm:call "coroutine.create()"))
    assert.same({ true, 3, "dead" }, { vm:call [[
      local co = coroutine.create(function(a) return a + coroutine.yield(a) end)
      coroutine.resume(co, 1)
      local _, sum = coroutine.resume(co, 2)
      return sum, coroutine.status(co)]] })
    if coroutine.close then
      assert.same({ true, "closed", true }, { vm:call [[
        local log = {}
        local ends = setmetatable({}, { __close = function() log[1] = "closed" end })
        local w = coroutine.wrap(function() local x <close> = ends error "no" end)
        pcall(w)
        return log[1], coroutine.close(coroutine.create(print))]] })
    end
  end)

  it("tells a limit from a budget", function()
    local vm = child { instructions = 1e9, limit = "2M" }
    local ok, text, code = vm:call "return ('x'):rep(1e9)"
    assert.same({ false, "QUOTA" }, { ok, code })
    assert.truthy(text:find "not enough memory")
    assert.equal(2, select("#", vm:call "error 'x'"))
  end)

  -- On LuaJIT the limit has a hook of its own for a moment, refusal after refusal.
  it("ends what lives at its limit", function()
    local vm = child { limit = "1M", instructions = 1e6, seconds = 1 }
    local ok, _, code = vm:call [[
      kept = {}
      pcall(function() for i = 1, 1e9 do kept[i] = ("x"):rep(1000) .. i end end)
      while true do pcall(string.rep, "x", 30000) end]]
    assert.same({ false, "BUDGET" }, { ok, code })
  end)

  it("wants sense", function()
    local function why(options) return message(hakmem.vm, options) end
    local whole = "bad argument #1 to 'vm' (instructions: a whole number above 0 expected)"
    for _, n in ipairs { 0, -1, 0.5, 1 / 0, 0 / 0, 2 ^ 63 } do
      assert.equal(whole, why { instructions = n })
    end
    assert.equal("bad argument #1 to 'vm' (instructions: number expected, got string)", why { instructions = "1" })
    assert.equal("bad argument #1 to 'vm' (seconds: malformed duration '2 fortnights')", why { seconds = "2 fortnights" })
    assert.equal("bad argument #1 to 'vm' (seconds: duration expected, got boolean)", why { seconds = true })
    assert.equal("bad argument #1 to 'vm' (seconds: duration out of range)", why { seconds = -1 })
    assert.equal("bad argument #1 to 'vm' (seconds: duration out of range)", why { seconds = 0 / 0 })
    assert.equal("bad argument #1 to 'vm' (seconds: more than 0 expected)", why { seconds = 0 })
    for _, good in ipairs { 0.5, 2, "250ms", "5s", "1.5 s", "1m", "1h" } do
      child { seconds = good }
    end
  end)
end)
