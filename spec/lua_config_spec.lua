-- hakmem.config, hakmem.configure, and the environment.
local support = dofile "spec/lua_support.lua"
local hakmem = require "hakmem"
local message = support.message

local knobs = support.definitions("csrc/base/knobs.def", "K")

local lua_types = { bool = "boolean", count = "number", bytes = "number", duration = "number", word = "string" }

describe("hakmem.config", function()
  it("has every knob of knobs.def, with the type that fits", function()
    for _, knob in ipairs(knobs) do
      assert.equal(lua_types[knob.type], type(hakmem.config[knob.name]), knob.name)
    end
  end)

  it("can be walked, in the order of knobs.def", function()
    local i = 0
    for name, value in hakmem.config do
      i = i + 1
      assert.equal(knobs[i].name, name)
      assert.equal(hakmem.config[name], value)
    end
    assert.equal(#knobs, i)
    if _VERSION ~= "Lua 5.1" then
      local n = 0
      for name in pairs(hakmem.config) do
        n = n + 1
        assert.equal(knobs[n].name, name)
      end
      assert.equal(#knobs, n)
    end
  end)

  it("sets, with every way to write a value", function()
    local decay = hakmem.config["purge.decay"]
    for _, case in ipairs { { "250ms", 0.25 }, { 0.5, 0.5 }, { "2s", 2 }, { "3", 3 }, { 0, 0 }, { 1.25, 1.25 } } do
      hakmem.config["purge.decay"] = case[1]
      assert.equal(case[2], hakmem.config["purge.decay"])
    end
    hakmem.config["purge.decay"] = decay
    local retain = hakmem.config["arena.retain"]
    for _, case in ipairs { { "1.5M", 1572864 }, { 4096, 4096 }, { "64KiB", 65536 }, { "100", 100 } } do
      hakmem.config["arena.retain"] = case[1]
      assert.equal(case[2], hakmem.config["arena.retain"])
    end
    hakmem.config["arena.retain"] = retain
    for _, case in ipairs { { false, false }, { true, true }, { "off", false }, { "on", true } } do
      hakmem.config["large.remap"] = case[1]
      assert.equal(case[2], hakmem.config["large.remap"])
    end
    local mode = hakmem.config["purge.mode"]
    for _, word in ipairs { "free", "off", "dontneed" } do
      hakmem.config["purge.mode"] = word
      assert.equal(word, hakmem.config["purge.mode"])
    end
    hakmem.config["purge.mode"] = mode
  end)

  it("raises for what it does not know", function()
    assert.equal("unknown knob 'l25.colour'", message(function() return hakmem.config["l25.colour"] end)
      :gsub("^[^:]+:%d+: ", "") .. "")
    assert.truthy(message(function() hakmem.config["l25.colour"] = 1 end):find "unknown knob 'l25%.colour'$")
    assert.truthy(message(function() return hakmem.config[1] end):find "knob names are strings, got number$")
    assert.truthy(message(function() hakmem.config["purge.decay"] = {} end)
      :find "knob 'purge%.decay': string, number or boolean expected, got table$")
    assert.truthy(message(function() hakmem.config["purge.decay"] = nil end):find "got nil$")
  end)

  it("names knob, value and range, and changes nothing", function()
    for _, case in ipairs {
      { "log.level", 4, "'4' is out of range %(0 to 3%)" }, { "log.level", -1, "'%-1' is " },
      { "log.level", 1.5, "'1%.5' is " }, { "log.level", ("9"):rep(30), "'9+' is " },
      { "small.refill", "100K", "'100K' is out of range %(256 to 64K%)" }, { "small.refill", 0 / 0, "'%-?nan' is " },
      { "purge.decay", -1, "'%-1' is out of range %(0 to 3600s%)" },
      { "purge.decay", -0.5, "'%-0.5' is out of range %(0 to 3600s%)" }, { "purge.decay", "2h", "'2h' is " },
      { "purge.decay", "-5s", "'%-5s' is out of range %(0 to 3600s%)" },
      { "purge.decay", "soon", "'soon' is not a duration" },
      { "purge.mode", "nope", "'nope' is not one of dontneed|free|off" }, { "large.remap", 7, "'7' is " },
    } do
      local name, value, pattern = case[1], case[2], case[3]
      local before = hakmem.config[name]
      local text = message(function() hakmem.config[name] = value end)
      assert.truthy(text:find("knob '" .. name:gsub("%.", "%%.") .. "': " .. pattern), text)
      assert.equal(before, hakmem.config[name])
    end
  end)

  it("refuses what is fixed after start", function()
    hakmem.arena():close()
    assert.truthy(message(function() hakmem.config["os.region"] = "1G" end)
      :find "knob 'os%.region' is fixed after start")
  end)
end)

describe("hakmem.configure", function()
  local function with(values, f)
    local before = {}
    for name in pairs(values) do before[name] = hakmem.config[name] end
    f()
    for name, value in pairs(before) do hakmem.config[name] = value end
  end

  it("takes nested groups and dotted names", function()
    with({ ["purge.decay"] = 0, ["small.keep"] = 0, ["small.relink"] = 0 }, function()
      hakmem.configure { purge = { decay = "2s" }, small = { keep = 3, relink = 8 } }
      assert.equal(2, hakmem.config["purge.decay"])
      assert.equal(3, hakmem.config["small.keep"])
      assert.equal(8, hakmem.config["small.relink"])
      hakmem.configure { ["purge.decay"] = 0.75, small = { keep = "4" } }
      assert.equal(0.75, hakmem.config["purge.decay"])
      assert.equal(4, hakmem.config["small.keep"])
    end)
    hakmem.configure {}
  end)

  it("is all or nothing", function()
    local decay, keep = hakmem.config["purge.decay"], hakmem.config["small.keep"]
    for _, bad in ipairs {
      { purge = { decay = "9s" }, small = { keep = 65 } }, { purge = { decay = "9s" }, small = { colour = 1 } },
      { purge = { decay = "9s" }, os = { region = "1G" } }, { purge = { decay = "9s", mode = "nope" } },
      { ["purge.decay"] = "9s", colour = 1 }, { small = { keep = 9 }, purge = { [1] = 2 } },
      { small = { keep = 9 }, purge = { decay = {} } },
    } do
      assert.falsy((pcall(hakmem.configure, bad)))
      assert.equal(decay, hakmem.config["purge.decay"])
      assert.equal(keep, hakmem.config["small.keep"])
    end
    assert.equal("unknown knob 'colour'", message(hakmem.configure, { colour = 1 }))
    assert.equal("bad argument #1 to 'configure' (table expected, got nil)", message(hakmem.configure))
    assert.equal("bad argument #1 to 'configure' (knob names are strings, got number)",
      message(hakmem.configure, { 1 }))
  end)
end)

describe("the environment", function()
  local show = [[
    local hakmem = require "hakmem"
    for name, value in hakmem.config do print(name .. "=" .. tostring(value)) end
  ]]

  it("sets every knob, one by one and together", function()
    local samples = { bool = { "off", false }, count = { "2", 2 }, duration = { "2s", 2 }, bytes = { "1M", 1048576 } }
    local special = {
      ["os.region"] = { "1G", 2 ^ 30 }, ["os.hugepages"] = { "off", "off" }, ["purge.mode"] = { "free", "free" },
      ["l25.shard_by"] = { "site", "site" }, ["small.refill"] = { "8K", 8192 },
      ["bigcache.mode"] = { "fixed", "fixed" }, ["bigcache.hash"] = { "mul32", "mul32" },
      ["bigcache.initial_buckets"] = { "64", 64 }, ["bigcache.max_buckets"] = { "128", 128 },
      ["bigcache.load_percent"] = { "50", 50 },
      ["arena.owner_check"] = { "on", true }, ["log.level"] = { "0", 0 },
    }
    local env, conf = {}, {}
    for _, knob in ipairs(knobs) do
      local sample = special[knob.name] or samples[knob.type]
      assert.truthy(sample, knob.name)
      env["HAKMEM_" .. knob.name:upper():gsub("%.", "_")] = sample[1]
      conf[#conf + 1] = knob.name .. ":" .. sample[1]
    end
    for _, variables in ipairs { env, { HAKMEM_CONF = table.concat(conf, ",") } } do
      local output = support.child(show, variables)
      local seen = {}
      for name, value in output:gmatch "([%w._]+)=([^\n]*)\n" do seen[name] = value end
      for _, knob in ipairs(knobs) do
        local want = (special[knob.name] or samples[knob.type])[2]
        local got = seen[knob.name]
        assert.truthy(got == tostring(want) or tonumber(got) == want, knob.name .. "=" .. tostring(got) .. output)
      end
    end
  end)

  it("warns once about garbage and keeps the default", function()
    for _, value in ipairs { "-1", ("9"):rep(30), "x", "1e3", "0x10", "70" } do
      local output = support.child([[
        local hakmem = require "hakmem"
        for _ = 1, 3 do hakmem.arena():close() end
        print(hakmem.config["small.keep"])
      ]], { HAKMEM_SMALL_KEEP = value })
      local warning, rest = output:match "^([^\n]*)\n(.*)$"
      assert.truthy(warning:find "small%.keep" or warning:find "HAKMEM_SMALL_KEEP", output)
      assert.equal(hakmem.config["small.keep"] .. "\n", rest)
    end
  end)
end)

describe("every knob", function()
  it("has a C test that shows its effect", function()
    local tests = support.shell "cat spec/c/*.c"
    for _, knob in ipairs(knobs) do
      assert.truthy(tests:find("TEST(" .. knob.name:gsub("%.", "_") .. "_effect)", 1, true), knob.name)
    end
  end)
end)

-- One test for each knob that Lua can see at work; it has no threads, so heap.adopt and
-- arena.owner_check are for C alone. In processes of their own: a knob changed here would change the
-- other tests.
describe("the knob", function()
  local function run(code, env)
    local output, status = support.child("local hakmem = require 'hakmem'\n" .. code, env)
    assert.equal(0, status, output)
    return output
  end

  it("log.level shows arenas at 2", function()
    local code = [[hakmem.arena { name = "logged" }:close()]]
    assert.equal("", run(code))
    assert.equal("", run(code, { HAKMEM_LOG = "0" }))
    assert.truthy(run(code, { HAKMEM_LOG = "2" }):find "logged")
    assert.truthy(run([[hakmem.config["log.level"] = 2 ]] .. code):find "logged")
  end)

  it("os.region sets the reservation", function()
    assert.equal("1073741824\n", run([[
      hakmem.arena()
      print(("%d"):format(hakmem.stats "os.region"))
    ]], { HAKMEM_OS_REGION = "1G" }))
    -- and more is reserved when that is full
    assert.equal("true\n", run([[
      local a, list = hakmem.arena(), {}
      for i = 1, 40 do list[i] = assert(a:buffer "4M") end
      print(hakmem.stats "os.reserves" > 1)
    ]], { HAKMEM_OS_REGION = "64M" }))
  end)

  it("os.hugepages and os.hugepages_min decide who asks for huge pages", function()
    local code = [[
      local a, list = hakmem.arena(), {}
      for i = 1, 20000 do list[i] = a:buffer(1000) end -- small: huge pages pay where all pages are in use
      print(hakmem.stats "os.hugepages" > 0)
    ]]
    assert.equal("false\n", run(code, { HAKMEM_OS_HUGEPAGES = "off", HAKMEM_OS_HUGEPAGES_MIN = "0" }))
    assert.equal("false\n", run(code, { HAKMEM_OS_HUGEPAGES = "auto", HAKMEM_OS_HUGEPAGES_MIN = "1G" }))
    assert.equal("true\n", run(code, { HAKMEM_OS_HUGEPAGES = "auto", HAKMEM_OS_HUGEPAGES_MIN = "0" }))
    assert.equal("true\n", run(code, { HAKMEM_OS_HUGEPAGES = "on", HAKMEM_OS_HUGEPAGES_MIN = "1G" }))
  end)

  it("purge.mode and purge.decay decide when freed memory goes back", function()
    local code = [[
      local a, list = hakmem.arena { arena = { retain = 0 } }, {}
      for i = 1, 100 do list[i] = a:buffer(300000):fill(1) end
      for i = 1, 100 do list[i]:free() end
      local t = os.clock()
      while os.clock() - t < 0.1 do end
      for i = 1, 100 do a:buffer(300000):free() end
      a:close()
      hakmem.arena():buffer(300000):free()
      print(hakmem.stats "os.purged_bytes" >= 20e6)
    ]]
    assert.equal("true\n", run(code, { HAKMEM_PURGE_DECAY = "0" }))
    assert.equal("false\n", run(code, { HAKMEM_PURGE_DECAY = "1000s" }))
    assert.equal("false\n", run(code, { HAKMEM_PURGE_DECAY = "0", HAKMEM_PURGE_MODE = "off" }))
    assert.equal("true\n", run(code, { HAKMEM_PURGE_DECAY = "0", HAKMEM_PURGE_MODE = "free" }))
  end)

  it("small.refill sets how much a refill carves", function()
    local code = [[
      local a, list = hakmem.arena(), {}
      for i = 1, 20000 do list[i] = a:buffer(64) end
      print(a:stats "small.refills")
    ]]
    local few = tonumber((run(code, { HAKMEM_SMALL_REFILL = "64K" })))
    local many = tonumber((run(code, { HAKMEM_SMALL_REFILL = "256" })))
    assert.truthy(many > 4 * few, many .. " " .. few)
  end)

  it("small.keep keeps empty slabs", function()
    local code = [[
      local a, list = hakmem.arena(), {}
      for round = 1, 20 do
        for i = 1, 3000 do list[i] = a:buffer(512) end
        for i = 1, 3000 do list[i]:free() end
      end
      print(a:stats "small.retired")
    ]]
    local none = tonumber((run(code, { HAKMEM_SMALL_KEEP = "0" })))
    local lots = tonumber((run(code, { HAKMEM_SMALL_KEEP = "64" })))
    assert.truthy(none > lots, none .. " " .. lots)
  end)

  it("small.relink decides when a full slab is used again", function()
    local code = [[
      local a, list = hakmem.arena(), {}
      for i = 1, 40000 do list[i] = a:buffer(64) end
      for i = 1, 40000, 8 do list[i]:free() end
      local before = a:stats "small.fresh"
      for i = 1, 40000, 8 do list[i] = a:buffer(64) end
      print(a:stats "small.fresh" - before)
    ]]
    local soon = tonumber((run(code, { HAKMEM_SMALL_RELINK = "1024" })))
    local late = tonumber((run(code, { HAKMEM_SMALL_RELINK = "1" })))
    assert.truthy(soon < late, soon .. " " .. late)
  end)

  it("large.remap grows by moving page tables", function()
    local code = [[
      local a = hakmem.arena()
      local b, wall = a:buffer "5M", nil
      b:u8(-1, 7)
      wall = a:buffer "5M"
      for i = 6, 20 do
        assert(b:resize(i * 2 ^ 20))
        wall = a:buffer "5M"
        assert(b:u8(5 * 2 ^ 20) == 7)
      end
      print(a:stats "large.remaps" > 0, a:stats "large.copies" > 0)
    ]]
    assert.equal("true\tfalse\n", run(code, { HAKMEM_LARGE_REMAP = "on" }))
    assert.equal("false\ttrue\n", run(code, { HAKMEM_LARGE_REMAP = "off" }))
  end)

  it("arena.retain decides what an arena keeps after reset", function()
    local code = [[
      local a = hakmem.arena { arena = { retain = %q } }
      local list = {}
      for i = 1, 20000 do list[i] = a:buffer(500) end
      a:reset()
      print(a:stats "cached" >= 8e6)
    ]]
    assert.equal("true\n", run(code:format "64M"))
    assert.equal("false\n", run(code:format "0"))
  end)

  it("arena.nursery decides where a young state lives", function()
    local code = [[
      local vm = hakmem.vm { libs = { "base" } }
      print(vm:stats "nursery.bytes" > 0)
    ]]
    assert.equal("true\n", run(code))
    assert.equal("false\n", run(code, { HAKMEM_ARENA_NURSERY = "0" }))
  end)
end)
