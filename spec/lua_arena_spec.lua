-- hakmem.arena and the methods of arenas.
local support = dofile "spec/lua_support.lua"
local hakmem = require "hakmem"
local message = support.message

describe("hakmem.arena", function()
  local open = {}
  local function arena(options)
    local a = assert(hakmem.arena(options))
    open[#open + 1] = a
    return a
  end
  after_each(function()
    for _, a in ipairs(open) do pcall(a.close, a) end
    open = {}
  end)

  it("is private and without limits by default", function()
    local a = arena()
    assert.equal("private", a:stats().kind)
    local soft, hard = a:limit()
    assert.equal(0, soft)
    assert.equal(0, hard)
  end)

  it("takes name, kind and limits", function()
    local a = arena { name = "upload", kind = "shared", soft = "48K", limit = "64K" }
    assert.equal("hakmem.arena (upload)", tostring(a))
    local stats = a:stats()
    assert.equal("upload", stats.name)
    assert.equal("shared", stats.kind)
    assert.equal(48 * 1024, stats.soft)
    assert.equal(64 * 1024, stats.hard)
  end)

  it("takes `hard` as the same as `limit`", function()
    local _, hard = arena({ hard = "1.5MiB" }):limit()
    assert.equal(1.5 * 1024 * 1024, hard)
    _, hard = arena({ hard = 4096, limit = "4K" }):limit()
    assert.equal(4096, hard)
    assert.equal("bad argument #1 to 'arena' (limit and hard are the same and differ)",
      message(hakmem.arena, { hard = 1, limit = 2 }))
  end)

  it("reads sizes with every suffix", function()
    for text, size in pairs {
      ["0"] = 0, ["65536"] = 65536, ["64K"] = 65536, ["64k"] = 65536, ["64KB"] = 65536, ["64KiB"] = 65536,
      ["64 KiB"] = 65536, ["512B"] = 512, ["1.5M"] = 1572864, ["2G"] = 2147483648, ["0.5GiB"] = 536870912,
      ["1T"] = 1099511627776, ["1P"] = 1125899906842624,
    } do
      local _, hard = arena({ limit = text }):limit()
      assert.equal(size, hard, text)
    end
  end)

  it("refuses what it does not know", function()
    assert.equal("bad argument #1 to 'arena' (unknown key 'colour')", message(hakmem.arena, { colour = 1 }))
    assert.equal("bad argument #1 to 'arena' (keys are strings, got number)", message(hakmem.arena, { 1 }))
    assert.equal("bad argument #1 to 'arena' (kind: 'private' or 'shared' expected, got 'big')",
      message(hakmem.arena, { kind = "big" }))
    assert.equal("bad argument #1 to 'arena' (name: string expected, got number)",
      message(hakmem.arena, { name = 1 }))
    assert.equal("bad argument #1 to 'arena' (limit: malformed size '1X')", message(hakmem.arena, { limit = "1X" }))
    assert.equal("bad argument #1 to 'arena' (soft: size out of range)", message(hakmem.arena, { soft = -1 }))
    assert.equal("bad argument #1 to 'arena' (soft limit is above the hard limit)",
      message(hakmem.arena, { soft = 2, hard = 1 }))
    assert.equal("bad argument #1 to 'arena' (table expected, got number)", message(hakmem.arena, 1))
    assert.equal("unknown knob 'colour.red'", message(hakmem.arena, { colour = { red = 1 } }))
  end)

  it("names the place of a wrong call", function()
    local a = arena()
    local text = message(function() a:buffer(-1) end)
    assert.truthy(text:find "lua_arena_spec.lua:%d+: bad argument #1 to 'buffer' %(size out of range%)$")
  end)

  it("refuses bad sizes with one text on every Lua", function()
    local a = arena()
    for _, case in ipairs {
      { -1, "size out of range" }, { 2 ^ 63, "size out of range" }, { 1 / 0, "size out of range" },
      { -1 / 0, "size out of range" }, { "-1", "size out of range" }, { "9e9", "malformed size '9e9'" },
      { ("9"):rep(30), "size out of range" }, { 0 / 0, "size is not an integer" },
      { 1.5, "size is not an integer" }, { "1.5", "size is not an integer" }, { "x", "malformed size 'x'" },
      { "", "malformed size ''" }, { "0x10", "malformed size '0x10'" }, { "nan", "malformed size 'nan'" },
      { "1KK", "malformed size '1KK'" }, { true, "size expected, got boolean" },
      { {}, "size expected, got table" },
    } do
      assert.equal("bad argument #1 to 'buffer' (" .. case[2] .. ")", message(a.buffer, a, case[1]))
    end
    assert.equal("bad argument #1 to 'buffer' (size expected, got nil)", message(a.buffer, a))
  end)

  it("says who the receiver should have been", function()
    local a = arena()
    assert.equal("calling 'buffer' on bad self (hakmem.arena expected, got number)", message(a.buffer, 1, 1))
    assert.equal("calling 'close' on bad self (hakmem.arena expected, got nil)", message(a.close))
    assert.equal("calling 'stats' on bad self (hakmem.arena expected, got userdata)", message(a.stats, io.stdout))
  end)

  it("answers want of memory with nil, message, code", function()
    local a = arena { limit = "1M" }
    local b, text, code = a:buffer "2M"
    assert.is_nil(b)
    assert.equal("memory limit reached", text)
    assert.equal("QUOTA", code)
    assert.truthy(a:stats "refusals" > 0)
    assert.truthy(a:stats "charged" <= 1048576)
    assert.truthy(a:buffer "64K")
    local c, why, name = arena():buffer(2 ^ 62)
    assert.is_nil(c)
    assert.equal("not enough memory", why)
    assert.equal("NOMEM", name)
  end)

  it("never charges more than the hard limit", function()
    local a = arena { limit = "8M" }
    local kept = {}
    for i = 1, 100000 do
      local b = a:buffer((i * 7919) % 100000)
      if not b then break end
      kept[i] = b
    end
    local stats = a:stats()
    assert.truthy(stats.peak <= 8 * 1024 * 1024)
    assert.truthy(stats.peak > 6 * 1024 * 1024)
    assert.truthy(stats.refusals > 0)
  end)

  it("changes limits, one at a time", function()
    local a = arena()
    assert.equal(a, a:limit { hard = "2M" })
    a:limit { soft = "1M" }
    local soft, hard = a:limit()
    assert.equal(1048576, soft)
    assert.equal(2097152, hard)
    assert.equal("bad argument #1 to 'limit' (soft limit is above the hard limit)", message(a.limit, a, { hard = 1 }))
    assert.equal("bad argument #1 to 'limit' (unknown key 'hrad')", message(a.limit, a, { hrad = 1 }))
    assert.equal("bad argument #1 to 'limit' (table expected, got string)", message(a.limit, a, "1M"))
    soft, hard = a:limit()
    assert.equal(1048576, soft)
    assert.equal(2097152, hard)
    a:limit { soft = 0, limit = 0 }
    assert.truthy(a:buffer "4M")
  end)

  it("accepts a limit below the charge and refuses the next request", function()
    local a = arena()
    local b = a:buffer "1M"
    a:limit { hard = "64K" }
    b:u8(-1, 7)
    assert.equal(7, b:u8(-1))
    local c, _, code = a:buffer "1M"
    assert.is_nil(c)
    assert.equal("QUOTA", code)
  end)

  it("gives one statistic or all", function()
    local a = arena()
    local kept = a:buffer(100000)
    assert.truthy(a:stats "allocated" >= 100000)
    assert.equal(1, a:stats().blocks)
    assert.equal("bad argument #1 to 'stats' (statistic 'resident' has no value for one arena)",
      message(a.stats, a, "resident"))
    assert.equal("bad argument #1 to 'stats' (unknown statistic 'residents')", message(a.stats, a, "residents"))
    assert.equal("bad argument #1 to 'stats' (string expected, got number)", message(a.stats, a, 1))
    local s = a:stats()
    assert.equal(s.mapped, s.active + s.cached + s.purged + s.reserved + s.metadata)
    assert.is_nil(s.resident)
    assert.equal(100000, #kept)
  end)

  it("sets its own knobs, all or none", function()
    local a = arena()
    assert.equal(a, a:configure { arena = { retain = "1M" } })
    a:configure { ["arena.retain"] = 2097152 }
    local text = message(a.configure, a, { arena = { retain = "1M", colour = 1 } })
    assert.equal("unknown knob 'arena.colour'", text)
    assert.truthy(message(a.configure, a, { purge = { decay = 1 } }):find "purge%.decay")
    assert.equal("bad argument #1 to 'configure' (table expected, got nil)", message(a.configure, a))
    assert.equal("bad argument #1 to 'configure' (knob names are strings, got number)",
      message(a.configure, a, { arena = { 1 } }))
    arena { arena = { nursery = 0 }, ["arena.owner_check"] = true }
  end)

  it("resets: every buffer gone, the arena usable", function()
    local a = arena()
    local b, c = a:buffer(1000), a:buffer "3M"
    local s = b:slice(1, 10)
    assert.equal(a, a:reset())
    for _, gone in ipairs { b, c, s } do
      assert.equal("attempt to use a freed buffer", message(gone.u8, gone, 1))
    end
    assert.equal(0, a:stats "allocated")
    assert.equal(0, a:stats "blocks")
    assert.equal(1, a:stats "arena.resets")
    local d = a:buffer(1000)
    assert.equal(("\0"):rep(1000), d:read(1))
  end)

  it("trims what it keeps", function()
    local a = arena()
    for _ = 1, 4 do
      local kept = {}
      for i = 1, 64 do kept[i] = a:buffer(60000) end
      for i = 1, 64 do kept[i]:free() end
    end
    assert.equal(a, a:trim())
    assert.equal(0, a:stats "allocated")
    assert.truthy(a:stats "cached" <= 2 * 65536)
  end)

  it("closes: every use raises, tostring still works", function()
    local a = arena()
    local b = a:buffer(10)
    a:close()
    assert.equal("hakmem.arena (closed)", tostring(a))
    assert.equal("hakmem.buffer (freed)", tostring(b))
    for _, method in ipairs { "buffer", "stats", "limit", "configure", "reset", "trim", "close" } do
      assert.equal("attempt to use a closed arena", message(a[method], a, {}), method)
    end
    assert.equal("attempt to use a freed buffer", message(b.read, b, 1))
  end)

  it("goes with the collector, but not before its buffers", function()
    collectgarbage()
    collectgarbage()
    local before = hakmem.stats "arena.live"
    local b = hakmem.arena():buffer(100)
    collectgarbage()
    collectgarbage()
    assert.equal(before + 1, hakmem.stats "arena.live")
    assert.equal(7, b:u8(1, 7):u8(1))
    b = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.equal(before, hakmem.stats "arena.live")
  end)

  it("cannot be closed or reset while a Lua state lives in it", function()
    local a = arena()
    local vm = assert(hakmem.vm { arena = a })
    assert.equal("arena in use by a Lua state", message(a.close, a))
    assert.equal("arena in use by a Lua state", message(a.reset, a))
    local ok, two = vm:call "return 1 + 1"
    assert.truthy(ok)
    assert.equal(2, two)
    vm:close()
    assert.equal(0, a:stats "allocated")
    a:close()
    assert.equal("hakmem.arena (closed)", tostring(a))
  end)

  it("returns everything on close", function()
    local before = hakmem.stats()
    local a = arena { name = "much" }
    local kept = {}
    for i = 1, 2000 do kept[i] = a:buffer(i * 37) end
    assert.truthy(hakmem.stats "allocated" > before.allocated + 37 * 2000 * 1000)
    a:close()
    kept = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    local after = hakmem.stats()
    assert.truthy(after.allocated <= before.allocated + 65536, after.allocated - before.allocated)
    assert.equal(before.arena.live, after.arena.live)
    for _, s in ipairs(after.arenas) do assert.not_equal("much", s.name) end
  end)

  if _VERSION ~= "Lua 5.1" and _VERSION ~= "Lua 5.2" and _VERSION ~= "Lua 5.3" then
    it("closes at the end of a <close> scope, also twice and under an error", function()
      local check = load [[
        local hakmem = ...
        local seen
        do
          local a <close> = hakmem.arena()
          local b <close> = a:buffer(10)
          seen = a
        end
        assert(tostring(seen) == "hakmem.arena (closed)")
        do
          local a <close> = hakmem.arena()
          a:close()
        end
        assert(not pcall(function()
          local a <close> = hakmem.arena()
          seen = a
          error "x"
        end))
        return tostring(seen)
      ]]
      assert.equal("hakmem.arena (closed)", check(hakmem))
    end)
  end

  it("lets the finalizers come in any order when the interpreter ends", function()
    local output, status = support.child [[
      local hakmem = require "hakmem"
      keep = {}
      for i = 1, 200 do
        local a = hakmem.arena { limit = "64M" }
        keep[#keep + 1] = a:buffer(1000):slice(10)
        keep[#keep + 1] = hakmem.vm { arena = a }
        keep[#keep + 1] = hakmem.vm { limit = "2M" }
      end
      print "alive"
    ]]
    assert.equal("alive\n", output)
    assert.equal(0, status)
  end)
end)
