-- hakmem.vm_pool: children that are as new for each use.
local support = dofile "spec/lua_support.lua"
local hakmem = require "hakmem"
local message = support.message

describe("hakmem.vm_pool", function()
  local open = {}
  local function pool_of(options)
    local pool = assert(hakmem.vm_pool(options))
    open[#open + 1] = pool
    return pool
  end
  after_each(function()
    for _, pool in ipairs(open) do pcall(pool.close, pool) end
    open = {}
  end)

  it("gives every call a fresh state", function()
    local pool = pool_of { limit = "8M" }
    for i = 1, 50 do
      assert.same({ true, "nil", i }, { pool:call("seen = type(x) x = 1 return seen, ...", i) })
      assert.same({ true, "A" }, { pool:call "return ('a'):upper()" })
      assert.truthy((pool:call "string.upper = nil table.insert = nil setmetatable(_G, { __index = error })"))
      assert.is_false((pool:call "keep = {} for i = 1, 1e7 do keep[i] = { i } end"))
    end
    local stats = pool:stats()
    assert.equal(1, stats.created)
    assert.equal(200, stats.uses)
    assert.equal(200, stats.restored)
    assert.equal(1, stats.idle)
    assert.equal(0, stats.busy)
  end)

  it("runs the template once, and starts each use from there", function()
    local pool = pool_of {
      name = "page",
      template = [[
        runs = (runs or 0) + 1
        local words = {}
        for i = 1, 3000 do words[i] = "word " .. i end
        function handler(i) words[i] = words[i] .. "!" words.n = (words.n or 0) + 1 return words[i], words.n, runs end
        co = coroutine.wrap(function() for i = 1, 10 do coroutine.yield(i) end end)
        co()
        return handler]],
    }
    for i = 1, 300 do
      assert.same({ true, "word " .. i .. "!", 1, 1 }, { pool:call("return handler(...)", i) })
      assert.same({ true, 2, 3 }, { pool:call "return co(), co()" })
      assert.truthy((pool:call "handler = nil collectgarbage() collectgarbage() t = {} for i = 1, 5000 do t[i] = {i} end"))
    end
    assert.equal(1, pool:stats().created)
    local ok, text = pool:call "error 'here'"
    assert.is_false(ok)
    assert.truthy(text:find("page:1: here\nstack traceback", 1, true))
  end)

  it("says what is wrong with a template, at each use", function()
    local pool = pool_of { name = "bad", template = "error 'not ready'" }
    local ok, text, code = pool:call "return 1"
    assert.same({ false, nil }, { ok, code })
    assert.truthy(text:find "^bad:1: not ready")
    local vm, why = pool:take()
    assert.is_nil(vm)
    assert.truthy(why:find "^bad:1: not ready")
    assert.same({ 0, 0, 0 }, { pool:stats().created, pool:stats().busy, pool:stats().uses })
    assert.truthy(select(2, pool_of({ template = "x x" }):call ""):find "near 'x'")
    local _, _, budget = pool_of({ template = "while true do end", instructions = 1e4 }):call ""
    assert.equal("BUDGET", budget)
    local _, _, quota = pool_of({ limit = 2000 }):call ""
    assert.equal("QUOTA", quota)
  end)

  it("lends children, and takes them back when they are closed", function()
    local pool = pool_of { size = 2 }
    local a, b, c = pool:take(), pool:take(), pool:take()
    assert.equal("hakmem.vm (vm)", tostring(a))
    for i, vm in ipairs { a, b, c } do
      assert(vm:call("x = ...", i))
      assert.same({ true, i }, { vm:call "return x" })
      assert.truthy(vm:stats "charged" > 0)
    end
    assert.equal(3, pool:stats().busy)
    a:close() b:close() c:close()
    local stats = pool:stats()
    assert.same({ 2, 0, 3, 3, 2 }, { stats.idle, stats.busy, stats.created, stats.uses, stats.restored })
    assert.equal("attempt to use a closed vm", message(a.call, a, "return 1"))
    assert.equal("hakmem.vm (closed)", tostring(a))
    assert.same({ true, "nil" }, { pool:call "return type(x)" })
  end)

  it("takes back what the collector finds", function()
    local pool = pool_of {}
    for _ = 1, 5 do pool:take():call "x = 1" end
    collectgarbage()
    collectgarbage()
    assert.equal(0, pool:stats().busy)
    assert.equal(5, pool:stats().idle)
  end)

  it("closes what may have left something outside, and makes another", function()
    local pool, path = pool_of { template = "ready = true" }, os.tmpname()
    for i = 1, 5 do
      assert(pool:call("f = io.open(..., 'w') f:setvbuf('full', 65536) f:write(ready and 'flushed')", path))
      assert.equal("flushed", support.text(path))
      assert.same({ true, "nil" }, { pool:call "return type(f)" })
      assert.equal(i + 1, pool:stats().created)
      assert.equal(i, pool:stats().restored)
    end
    os.remove(path)
  end)

  it("works without images when a template leaves something outside", function()
    local pool = pool_of { template = [[
      local f = io.tmpfile()
      f:write("in a file")
      function read() f:seek("set") return f:read("*a") end]] }
    for i = 1, 5 do
      assert.same({ true, "in a file" }, { pool:call "local text = read() read = nil return text" })
      assert.same({ i, 0, 0 }, { pool:stats().created, pool:stats().restored, pool:stats().idle })
    end
  end)

  it("keeps limits and budgets", function()
    local pool = pool_of { limit = "4M", instructions = 1e6, seconds = 10 }
    for _ = 1, 20 do
      assert.equal("BUDGET", (select(3, pool:call "while true do pcall(error) end")))
      assert.equal("QUOTA", (select(3, pool:call "return ('x'):rep(1e9)")))
      assert.same({ true, 1 }, { pool:call "return 1" })
    end
    local vm = pool:take()
    assert.truthy(vm:stats "peak" <= 4 * 1024 * 1024)
    assert.equal(vm:stats "hard", 4 * 1024 * 1024)
    vm:close()
    assert.equal(1, pool:stats().created)
  end)

  it("costs the same after any number of uses", function()
    local pool = pool_of { limit = "8M", template = "t = {} for i = 1, 1000 do t[i] = 'n' .. i end" }
    local function use(i)
      assert(pool:call([[
        for i = 1, ... do t[i] = { i, ("x"):rep(i % 100) } end
        if ... % 3 == 0 then big = ("y"):rep(300000) .. ... end
        t = nil]], 100 + i % 1500))
    end
    for i = 1, 50 do use(i) end
    local vm = pool:take()
    local first = vm:stats()
    vm:close()
    for i = 1, support.short and 300 or 2000 do use(i) end
    vm = pool:take()
    local last = vm:stats()
    vm:close()
    for _, name in ipairs { "allocated", "blocks", "active" } do assert.equal(first[name], last[name], name) end
    assert.equal(first.arena.image, last.arena.image)
    assert.truthy(last.arena.image > 0 and last.arena.restores > 300)
    assert.equal(1, pool:stats().created)
  end)

  it("has random numbers of its own in each use", function()
    if not math.type or not load "local x <const> = 1" then return end -- 5.4: the state is in the child
    local pool, seen = pool_of {}, {}
    for _ = 1, 20 do
      local _, n = pool:call "return math.random(0)"
      assert.is_nil(seen[n])
      seen[n] = true
    end
  end)

  if support.is_jit then
    it("has no compiler", function()
      local pool = pool_of {}
      assert.same({ true, false }, { pool:call "jit.on() return (jit.status())" })
      assert.truthy((pool:call "local n = 0 for i = 1, 1e5 do n = n + i end return n"))
      assert.equal(1, pool:stats().created)
    end)
  end

  it("keeps its children apart", function()
    local pool = pool_of { size = 4, template = "n = 0" }
    local list = {}
    for round = 1, 20 do
      for i = 1, 4 do list[i] = pool:take() end
      for i = 1, 4 do
        for _ = 1, i do assert(list[i]:call "n = n + 1 own = own or {} own[n] = {}") end
      end
      for i = 1, 4 do assert.same({ true, i, i }, { list[i]:call "return n, #own" }) end
      for i = 4, 1, -1 do list[i]:close() end
      assert.equal(4, pool:stats().created, round)
    end
  end)

  it("ends: idle children at once, busy ones when they are closed", function()
    collectgarbage()
    collectgarbage()
    local before = hakmem.stats "arena.live"
    local pool = hakmem.vm_pool { name = "gone" }
    local busy = pool:take()
    pool:call ""
    assert.equal("hakmem.vm_pool (gone)", tostring(pool))
    assert.equal(before + 2, hakmem.stats "arena.live")
    pool:close()
    assert.equal(before + 1, hakmem.stats "arena.live")
    assert.same({ true, 2 }, { busy:call "return 1 + 1" })
    busy:close()
    assert.equal(before, hakmem.stats "arena.live")
    assert.equal(0, hakmem.stats "arena.image")
    assert.equal("hakmem.vm_pool (closed)", tostring(pool))
    for _, method in ipairs { "call", "take", "stats", "close" } do
      assert.equal("attempt to use a closed vm_pool", message(pool[method], pool, "return 1"), method)
    end
    for _ = 1, 5 do hakmem.vm_pool({}):call "x = 1" end
    collectgarbage()
    collectgarbage()
    assert.equal(before, hakmem.stats "arena.live")
  end)

  it("refuses what it does not know", function()
    local function why(options) return message(hakmem.vm_pool, options) end
    assert.equal("bad argument #1 to 'vm_pool' (table expected, got nil)", why(nil))
    assert.equal("bad argument #1 to 'vm_pool' (unknown key 'arena')", why { arena = 1 })
    assert.equal("bad argument #1 to 'vm_pool' (libs: unknown library 'net')", why { libs = { "net" } })
    assert.equal("bad argument #1 to 'vm_pool' (limit: size out of range)", why { limit = -1 })
    assert.equal("bad argument #1 to 'vm_pool' (size: number expected, got string)", why { size = "8" })
    for _, n in ipairs { -1, 0.5, 65537, 0 / 0 } do
      assert.equal("bad argument #1 to 'vm_pool' (size: a whole number from 0 to 65536 expected)", why { size = n })
    end
    assert.equal("bad argument #1 to 'vm_pool' (template: string expected, got function)", why { template = print })
    local pool = pool_of { size = 0 }
    for _ = 1, 3 do assert(pool:call "return 1") end
    assert.same({ 3, 0 }, { pool:stats().created, pool:stats().idle })
    assert.equal("bad argument #1 to 'call' (string expected, got nil)", message(pool.call, pool))
    assert.equal("bad argument #2 to 'call' (cannot pass a function)", message(pool.call, pool, "", print))
    assert.equal(0, pool:stats().busy)
  end)
end)
