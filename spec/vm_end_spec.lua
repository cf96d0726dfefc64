-- How a hakmem.vm ends: dropped when no finalizer can be waiting, else closed with all of them run.
local support = dofile "spec/lua_support.lua"
local hakmem = require "hakmem"
local ends = require "hakmem.core".internals.vm_ends

-- LuaJIT's compiler keeps machine code outside of the arena: only a budget switches it off for certain.
local function options(extra)
  local t = { limit = "8M", instructions = support.is_jit and 1e9 or nil }
  for k, v in pairs(extra or {}) do t[k] = v end
  return t
end

--- Runs the code in a child and ends that; "dropped" or "closed".
local function ending(opt, code, ...)
  local vm = assert(hakmem.vm(opt))
  local ok, text = vm:call(code, ...)
  assert(ok, text)
  local dropped, closed = ends()
  vm:close()
  local d, c = ends()
  assert.equal(1, d - dropped + c - closed)
  return d > dropped and "dropped" or "closed"
end

describe("the end of a hakmem.vm", function()
  it("is a drop when nothing can be waiting", function()
    for _, code in ipairs {
      "return 1",
      "keep = {} for i = 1, 20000 do keep[i] = { i } end",
      "class = {} class.__index = class object = setmetatable({}, class)",
      "co = coroutine.wrap(function() coroutine.yield() end) co()",
      "pcall(error, {})",
      "io.write('') return io.type(io.stdout)",
      "return #table.concat({ ('x'):rep(1e5), os.date(), math.pi })",
      "package.preload.x = function() return {} end return type(require 'x')",
    } do
      assert.equal("dropped", ending(options(), code), code)
    end
    assert.equal("dropped", ending(options { libs = {} }, "return 1"))
    assert.equal("dropped", ending(options { instructions = 1e6 }, "pcall(error)"))
  end)

  it("is a drop of everything, also after failures", function()
    local before = hakmem.stats()
    for _ = 1, 20 do
      local vm = assert(hakmem.vm(options { limit = "4M" }))
      assert.is_false((vm:call "local t = {} while true do t[#t + 1] = { ('x'):rep(1000) .. #t } end"))
      local dropped = ends()
      vm:close()
      assert.equal(dropped + 1, (ends()))
    end
    local after = hakmem.stats()
    assert.equal(before.arena.live, after.arena.live)
    assert.truthy(after.allocated <= before.allocated + 65536)
  end)

  it("closes after files were opened, and flushes them", function()
    local path = os.tmpname()
    assert.equal("closed", ending(options(),
      "f = io.open(..., 'w') f:setvbuf('full', 65536) f:write('flushed')", path))
    assert.equal("flushed", support.text(path))
    for _, code in ipairs {
      "local name = ... for line in io.lines(name) do l = line end",
      "local name = ... io.input(name)",
      "local name = ... io.output(name)",
      "io.tmpfile()",
      "io.popen('true'):close()",
      "pcall(io.open)", -- tried is enough
    } do
      assert.equal("closed", ending(options(), code, path), code)
    end
    os.remove(path)
  end)

  it("closes what C libraries may have left", function()
    local code = [[
      local paths = ...
      package.path, package.cpath = paths.path, paths.cpath
      kept = require "hakmem".arena { name = "left by a child" }]]
    local live = hakmem.stats "arena.live"
    assert.equal("closed", ending(options(), code, { path = package.path, cpath = package.cpath }))
    assert.equal(live, hakmem.stats "arena.live")
    assert.equal("closed", ending(options(), "pcall(require, 'no.such.module')"))
    assert.equal("closed", ending(options(), "pcall(package.loadlib, '/none', '*')"))
  end)

  it("runs finalizers of scripts", function()
    local path = os.tmpname()
    local code, opt
    if support.is_jit then
      opt = { limit = "8M" }
      code = [[
        local path = ...
        proxy = newproxy(true)
        getmetatable(proxy).__gc = function() local f = io.open(path, "w") f:write("finalized") f:close() end]]
    else
      opt = { limit = "8M", libs = { "base", "io" } }
      code = [[
        local path = ...
        object = setmetatable({}, { __gc = function() local f = io.open(path, "w") f:write("finalized") f:close() end })]]
    end
    assert.equal("closed", ending(opt, code, path))
    assert.equal("finalized", support.text(path))
    os.remove(path)
  end)

  if not support.is_jit then
    it("knows a finalizer by its name alone", function()
      assert.equal("closed", ending(options(), "setmetatable({}, { __gc = true })"))
      assert.equal("closed", ending(options(), "local s = setmetatable s({}, { __gc = false })"))
      assert.equal("dropped", ending(options(), "local m = {} setmetatable({}, m) m.__gc = function() end"))
      assert.equal("dropped", ending(options(), "setmetatable({}, setmetatable({}, { __index = { __gc = 1 } }))"))
    end)
  end

  it("runs a finalizer that a script gives to files", function()
    local path = os.tmpname()
    local code = [[
      local path = ...
      local open = assert(loadstring or load)("return io.open")()
      local raw = { open = open }
      getmetatable(io.stdout).__gc = function()
        getmetatable(io.stdout).__gc = nil
        local f = raw.open(path, "w") f:write("by files") f:close()
      end]]
    assert.equal("closed", ending({ limit = "8M" }, code, path))
    assert.equal("by files", support.text(path))
    os.remove(path)
  end)

  it("closes where debug or ffi is open", function()
    assert.equal("closed", ending(options { libs = { "base", "debug" } }, "return 1"))
    if support.is_jit then assert.equal("closed", ending(options { libs = { "base", "ffi" } }, "return 1")) end
  end)

  if support.is_jit then
    it("closes when the compiler may have run", function()
      assert.equal("closed", ending({}, "for i = 1, 1000 do local x = i * 2 end"))
      assert.equal("dropped", ending({ seconds = 60 }, "jit.on() for i = 1, 1000 do local x = i * 2 end"))
      assert.equal("closed", ending({ limit = "8M" }, "jit.on() for i = 1, 1000 do local x = i * 2 end"))
    end)
  end

  it("closes in an arena that is somebody else's", function()
    local arena = hakmem.arena { name = "shared by two" }
    local keep = assert(arena:buffer(1000)):write(1, "kept")
    local before = arena:stats "blocks"
    assert.equal("closed", ending({ arena = arena }, "keep = {} for i = 1, 1000 do keep[i] = { i } end"))
    assert.equal(before, arena:stats "blocks")
    assert.equal("kept", keep:read(1, 4))
    arena:close()
  end)
end)
