-- hakmem.vm: child states under limits.
local support = dofile "spec/lua_support.lua"
local hakmem = require "hakmem"
local message = support.message

local MB = 1024 * 1024

describe("hakmem.vm", function()
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

  it("runs code with values copied across", function()
    local vm = child()
    assert.same({ true, 5 }, { vm:call("local a, b = ... return a + b", 2, 3) })
    assert.same({ true }, { vm:call "x = 1" })
    assert.same({ true, 1 }, { vm:call "return x" })
    assert.equal(5, select("#", vm:call("return ...", nil, false, nil, nil)))
    local ok, a, b, c, d = vm:call("return ...", true, "\0bytes\255", 0.5, -7)
    assert.same({ true, true, "\0bytes\255", 0.5, -7 }, { ok, a, b, c, d })
    local deep = { 1, 2, { 3, x = { y = { "z" } } }, [-1] = false, [0.5] = "half", [true] = 1, s = "" }
    ok, a = vm:call("return ...", deep)
    assert.truthy(ok)
    assert.same(deep, a)
    assert.not_equal(deep, a)
    local big = {}
    for i = 1, 10000 do big[i] = { i, tostring(i) } end
    ok, a = vm:call("local t = ... assert(#t == 10000) t[1] = 'changed' return t", big)
    assert.truthy(ok)
    assert.equal("changed", a[1])
    assert.same({ 10000, "10000" }, a[10000])
    assert.same({ 1, "1" }, big[1])
  end)

  it("passes hundreds of values", function()
    local vm = child()
    local list = {}
    for i = 1, 200 do list[i] = i end
    local unpack = table.unpack or unpack -- luacheck: ignore
    local out = { vm:call("return ...", unpack(list)) }
    assert.equal(201, #out)
    assert.equal(200, out[201])
  end)

  it("keeps integers and floats apart where Lua does", function()
    if not math.type then return end
    local vm = child()
    local _, i, f = vm:call("return ...", math.mininteger, 2.0)
    assert.equal("integer", math.type(i))
    assert.equal(math.mininteger, i)
    assert.equal("float", math.type(f))
  end)

  it("keeps shared tables shared, and passes long strings once", function()
    local vm = child { limit = "4M" }
    local shared = {}
    local _, t = vm:call("return ...", { shared, shared })
    assert.equal(t[1], t[2])
    -- 2^90 leaves, were they told one by one
    local ok, dag = vm:call "local t = {} for i = 1, 90 do t = {t, t} end return t"
    assert.truthy(ok)
    assert.equal(dag[1], dag[2])
    local _, many = vm:call [[
      local s, t = ("x"):rep(500000), {}
      for i = 1, 10000 do t[i] = s end
      return t
    ]]
    assert.equal(10000, #many)
    assert.equal(500000, #many[10000])
  end)

  it("does not believe a table's length", function()
    local vm = child { limit = "4M" }
    local ok, t = vm:call "local t = {} for i = 0, 40 do t[2^i] = true end return t"
    assert.truthy(ok)
    assert.truthy(t[1] and t[2 ^ 40])
  end)

  it("refuses what cannot cross", function()
    local vm = child()
    assert.equal("bad argument #2 to 'call' (cannot pass a function)", message(vm.call, vm, "", print))
    assert.equal("bad argument #3 to 'call' (cannot pass a userdata)", message(vm.call, vm, "", 1, { io.stdout }))
    assert.equal("bad argument #2 to 'call' (cannot pass a thread)",
      message(vm.call, vm, "", { [coroutine.create(function() end)] = 1 }))
    local cycle = {}
    cycle[1] = { cycle }
    assert.equal("bad argument #2 to 'call' (cannot pass a table that contains itself)",
      message(vm.call, vm, "", cycle))
    local nested = {}
    for _ = 1, 200 do nested = { nested } end
    assert.equal("bad argument #2 to 'call' (cannot pass a table nested deeper than 100 levels)",
      message(vm.call, vm, "", nested))
    assert.same({ false, "cannot pass a function" }, { vm:call "return 1, print" })
    assert.same({ false, "cannot pass a table that contains itself" },
      { vm:call "local t = {} t.t = t return t" })
    assert.same({ false, "cannot pass a thread" }, { vm:call "return coroutine.create(function() end)" })
    assert.equal("bad argument #1 to 'call' (string expected, got nil)", message(vm.call, vm))
    assert.equal("bad argument #1 to 'call' (string expected, got function)", message(vm.call, vm, print))
    assert.same({ true, 1 }, { vm:call "return 1" })
  end)

  it("drops metatables, and runs no metamethod on the way", function()
    local vm = child()
    local loud = setmetatable({ 1, 2 }, {
      __index = error, __len = error, __pairs = error, __newindex = error, __metatable = "locked",
    })
    local ok, t = vm:call("local t = ... assert(getmetatable(t) == nil) return t", loud)
    assert.truthy(ok, t)
    assert.same({ 1, 2 }, t)
  end)

  it("tells errors with a traceback", function()
    local vm = child { name = "plugin" }
    local ok, text = vm:call "local function f() error('boo') end\nf()\nreturn 1"
    assert.falsy(ok)
    assert.equal("plugin:1: boo\nstack traceback:\n", text:match "^.-\n.-\n")
    assert.truthy(text:find "\n\tplugin:2: in main chunk$", text)
    ok, text = vm:call "x x"
    assert.falsy(ok)
    assert.truthy(text:find "^plugin:1: [^\n]*near 'x'$", text)
    ok, text = vm:call "error { code = 1 }"
    assert.falsy(ok)
    assert.truthy(text:find "^%(error object is a table value%)\nstack traceback:", text)
    ok, text = vm:call "error(setmetatable({}, { __tostring = function() return 'shown' end }))"
    assert.falsy(ok)
    assert.truthy(text:find "^shown\nstack traceback:", text)
    ok, text = vm:call "error()"
    assert.falsy(ok)
    assert.truthy(text:find "^%(error object is a nil value%)", text)
    ok, text = vm:call(string.dump(function() return 1 end))
    assert.falsy(ok)
    assert.equal("attempt to load a binary chunk", text)
    assert.same({ false, "attempt to yield" }, { (vm:call "coroutine.yield()"),
      select(2, vm:call "coroutine.yield()"):match "attempt to yield" })
    ok, text = vm:call "local function f(n) if n == 0 then error 'deep' end f(n - 1) return 1 end f(100)"
    assert.falsy(ok)
    assert.truthy(text:find "\n\t%.%.%.$", text)
  end)

  it("opens the libraries that are asked for", function()
    local vm = child { libs = { "base", "string" } }
    local ok, s, t, i, r = vm:call "return type(string), type(table), type(io), type(require)"
    assert.same({ true, "table", "nil", "nil", "nil" }, { ok, s, t, i, r })
    assert.same({ true, "A" }, { vm:call "return ('a'):upper()" })
    local none = child { libs = {} }
    assert.same({ true, 3 }, { none:call "return 1 + 2" })
    assert.falsy((none:call "return print(1)"))
    local usual = child()
    local names = { "string", "table", "math", "io", "os", "package", "coroutine" }
    if support.is_jit then
      names[#names + 1] = "bit"
      names[#names + 1] = "jit"
    end
    for _, name in ipairs(names) do
      assert.same({ true, "table" }, { usual:call("return type(_G[...])", name) }, name)
    end
    assert.same({ true, "nil" }, { usual:call "return type(debug)" })
    assert.same({ true, "nil" }, { usual:call "return type(ffi)" })
    assert.same({ true, "table" }, { child({ libs = { "base", "debug" } }):call "return type(debug)" })
    assert.equal("bad argument #1 to 'vm' (libs: unknown library 'net')", message(hakmem.vm, { libs = { "net" } }))
    assert.equal("bad argument #1 to 'vm' (libs: table expected, got string)", message(hakmem.vm, { libs = "base" }))
    if support.is_jit then
      assert.falsy((usual:call "return (require 'ffi')"))
      assert.same({ true, 8 }, { child({ libs = { "base", "package", "ffi" } })
        :call "return require('ffi').sizeof 'double'" })
    end
  end)

  it("refuses what it does not know", function()
    assert.equal("bad argument #1 to 'vm' (unknown key 'colour')", message(hakmem.vm, { colour = 1 }))
    assert.equal("bad argument #1 to 'vm' (limit: size out of range)", message(hakmem.vm, { limit = -1 }))
    assert.equal("bad argument #1 to 'vm' (name: string expected, got boolean)", message(hakmem.vm, { name = true }))
    assert.equal("bad argument #1 to 'vm' (table expected, got string)", message(hakmem.vm, "1M"))
    assert.equal("bad argument #1 to 'vm' (arena: hakmem.arena expected, got number)", message(hakmem.vm, { arena = 1 }))
    local a = hakmem.arena()
    assert.equal("bad argument #1 to 'vm' (limit and arena exclude each other)",
      message(hakmem.vm, { arena = a, limit = 1 }))
    a:close()
    assert.equal("attempt to use a closed arena", message(hakmem.vm, { arena = a }))
  end)

  it("is not made when its limit is too small for it, and leaves nothing", function()
    local before = hakmem.stats "arena.live"
    for limit = 1000, 120000, 1777 do
      local vm, text, code = hakmem.vm { limit = limit }
      if vm then
        assert.truthy(vm:stats "peak" <= limit)
        vm:close()
      else
        assert.equal("memory limit reached", text)
        assert.equal("QUOTA", code)
      end
    end
    assert.is_nil((hakmem.vm { limit = 1000 }))
    assert.equal(before, hakmem.stats "arena.live")
  end)

  it("has statistics of its own", function()
    local vm = child { name = "counted", limit = "8M" }
    local before = vm:stats()
    assert.equal("counted", before.name)
    assert.equal(8 * MB, before.hard)
    vm:call "keep = {} for i = 1, 20000 do keep[i] = {i} end"
    assert.truthy(vm:stats "allocated" > before.allocated + 20000 * 40)
    assert.truthy(vm:stats "charged" >= vm:stats "allocated")
    assert.equal("bad argument #1 to 'stats' (unknown statistic 'x')", message(vm.stats, vm, "x"))
  end)

  it("ends: every use raises, everything is returned", function()
    collectgarbage()
    collectgarbage()
    local before = hakmem.stats()
    local vm = child { name = "gone" }
    vm:call "keep = {} for i = 1, 100000 do keep[i] = {i} end big = ('x'):rep(3e6)"
    assert.equal("hakmem.vm (gone)", tostring(vm))
    vm:close()
    assert.equal("hakmem.vm (closed)", tostring(vm))
    for _, method in ipairs { "call", "stats", "close" } do
      assert.equal("attempt to use a closed vm", message(vm[method], vm, "return 1"), method)
    end
    local after = hakmem.stats()
    assert.equal(before.arena.live, after.arena.live)
    assert.truthy(after.allocated <= before.allocated + 65536, after.allocated - before.allocated)
    assert.equal("calling 'call' on bad self (hakmem.vm expected, got table)", message(vm.call, {}, ""))
  end)

  it("runs the child's finalizers when it ends", function()
    local path = os.tmpname()
    local vm = child()
    assert(vm:call("f = io.open(..., 'w') f:setvbuf('full', 65536) f:write('flushed')", path))
    vm:close()
    assert.equal("flushed", support.text(path))
    os.remove(path)
  end)

  it("goes with the collector", function()
    collectgarbage()
    collectgarbage()
    local before = hakmem.stats "arena.live"
    for _ = 1, 20 do hakmem.vm { limit = "4M" } end
    collectgarbage()
    collectgarbage()
    assert.equal(before, hakmem.stats "arena.live")
  end)

  if _VERSION == "Lua 5.4" then
    it("closes at the end of a <close> scope", function()
      local vm = load [[
        local hakmem = ...
        local vm <close> = hakmem.vm()
        assert(vm:call "return 1")
        return vm
      ]](hakmem)
      assert.equal("hakmem.vm (closed)", tostring(vm))
    end)
  end

  it("does not hear of other children, nor of the host", function()
    local x, y = child(), child()
    x:call "shared = 1 string.upper = nil"
    assert.same({ true, "nil" }, { y:call "return type(shared)" })
    assert.same({ true, "A" }, { y:call "return ('a'):upper()" })
    assert.equal("A", ("a"):upper())
  end)

  it("may be called by finalizers of the host, at any time", function()
    local output, status = support.child [[
      local hakmem = require "hakmem"
      local vm, calls, errors = assert(hakmem.vm { limit = "8M" }), 0, 0
      local function finalizer()
        calls = calls + 1
        assert(vm:call("return ...", { ("inner"):rep(20), calls }))
        if not vm:call "error 'inner'" then errors = errors + 1 end
      end
      local function trap()
        if newproxy then
          getmetatable(newproxy(true)).__gc = finalizer
        else
          setmetatable({}, { __gc = finalizer })
        end
      end
      collectgarbage("setpause", 100)
      for i = 1, 3000 do
        trap()
        local deep = {}
        for k = 1, 20 do deep[k] = { k, ("outer"):rep(k + 10), { i } } end
        local ok, back = vm:call("return ...", deep)
        assert(ok, back)
        for k = 1, 20 do assert(back[k][1] == k and back[k][2] == ("outer"):rep(k + 10) and back[k][3][1] == i) end
        local bad, text = vm:call("error(...)", ("message"):rep(30))
        assert(not bad and text:find(("message"):rep(30), 1, true))
      end
      assert(calls > 100 and errors == calls, calls)
      vm:close()
      finalizer = nil
      print "calm"
      os.exit(0)
    ]]
    assert.equal("calm\n", output)
    assert.equal(0, status)
  end)

  it("has children of its own", function()
    local vm = child { limit = "32M" }
    local paths = { path = package.path, cpath = package.cpath }
    local ok, inner, two = vm:call([[
      local paths = ...
      package.path, package.cpath = paths.path, paths.cpath
      local hakmem = require "hakmem"
      local inner = hakmem.vm { limit = "8M" }
      local ok, text = inner:call "return ('x'):rep(1e9)"
      assert(not ok)
      local _, two = inner:call "return 1 + 1"
      inner:close()
      return text, two
    ]], paths)
    assert.truthy(ok, inner)
    assert.truthy(inner:find "not enough memory", inner)
    assert.equal(2, two)
  end)
end)

-- The rows of the contract about greedy scripts. Each: an error that can be caught, the peak within
-- the limit, the child usable afterwards, everything returned at the end.
describe("a greedy script in a hakmem.vm", function()
  local greedy = {
    { "one huge string", [[return #("x"):rep(1e9)]] },
    { "a string that doubles", [[local s = "x" while true do s = s .. s end]] },
    { "a million coroutines", [[
        local t = {}
        for i = 1, 1e6 do t[i] = coroutine.create(function() end) end
        return #t]] },
    { "a million tables", [[local t = {} for i = 1, 1e7 do t[i] = { i } end return #t]] },
    { "one huge table", [[local t = {} for i = 1, 1e9 do t[i] = i end]] },
    { "many strings", [[local t = {} for i = 1, 1e7 do t[i] = "s" .. i end]] },
    { "a huge concat", [[
        local t = {}
        for i = 1, 1e5 do t[i] = ("y"):rep(1000) end
        return #table.concat(t)]] },
    { "deep recursion", [[local function f(n) return 1 + f(n + 1) end return f(1)]], "stack overflow" },
    { "deep recursion with garbage", [[local function f(t) return { f({ t }) } end return f {}]],
      "stack overflow" },
    { "endless pcall nesting", [[local function f() return select(2, pcall(f)) .. "x" end return f()]], "" },
  }
  for _, limit in ipairs { MB, 4 * MB, 24 * MB } do
    for _, case in ipairs(greedy) do
      it(("meets its limit of %d MiB: %s"):format(limit / MB, case[1]), function()
        local before = hakmem.stats "arena.live"
        local vm = assert(hakmem.vm { limit = limit })
        for _ = 1, 2 do
          local ok, text = vm:call(case[2])
          if case[3] ~= "" then
            assert.falsy(ok)
            assert.truthy(text:find("not enough memory", 1, true)
              or (case[3] and text:find(case[3], 1, true)), text:sub(1, 300))
          end
          local stats = vm:stats()
          assert.truthy(stats.peak <= limit, stats.peak)
          assert.truthy(stats.charged <= limit, stats.charged)
          assert.same({ true, 4950, "usable" }, { vm:call [[
            local sum, t = 0, {}
            for i = 1, 99 do t[i] = { i } end
            for i = 1, 99 do sum = sum + t[i][1] end
            return sum, ("USABLE"):lower()]] })
        end
        vm:close()
        assert.equal(before, hakmem.stats "arena.live")
      end)
    end
  end

  it("that keeps what it took leaves no room, and gives it back when told", function()
    local vm = assert(hakmem.vm { limit = "4M" })
    assert(vm:call "kept = {} function let_go() kept = nil collectgarbage() end")
    local ok, text = vm:call [[while true do kept[#kept + 1] = ("z"):rep(10000) .. #kept end]]
    assert.falsy(ok)
    assert.equal("not enough memory", text:match "not enough memory")
    assert.truthy(vm:stats "allocated" > 2 * MB)
    for _ = 1, 3 do
      ok, text = vm:call "let_go()" -- itself may need what is not there
      assert.truthy(ok or text:find "not enough memory", text)
    end
    vm:close()
  end)

  it("can catch it by itself and go on", function()
    local vm = assert(hakmem.vm { limit = "4M" })
    local ok, caught, n = vm:call [[
      local n = 0
      for i = 1, 20 do
        local ok, text = pcall(function() return ("x"):rep(1e8 + i) end)
        if not ok and tostring(text):find "not enough memory" then n = n + 1 end
      end
      local t = {}
      for i = 1, 100 do t[i] = { i } end
      return n, #t
    ]]
    assert.truthy(ok, caught)
    assert.equal(20, caught)
    assert.equal(100, n)
    vm:close()
  end)

  it("that makes garbage only is not stopped", function()
    for _, factor in ipairs { 1.7, 2.5, 4 } do
      local ok, text = support.child(([[
        local hakmem = require "hakmem"
        local vm = assert(hakmem.vm { limit = math.floor(2.2 * 2^20 * %g) })
        local ok, n = vm:call [=[
          local keep, n = {}, 0
          for i = 1, 15000 do keep[i] = { i, i } end   -- about 2 MiB stay
          for i = 1, 2e6 do
            local t = { i, tostring(i) }
            n = n + #t
          end
          return n
        ]=]
        print(ok, n, vm:stats "peak" <= vm:stats "hard")
      ]]):format(factor))
      assert.truthy(ok:find "^true\t4000000%D*\ttrue\n$", factor .. ": " .. ok .. text)
    end
  end)

  it("does not panic wherever memory ends", function()
    local output, status = support.child [[
      local hakmem = require "hakmem"
      local made, calls = 0, 0
      for limit = 20000, 400000, 997 do
        local vm = hakmem.vm { limit = limit }
        if vm then
          made = made + 1
          for i = 1, 3 do
            local ok, text = vm:call("local t = ... for i = 1, 200 do t[i] = { ('x'):rep(i) } end return t", { 1, { 2 } })
            calls = calls + 1
            assert(ok or text:find "not enough memory" or text:find "error in error", text)
            assert(vm:stats "peak" <= limit)
          end
          vm:close()
        end
      end
      assert(made > 50 and calls > 150, made)
      print "no panic"
    ]]
    assert.equal("no panic\n", output)
    assert.equal(0, status)
  end)
end)
