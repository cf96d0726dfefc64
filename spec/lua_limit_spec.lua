-- hakmem.with_limit: a function under a limit of its own. This very VM is moved onto an arena for it.
local support = dofile "spec/lua_support.lua"
local hakmem = require "hakmem"
local message = support.message

local MB = 1024 * 1024
local function runaway()
  local t = {}
  for i = 1, 1e9 do t[i] = { i } end
end
local function settle()
  for i = 1, 5000 do local _ = i * 2 end
  collectgarbage()
  collectgarbage()
end

local function child(code)
  local output, status = support.child(code)
  assert.equal(0, status, output)
end

describe("hakmem.with_limit", function()
  it("wants a VM on an arena", function()
    assert.same({ nil, "this Lua state lives on no arena: hakmem.install() comes first", "NOARENA" },
      { hakmem.with_limit({ hard = "1M" }, runaway) })
    assert(hakmem.install { name = "spec" })
  end)

  it("passes arguments and results through", function()
    local function count(...) return select("#", ...), ... end
    assert.same({ 4, 1, nil, "x", nil }, { hakmem.with_limit({ hard = "1M" }, count, 1, nil, "x", nil) })
    assert.equal(0, (hakmem.with_limit("1M", count)))
    assert.equal(0, select("#", hakmem.with_limit({ limit = 100000 }, function() end)))
  end)

  it("ends a function that overruns, and the VM goes on", function()
    local arena = hakmem.current()
    local before = arena:stats().lua
    for _ = 1, 10 do
      assert.same({ nil, "memory limit reached", "QUOTA" }, { hakmem.with_limit({ hard = "1M" }, runaway) })
    end
    assert.same({ nil, "memory limit reached", "QUOTA" },
      { hakmem.with_limit({ hard = "1M" }, function() return #("x"):rep(1e9) end) })
    assert.same({ nil, "memory limit reached", "QUOTA" },
      { hakmem.with_limit({ hard = "1M" }, function() local s = "x" while true do s = s .. s end end) })
    local after = arena:stats().lua
    assert.equal(12, after.scopes - before.scopes)
    assert.equal(12, after.overruns - before.overruns)
    settle()
    assert.truthy(arena:stats "charged" < 16 * MB)
  end)

  it("lets garbage go", function()
    local text = ("y"):rep(100)
    assert.equal("done", (hakmem.with_limit({ hard = "512K" }, function()
      for i = 1, 100000 do
        local _ = { i, text .. i }
      end
      return "done"
    end)))
    -- What was there before may go as well, and is no credit.
    local before = {}
    for i = 1, 50000 do before[i] = { i } end
    before = nil -- luacheck: ignore
    assert.same({ nil, "memory limit reached", "QUOTA" }, { hakmem.with_limit({ hard = "1M" }, runaway) })
  end)

  it("lets a function handle the refusal itself", function()
    assert.same({ true, "handled" }, { hakmem.with_limit({ hard = "1M" }, function()
      local ok, text = pcall(runaway)
      assert(not ok and tostring(text):find "not enough memory")
      for i = 1, 5000 do local _ = i * 2 end
      return true, "handled"
    end) })
  end)

  it("raises the function's own errors as they are", function()
    local object = {}
    assert.equal(object, message(hakmem.with_limit, { hard = "1M" }, error, object))
    assert.equal("plain", message(hakmem.with_limit, { hard = "1M" }, function() error("plain", 0) end))
    -- without an overrun this is no overrun
    assert.equal("not enough memory", message(hakmem.with_limit, { hard = "1M" }, error, "not enough memory"))
  end)

  it("nests: the innermost is charged, and can take no more than the outer has left", function()
    local inner
    local ok = hakmem.with_limit({ hard = "2M" }, function()
      inner = { hakmem.with_limit({ hard = "1G" }, runaway) }
      settle()
      return true
    end)
    assert.truthy(ok)
    assert.same({ nil, "memory limit reached", "QUOTA" }, inner)
    local peak = 0
    hakmem.with_limit({ hard = "16M" }, function()
      inner = { hakmem.with_limit({ hard = "1M" }, function()
        local t = {}
        for i = 1, 1e9 do
          t[i] = { i }
          peak = i
        end
      end) }
    end)
    assert.same({ nil, "memory limit reached", "QUOTA" }, inner)
    assert.truthy(peak > 5000 and peak < 40000, peak)
    -- what an inner one has kept is the outer one's at its end
    local kept = {}
    local result = { hakmem.with_limit({ hard = "2M" }, function()
      for n = 1, 100 do
        hakmem.with_limit({ hard = "1M" }, function()
          kept[n] = {}
          for i = 1, 2000 do kept[n][i] = { i } end
        end)
        if kept[n] == nil or #kept[n] < 2000 then error "not enough memory" end
      end
    end) }
    assert.is_nil(result[1])
    assert.truthy(#kept < 30, #kept)
  end)

  it("is out of force while the function has yielded", function()
    local held = {}
    local function request(n)
      return coroutine.wrap(function()
        return hakmem.with_limit({ hard = "1M" }, function()
          local mine = {}
          for round = 1, 10 do
            for i = 1, 100 do mine[#mine + 1] = { n, i } end
            local back = coroutine.yield(n * 100 + round)
            assert(back == round)
          end
          return "end of " .. n
        end)
      end)
    end
    local a, b = request(1), request(2)
    assert.equal(101, a())
    assert.equal(201, b())
    for round = 1, 9 do
      for i = 1, 5000 do held[#held + 1] = { i } end -- nobody's but the VM's: far above both limits
      assert.equal(101 + round, a(round))
      assert.equal(201 + round, b(round))
    end
    assert.equal("end of 1", a(10))
    assert.equal("end of 2", b(10))
  end)

  it("charges each of two that take turns for itself", function()
    local function request(greedy)
      return coroutine.wrap(function()
        return hakmem.with_limit({ hard = "1M" }, function()
          local mine = {}
          for _ = 1, 40 do
            for _ = 1, greedy and 1000 or 10 do mine[#mine + 1] = { #mine } end
            coroutine.yield "more"
          end
          return #mine
        end)
      end)
    end
    local modest, greedy = request(false), request(true)
    local done, result
    repeat
      result = modest()
      if not done then
        local b, c = greedy()
        if b ~= "more" then done = { b, c } end
      end
    until result ~= "more"
    assert.equal(400, result)
    assert.same({ nil, "memory limit reached" }, done)
  end)

  it("survives what is left of it", function()
    for _ = 1, 100 do -- never resumed
      local co = coroutine.create(function()
        hakmem.with_limit({ hard = "1M" }, function() coroutine.yield(("x"):rep(1000)) end)
      end)
      assert(coroutine.resume(co))
    end
    settle()
    assert.truthy(hakmem.with_limit({ hard = "1M" }, function() return true end))
  end)

  it("leaves a function alone that is not waiting", function()
    local inner
    local outer = coroutine.create(function()
      return hakmem.with_limit("1M", function()
        inner = coroutine.running()
        return coroutine.yield()
      end)
    end)
    assert.truthy(coroutine.resume(outer))
    -- Somebody else ends it.
    assert.same({ true, "done" }, { coroutine.resume(inner, "done") })
    assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(outer, 1, 2) })
    -- Somebody else resumes it, and it resumes who waits for it.
    local again = coroutine.create(function()
      return hakmem.with_limit("1M", function()
        inner = coroutine.running()
        return coroutine.yield()(), "and goes on"
      end)
    end)
    assert.truthy(coroutine.resume(again))
    local ok, failed, rest = coroutine.resume(inner, function()
      return select(2, coroutine.resume(again))
    end)
    assert.same({ true, "cannot resume non-suspended coroutine", "and goes on" }, { ok, failed, rest })
  end)

  it("checks its arguments", function()
    for _, case in ipairs {
      { -1, print, "bad argument #1 to 'with_limit' (size out of range)" },
      { 0, print, "bad argument #1 to 'with_limit' (size out of range)" },
      { 0 / 0, print, "bad argument #1 to 'with_limit' (size is not an integer)" },
      { 1.5, print, "bad argument #1 to 'with_limit' (size is not an integer)" },
      { "x", print, "bad argument #1 to 'with_limit' (malformed size 'x')" },
      { nil, print, "bad argument #1 to 'with_limit' (size expected, got nil)" },
      { {}, print, "bad argument #1 to 'with_limit' (size expected, got nil)" },
      { { soft = 1 }, print, "bad argument #1 to 'with_limit' (unknown key 'soft')" },
      { { hard = 1, limit = 2 }, print, "bad argument #1 to 'with_limit' (limit and hard are the same and differ)" },
      { "1M", nil, "bad argument #2 to 'with_limit' (function expected, got nil)" },
      { "1M", "f", "bad argument #2 to 'with_limit' (function expected, got string)" },
    } do
      assert.equal(case[3], message(hakmem.with_limit, case[1], case[2]))
    end
  end)
end)

-- LuaJIT up to 2.1.0-beta3 may crash when memory is refused in compiled code.
describe("the first limit of a VM that runs", function()
  local program = [[
    local hakmem, n = require "hakmem", 3000
    local programs = {
      function() local t = {} for i = 1, n do t[i] = { i, tostring(i) } end end,
      function() local s = "x" for i = 1, n do s = s .. s .. i if n < 1e6 and #s > 1e6 then s = "x" end end end,
      function() local t = {} for i = 1, n do t[i] = ("x"):rep(i) end end,
      function() local t = {} for i = 1, n do t[i] = i end end,
    }
    local function warm_up()
      n = 3000
      for _ = 1, 10 do for _, f in ipairs(programs) do f() end end
      n = 1e8
    end
    warm_up()
  ]]

  it("may come with the arena, after code was compiled", function()
    child(program .. [[
      assert(hakmem.install { limit = "4M" })
      for _ = 1, 50 do for _, f in ipairs(programs) do assert(not pcall(f)) end end
    ]])
  end)

  it("may come later", function()
    child(program .. [[
      local arena = assert(hakmem.install())
      warm_up()
      arena:limit { hard = "4M" }
      for _ = 1, 50 do for _, f in ipairs(programs) do assert(not pcall(f)) end end
    ]])
  end)

  it("may be that of a function", function()
    child(program .. [[
      assert(hakmem.install())
      for round = 1, 50 do
        for _, f in ipairs(programs) do
          assert(select(3, hakmem.with_limit(200000 + round * 1000, f)) == "QUOTA")
        end
      end
    ]])
  end)

  it("may be that of the arena of a child VM", function()
    child(([[
      local hakmem = require "hakmem"
      local arena = hakmem.arena()
      local vm = hakmem.vm { arena = arena }
      assert(vm:call(%q))
      arena:limit { hard = "4M" }
      local _, compiles = vm:call "return jit ~= nil and jit.version_num < 20199 and jit.status()"
      assert(compiles == false)
      for _ = 1, 50 do assert(not vm:call "local t = {} for i = 1, 1e8 do t[i] = ('x'):rep(i) end") end
      for _ = 1, 50 do for i = 1, 4 do assert(not vm:call("programs[...]()", i)) end end
      vm:close()
    ]]):format((program:gsub("local hakmem, n =[^\n]*", "n = 3000"):gsub("local programs", "programs"))))
  end)
end)

describe("buffers", function()
  it("push the collector: dropped ones do not pile up", function()
    local a = hakmem.arena()
    for _ = 1, 20000 do assert(a:buffer(65536)) end -- 1.25 GiB
    assert.truthy(a:stats "peak" < 256 * MB, a:stats "peak")
    a:close()
  end)

  it("of garbage make room under a limit", function()
    local a = hakmem.arena { limit = "4M" }
    for _ = 1, 200 do assert(a:buffer "1M") end
    a:close()
  end)
end)
