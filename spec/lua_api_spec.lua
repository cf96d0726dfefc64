-- require "hakmem": the module, its backends, statistics, reports.
local support = dofile "spec/lua_support.lua"
local hakmem = require "hakmem"
local message = support.message

local stats_def = support.definitions("csrc/base/stats.def", "S")

local function lookup(t, name)
  local group, key = name:match "^([^.]+)%.(.+)$"
  if not group then return t[name] end
  return t[group] and t[group][key]
end

describe("the module", function()
  it("has the version of the header", function()
    local version = support.text("csrc/include/hakmem.h"):match '#define HAK_VERSION "([^"]+)"'
    assert.equal("hakmem " .. version, hakmem._VERSION)
  end)

  it("is served by the FFI on LuaJIT, by C elsewhere", function()
    assert.equal(support.is_jit and "ffi" or "c", hakmem.backend)
    assert.is_nil(hakmem.backend_reason)
  end)

  it("has the names that types.lua annotates, and no others", function()
    local text = support.text "lua/hakmem/types.lua"
    local function annotated(class)
      local set = {}
      for name in text:gmatch("\nfunction " .. class .. "[.:]([%w_]+)%(") do set[name] = true end
      return set
    end
    local function check(class, object)
      local set = annotated(class)
      for name, value in pairs(object) do
        if type(value) == "function" then
          assert.truthy(set[name], class .. "." .. name .. " has no annotation")
          set[name] = nil
        end
      end
      if hakmem.backend ~= "ffi" then set.new = nil end
      assert.is_nil(next(set), class .. "." .. tostring(next(set)) .. " does not exist")
    end
    check("hakmem", hakmem)
    local a = hakmem.arena()
    local vm = hakmem.vm()
    check("arena", getmetatable(a).__index)
    check("buffer", getmetatable(a:buffer(1)).__index)
    check("vm", getmetatable(vm).__index)
    vm:close()
    a:close()
    assert.truthy(text:find "@field _VERSION" and text:find "@field config" and text:find "@field backend")
  end)

  it("has a cdef that is fresh", function()
    local output, status = support.shell "lua5.4 csrc/tools/cdef.lua --check"
    assert.equal("", output)
    assert.equal(0, status)
  end)

  it("can be required again", function()
    local kept = {}
    for name in pairs(package.loaded) do
      if name:find "^hakmem" then
        kept[name] = package.loaded[name]
        package.loaded[name] = nil
      end
    end
    local again = require "hakmem"
    local b = again.arena():buffer(4)
    assert.equal(7, b:u8(1, 7):u8(1))
    assert.equal(hakmem.backend, again.backend)
    assert.equal(hakmem.stats "arena.live", again.stats "arena.live")
    for name, value in pairs(kept) do package.loaded[name] = value end
  end)

  it("links no Lua into the C library", function()
    local output, status = support.shell("nm -D --undefined-only " .. support.quoted(support.build) .. "/libhakmem.so")
    assert.equal(0, status, output)
    assert.truthy(output:find " U ")
    assert.falsy(output:find "lua")
  end)
end)

-- The same few lines on every Lua whose module was built.
describe("one source", function()
  local program = [[
    local hakmem = require "hakmem"
    local a = hakmem.arena { name = "t", limit = "1M" }
    local b = a:buffer(64)
    print(b:u32(1, 4294967295):u32(1), b:i8(1), b:f64(9, 0.5):f64(9), #b, b:write(1, "abc"):read(1, 3))
    for _, v in ipairs { -1, 2 ^ 63, 0 / 0, 1.5, "x", {} } do print(pcall(a.buffer, a, v)) end
    print(pcall(b.u8, b, 65))
    print(a:buffer "2M")
    print(pcall(hakmem.stats, "x"))
    print(pcall(hakmem.arena, { x = 1 }))
    print(pcall(function() hakmem.config["x.y"] = 1 end))
    local vm = hakmem.vm { limit = "1M" }
    local ok, text = vm:call "return ('x'):rep(1e9)"
    print(ok, text:match "not enough memory")
    print(vm:call("return ...", "back", true, nil))
    vm:close()
    a:close()
    print(a, b, vm, pcall(a.buffer, a, 1))
  ]]
  local expected
  for _, lua in ipairs { "lua5.1", "lua5.2", "lua5.3", "lua5.4", "luajit" } do
    local abi = lua == "luajit" and "5.1" or lua:match "[%d.]+"
    it("gives the same answers and the same errors on " .. lua, function()
      local cpath = ("%s/lua/%s/?.so;;"):format(support.build, abi)
      local root = support.shell("pwd"):gsub("\n", "")
      local output, status = support.child(program, {
        LUA_CPATH = cpath, LUA_PATH = root .. "/lua/?.lua;" .. root .. "/lua/?/init.lua;;",
      }, lua)
      assert.equal(0, status, output)
      output = output:gsub("/tmp/lua_%w+", "FILE")
      expected = expected or output
      assert.equal(expected, output)
      assert.truthy(output:find "bad argument #1 to 'buffer' %(size is not an integer%)")
    end)
  end
end)

if support.is_jit then
  describe("without the FFI", function()
    local program = [[
      local hakmem = require "hakmem"
      local b = hakmem.arena():buffer(16)
      print(hakmem.backend, hakmem.backend_reason)
      print(b:u8(1, 255):i8(1), b:write(2, "xyz"):read(2, 3), #b, pcall(b.u8, b, 17))
      print(hakmem.stats("arena.live"), type(hakmem.stats().small.slabs), b:u64(1, 2 ^ 60):u64(1) == 2 ^ 60)
    ]]
    local function check(reason, prelude)
      local output = support.child(prelude .. program)
      assert.equal("c\t" .. reason .. "\n-1\txyz\t16\tfalse\tbad argument #1 to 'u8' (position out of range)\n"
        .. "2\tnumber\ttrue\n", output)
    end

    it("the C module does it all", function()
      check("no ffi here", [[package.preload["hakmem.ffi"] = function() error("no ffi here", 0) end
      ]])
    end)

    it("also when the declarations are of another ABI", function()
      check("hakmem.cdef is of ABI 99, the library has 1", [[require("hakmem.cdef").abi = 99
      ]])
    end)
  end)
end

describe("hakmem.stats", function()
  it("has every statistic of stats.def, nested at the dots", function()
    local a = hakmem.arena()
    local process, arena = hakmem.stats(), a:stats()
    local names = {}
    for _, s in ipairs(stats_def) do
      local where = s.rest:match "(%u+), \"[^\"]*\"%)"
      names[s.name] = true
      for scope, t in pairs { PROCESS = process, ARENA = arena } do
        local value = lookup(t, s.name)
        if where == "BOTH" or where == scope then
          assert.equal("number", type(value), s.name)
          assert.truthy(value >= 0, s.name)
        else
          assert.is_nil(value, s.name)
        end
      end
    end
    local function walk(t, prefix)
      for key, value in pairs(t) do
        if key ~= "arenas" and not (prefix == "" and type(value) == "string") then
          if prefix .. key == "l25.classes" then
            assert.equal("table", type(value))
          elseif type(value) == "table" then
            walk(value, prefix .. key .. ".")
          else
            assert.truthy(names[prefix .. key], prefix .. key)
          end
        end
      end
    end
    walk(process, "")
    walk(arena, "")
    a:close()
  end)

  it("adds up", function()
    local kept, a = {}, hakmem.arena()
    for i = 1, 500 do kept[i] = a:buffer(i * 300) end
    for i = 1, 500, 2 do kept[i]:free() end
    local all = hakmem.stats()
    table.insert(all.arenas, all)
    for _, s in ipairs(all.arenas) do
      assert.equal(s.mapped, s.active + s.cached + s.purged + s.reserved + s.metadata)
      assert.equal(s.waste, s.active - s.allocated)
      assert.truthy(s.peak >= s.charged)
    end
    assert.truthy(all.resident > 1024 * 1024)
    assert.truthy(a:stats "allocated" >= 300 * 500 * 500 / 4)
    a:close()
  end)

  it("counts large blocks of shared arenas by class", function()
    local function of(s, size)
      for _, class in ipairs(s.l25.classes) do
        if class.size == size then return class end
      end
      return { blocks = 0, cached = 0, ops = 0 }
    end
    local size, all = 3 * 65536, of(hakmem.stats(), 3 * 65536)
    local a = hakmem.arena { kind = "shared" }
    assert.same({}, a:stats().l25.classes)
    local one, two = a:buffer(size), a:buffer(size - 60000)
    a:buffer(1000)
    two:free()
    assert.same({ { size = size, blocks = 1, cached = 1, ops = 2 } }, a:stats().l25.classes)
    local now = of(hakmem.stats(), size)
    assert.equal(all.blocks + 1, now.blocks)
    assert.equal(all.ops + 2, now.ops)
    local sum = 0
    for _, class in ipairs(hakmem.stats().l25.classes) do sum = sum + class.ops end
    assert.equal(sum, hakmem.stats "l25.ops")
    one:free()
    a:trim()
    assert.same({ { size = size, blocks = 0, cached = 0, ops = 2 } }, a:stats().l25.classes)
    a:close()
    assert.equal(all.ops + 2, of(hakmem.stats(), size).ops)
  end)

  it("gives a fresh table each time", function()
    local one, two = hakmem.stats(), hakmem.stats()
    assert.not_equal(one, two)
    assert.not_equal(one.small, two.small)
    one.small.slabs = "mine"
    assert.equal("number", type(hakmem.stats().small.slabs))
  end)

  it("gives one value by its dotted name", function()
    for _, s in ipairs(stats_def) do
      local where = s.rest:match "(%u+), \"[^\"]*\"%)"
      if where == "ARENA" then
        assert.equal("bad argument #1 to 'stats' (statistic '" .. s.name .. "' has no process-wide value)",
          message(hakmem.stats, s.name))
      else
        assert.equal("number", type(hakmem.stats(s.name)), s.name)
      end
    end
    assert.equal("bad argument #1 to 'stats' (unknown statistic 'small')", message(hakmem.stats, "small"))
    assert.equal("bad argument #1 to 'stats' (string expected, got number)", message(hakmem.stats, 1))
  end)

  it("lists the live arenas, the default one first", function()
    local before = #hakmem.stats().arenas
    local a, b = hakmem.arena { name = "first" }, hakmem.arena { name = "second", kind = "shared" }
    local list = hakmem.stats().arenas
    assert.equal(before + 2, #list)
    assert.equal("default", list[1].name)
    local kinds = {}
    for _, s in ipairs(list) do kinds[s.name] = s.kind end
    assert.equal("private", kinds.first)
    assert.equal("shared", kinds.second)
    assert.equal(before + 2, hakmem.stats "arena.live")
    a:close()
    b:close()
  end)

  it("follows what happens", function()
    local a = hakmem.arena()
    local before = hakmem.stats "arena.created"
    hakmem.arena():close()
    assert.equal(before + 1, hakmem.stats "arena.created")
    local b = a:buffer "4M"
    assert.equal(1, a:stats "large.blocks")
    assert.truthy(a:stats "large.bytes" >= 4 * 1024 * 1024)
    b:free()
    assert.equal(0, a:stats "large.blocks")
    a:close()
  end)
end)

describe("hakmem.report", function()
  it("is text by default", function()
    local text = hakmem.report()
    for _, word in ipairs { "allocated", "waste", "resident" } do assert.truthy(text:find(word, 1, true), word) end
    assert.truthy(hakmem.report "text":find "allocated")
  end)

  it("is JSON with the same names", function()
    local json = require "dkjson"
    local t, _, why = json.decode(hakmem.report "json")
    assert.equal("table", type(t), why)
    local text = hakmem.report "json"
    for _, name in ipairs { "allocated", "charged", "slabs", "arenas", "resident" } do
      assert.truthy(text:find('"' .. name .. '"', 1, true), name)
    end
  end)

  it("is Prometheus text", function()
    local text = hakmem.report "prometheus"
    assert.truthy(text:find "# TYPE hakmem_[%w_]+ gauge\n")
    assert.truthy(text:find "\nhakmem_[%w_]+[^\n]* %d+\n")
    assert.equal("\n", text:sub(-1))
  end)

  it("survives hundreds of arenas", function()
    local list = {}
    for i = 1, 300 do list[i] = hakmem.arena { name = "many-" .. i } end
    assert.truthy(hakmem.report("json"):find '"many%-300"')
    for _, a in ipairs(list) do a:close() end
  end)

  it("knows no other format", function()
    assert.equal("bad argument #1 to 'report' (unknown format 'xml')", message(hakmem.report, "xml"))
    assert.equal("bad argument #1 to 'report' (string expected, got table)", message(hakmem.report, {}))
  end)
end)

describe("hakmem.trim", function()
  it("gives caches back and says how much", function()
    local a = hakmem.arena { kind = "shared" }
    local list = {}
    for i = 1, 100 do list[i] = a:buffer(50000) end
    for i = 1, 100 do list[i]:free() end
    local n = hakmem.trim()
    assert.equal("number", type(n))
    assert.truthy(n >= 0)
    assert.truthy(a:stats "cached" <= 2 * 65536)
    a:close()
  end)
end)

describe("hakmem.log", function()
  it("keeps lines for Lua to fetch", function()
    local output = support.child [[
      local hakmem = require "hakmem"
      hakmem.config["log.level"] = 2
      hakmem.log "keep"
      hakmem.arena { name = "kept" }:close()
      local lines = hakmem.log()
      assert(#lines >= 1 and table.concat(lines, "\n"):find "kept")
      assert(#hakmem.log() == 0)
      for i = 1, 300 do hakmem.arena { name = "n" .. i }:close() end
      lines = hakmem.log()
      assert(#lines == 128 and lines[128]:find "n300", #lines)
      hakmem.log "stderr"
      hakmem.arena { name = "shown" }:close()
      assert(#hakmem.log() == 0)
    ]]
    assert.truthy(output:find "shown", output)
    assert.falsy(output:find "kept", output)
    assert.falsy(output:find "n300", output)
  end)

  it("knows no other place", function()
    assert.equal("bad argument #1 to 'log' ('keep' or 'stderr' expected)", message(hakmem.log, "file"))
    assert.equal("bad argument #1 to 'log' ('keep' or 'stderr' expected)", message(hakmem.log, print))
  end)
end)
