-- Buffers: zero-filled, bounds-checked bytes.
local support = dofile "spec/lua_support.lua"
local hakmem = require "hakmem"
local message = support.message

describe("a buffer", function()
  local a
  before_each(function() a = assert(hakmem.arena { limit = "64M" }) end)
  after_each(function() a:close() end)

  it("is zero-filled, also in memory that was used before", function()
    for _, size in ipairs { 1, 100, 5000, 100000, 3000000 } do
      local b = a:buffer(size)
      b:fill(255)
      b:free()
      b = a:buffer(size)
      assert.equal(("\0"):rep(size), b:read(1), size)
    end
  end)

  it("knows its length", function()
    assert.equal(0, #a:buffer(0))
    assert.equal(65536, #a:buffer "64K")
    assert.equal("hakmem.buffer (10 bytes)", tostring(a:buffer(10)))
  end)

  it("reads and writes bytes", function()
    local b = a:buffer(11)
    assert.equal(b, b:write(1, "hello world"))
    assert.equal("hello world", b:read(1))
    assert.equal("hello", b:read(1, 5))
    assert.equal("world", b:read(7))
    assert.equal("world", b:read(-5))
    assert.equal("wor", b:read(-5, 3))
    assert.equal("", b:read(12))
    assert.equal("", b:read(3, 0))
    b:write(-5, "there")
    assert.equal("hello there", b:read(1))
    b:write(12, "")
    b:write(3, "\0\255")
    assert.equal("he\0\255o there", b:read(1))
  end)

  it("fills", function()
    local b = a:buffer(6)
    assert.equal(b, b:fill(65))
    assert.equal("AAAAAA", b:read(1))
    b:fill("b", 2, 2)
    assert.equal("AbbAAA", b:read(1))
    b:fill(67, 5)
    assert.equal("AbbACC", b:read(1))
    b:fill()
    assert.equal(("\0"):rep(6), b:read(1))
    b:fill(1, 7)
    for _, case in ipairs {
      { 256, "value out of range" }, { -1, "value out of range" }, { 2 ^ 63, "value out of range" },
      { 1.5, "value is not an integer" }, { "ab", "string is not one byte" }, { {}, "number expected, got table" },
    } do
      assert.equal("bad argument #1 to 'fill' (" .. case[2] .. ")", message(b.fill, b, case[1]))
    end
    assert.equal("bad argument #2 to 'fill' (position out of range)", message(b.fill, b, 0, 8))
    assert.equal("bad argument #3 to 'fill' (count out of range)", message(b.fill, b, 0, 2, 6))
  end)

  it("copies, also over itself", function()
    local b, c = a:buffer(8), a:buffer(4)
    c:write(1, "abcd")
    assert.equal(b, b:copy(1, c))
    b:copy(6, c, 2)
    b:copy(5, c, 4, 1)
    assert.equal("abcddbcd", b:read(1))
    b:copy(2, b, 1, 7)
    assert.equal("aabcddbc", b:read(1))
    b:copy(1, b, 2)
    assert.equal("abcddbcc", b:read(1))
    assert.equal("bad argument #2 to 'copy' (hakmem.buffer expected, got string)", message(b.copy, b, 1, "x"))
    assert.equal("bad argument #4 to 'copy' (count out of range)", message(b.copy, b, 6, c))
    assert.equal("bad argument #4 to 'copy' (count out of range)", message(b.copy, b, 1, c, 2, 4))
    assert.equal("bad argument #3 to 'copy' (position out of range)", message(b.copy, b, 1, c, 6))
    c:free()
    assert.equal("attempt to use a freed buffer", message(b.copy, b, 1, c))
  end)

  it("has views on the same memory", function()
    local b = a:buffer(10)
    local s = b:slice(3, 5)
    assert.equal(5, #s)
    s:write(1, "12345")
    assert.equal("\0\00012345\0\0\0", b:read(1))
    local t = s:slice(-2)
    assert.equal("45", t:read(1))
    b:u8(7, 65)
    assert.equal("4A", t:read(1))
    assert.equal("bad argument #1 to 'u8' (position out of range)", message(t.u8, t, 3))
    assert.equal("bad argument #2 to 'slice' (count out of range)", message(b.slice, b, 3, 9))
    assert.equal(0, #b:slice(11))
  end)

  it("keeps the memory for a slice when it is collected itself", function()
    local s = a:buffer(1000):write(991, "0123456789"):slice(-10)
    for _ = 1, 3 do
      collectgarbage()
      a:buffer(1000):fill(1)
    end
    assert.equal("0123456789", s:read(1))
    s = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.equal(0, a:stats "blocks")
  end)

  it("takes its slices along when it is freed; a slice takes nothing", function()
    local b = a:buffer(10)
    local s, t = b:slice(1), b:slice(2)
    s:free()
    assert.equal("attempt to use a freed buffer", message(s.read, s, 1))
    assert.equal(9, #t)
    assert.equal(10, #b)
    b:free()
    assert.equal("attempt to use a freed buffer", message(t.read, t, 1))
    assert.equal(0, a:stats "blocks")
  end)

  it("resizes: old bytes stay, new ones are zero, slices follow", function()
    local b = a:buffer(10):write(1, "0123456789")
    local s, long = b:slice(2, 3), b:slice(5)
    for _, size in ipairs { 20, 1000, 100000, 5000000, 70000, 12 } do
      assert.equal(b, b:resize(size))
      assert.equal(size, #b)
      assert.equal("0123456789" .. ("\0"):rep(2), b:read(1, 12))
      assert.equal("\0", b:read(-1))
      assert.equal("123", s:read(1))
      b:u8(2, 49)
    end
    b:resize(6)
    assert.equal("012345", b:read(1))
    assert.equal("123", s:read(1))
    assert.equal("attempt to use a freed buffer", message(long.read, long, 1))
    b:resize(12)
    assert.equal("012345" .. ("\0"):rep(6), b:read(1))
    b:resize(0)
    assert.equal(0, #b)
    assert.equal("attempt to resize a slice", message(function() return a:buffer(3):slice(1):resize(4) end)
      :gsub("^.-:%d+: ", ""))
  end)

  it("stays as it was when a resize fails", function()
    local b = a:buffer(10):write(1, "0123456789")
    local r, text, code = b:resize "65M"
    assert.is_nil(r)
    assert.equal("memory limit reached", text)
    assert.equal("QUOTA", code)
    assert.equal("0123456789", b:read(1))
    assert.equal("bad argument #1 to 'resize' (size out of range)", message(b.resize, b, -1))
  end)

  it("raises after free, in every method", function()
    local b = a:buffer(8)
    b:free()
    for _, method in ipairs {
      "read", "write", "fill", "copy", "slice", "resize", "free", "pointer", "u8", "i8", "u16", "i16", "u32",
      "i32", "u64", "i64", "f32", "f64",
    } do
      assert.equal("attempt to use a freed buffer", message(b[method], b, 1, 1), method)
    end
    assert.truthy(message(function() return #b end):find "attempt to use a freed buffer$")
    assert.equal("hakmem.buffer (freed)", tostring(b))
  end)

  it("checks every position", function()
    local b = a:buffer(8)
    for _, i in ipairs { 0, 9, -9, 2 ^ 53, -2 ^ 53, 2 ^ 63, -2 ^ 63, 2 ^ 64, 1 / 0, -1 / 0 } do
      assert.equal("bad argument #1 to 'u8' (position out of range)", message(b.u8, b, i), i)
      if i ~= 9 then
        assert.equal("bad argument #1 to 'read' (position out of range)", message(b.read, b, i), i)
        assert.equal("bad argument #1 to 'write' (position out of range)", message(b.write, b, i, ""), i)
      end
    end
    for _, i in ipairs { 1.5, 0 / 0, -0.5, 7.999 } do
      assert.equal("bad argument #1 to 'u8' (position is not an integer)", message(b.u8, b, i))
      assert.equal("bad argument #1 to 'read' (position is not an integer)", message(b.read, b, i))
    end
    assert.equal("bad argument #1 to 'u8' (number expected, got string)", message(b.u8, b, "1"))
    assert.equal("bad argument #1 to 'u8' (number expected, got nil)", message(b.u8, b))
    assert.equal("bad argument #2 to 'read' (count out of range)", message(b.read, b, 2, 8))
    assert.equal("bad argument #2 to 'read' (count out of range)", message(b.read, b, 2, -1))
    assert.equal("bad argument #2 to 'read' (count is not an integer)", message(b.read, b, 2, 1.5))
    assert.equal("bad argument #2 to 'write' (string does not fit)", message(b.write, b, 5, "abcde"))
    assert.equal("bad argument #2 to 'write' (string expected, got number)", message(b.write, b, 5, 1))
    assert.equal("calling 'u8' on bad self (hakmem.buffer expected, got table)", message(b.u8, {}, 1))
    assert.equal("calling 'read' on bad self (hakmem.buffer expected, got userdata)", message(b.read, a, 1))
  end)

  local integers = {
    { "u8", 1, 0, 255 }, { "i8", 1, -128, 127 }, { "u16", 2, 0, 65535 }, { "i16", 2, -32768, 32767 },
    { "u32", 4, 0, 4294967295 }, { "i32", 4, -2147483648, 2147483647 },
  }
  for _, case in ipairs(integers) do
    local name, width, low, high = case[1], case[2], case[3], case[4]
    it("has " .. name .. ", little-endian", function()
      local b = a:buffer(16)
      for _, v in ipairs { low, high, 0, 1, 42, high - 1 } do
        for _, i in ipairs { 1, 2, 3, 8, 17 - width, -width } do
          assert.equal(b, b[name](b, i, v))
          assert.equal(v, b[name](b, i))
          local bytes, rest = {}, v < 0 and v + 2 ^ (8 * width) or v
          for k = 1, width do
            bytes[k] = string.char(rest % 256)
            rest = math.floor(rest / 256)
          end
          assert.equal(table.concat(bytes), b:read(i, width))
        end
      end
      for _, v in ipairs { low - 1, high + 1, 2 ^ 63, -2 ^ 63, 1 / 0 } do
        assert.equal("bad argument #2 to '" .. name .. "' (value out of range)", message(b[name], b, 1, v))
      end
      for _, v in ipairs { 1.5, 0 / 0 } do
        assert.equal("bad argument #2 to '" .. name .. "' (value is not an integer)", message(b[name], b, 1, v))
      end
      assert.equal("bad argument #2 to '" .. name .. "' (number expected, got string)", message(b[name], b, 1, "1"))
      for _, i in ipairs { 18 - width, 0, -width + 1 } do
        if not (width == 1 and i == 0) then
          assert.equal("bad argument #1 to '" .. name .. "' (position out of range)", message(b[name], b, i))
        end
      end
    end)
  end

  it("has u64 and i64", function()
    local b = a:buffer(8)
    assert.equal(b, b:u64(1, 2 ^ 53))
    assert.equal(2 ^ 53, tonumber(b:u64(1)))
    assert.equal("\0\0\0\0\0\0\032\0", b:read(1))
    b:i64(1, -2)
    assert.equal("\254" .. ("\255"):rep(7), b:read(1))
    assert.equal(-2, tonumber(b:i64(1)))
    b:u64(1, 2 ^ 63)
    assert.equal(("\0"):rep(7) .. "\128", b:read(1))
    assert.equal("bad argument #2 to 'u64' (value out of range)", message(b.u64, b, 1, 2 ^ 64))
    assert.equal("bad argument #2 to 'u64' (value out of range)", message(b.u64, b, 1, -1.0 * 2 ^ 62))
    assert.equal("bad argument #2 to 'i64' (value out of range)", message(b.i64, b, 1, 2 ^ 63))
    b:i64(1, -2 ^ 63)
    assert.equal(-2 ^ 63, tonumber(b:i64(1)))
    assert.equal("bad argument #2 to 'i64' (value is not an integer)", message(b.i64, b, 1, 0.5))
    assert.equal("bad argument #2 to 'u64' (number expected, got string)", message(b.u64, b, 1, "1"))
    assert.equal("bad argument #1 to 'u64' (position out of range)", message(b.u64, b, 2))
    if math.maxinteger then
      b:i64(1, math.mininteger)
      assert.equal(math.mininteger, b:i64(1))
      b:u64(1, -1)
      assert.equal(-1, b:u64(1))
      assert.equal(("\255"):rep(8), b:read(1))
    end
    if hakmem.backend == "ffi" then
      local ffi = require "ffi"
      b:u64(1, ffi.cast("uint64_t", ffi.cast("int64_t", -1)))
      assert.truthy(ffi.istype("uint64_t", b:u64(1)))
      assert.truthy(b:u64(1) == ffi.cast("uint64_t", ffi.cast("int64_t", -1)))
      assert.truthy(ffi.istype("int64_t", b:i64(-8)))
      assert.truthy(b:i64(-8) == ffi.cast("int64_t", -1))
      assert.equal("bad argument #2 to 'u64' (number expected, got cdata)",
        message(b.u64, b, 1, ffi.new "int[1]"))
      assert.equal("bad argument #2 to 'u8' (number expected, got cdata)",
        message(b.u8, b, 1, ffi.cast("int64_t", 1)))
    end
  end)

  it("has f32 and f64", function()
    local b = a:buffer(12)
    for _, v in ipairs { 0, 1, -0.5, 1e300, 1 / 0, -1 / 0, 0.1 } do
      assert.equal(b, b:f64(3, v))
      assert.equal(v, b:f64(3))
    end
    b:f64(1, 1)
    assert.equal("\0\0\0\0\0\0\240\063", b:read(1, 8))
    b:f64(1, 0 / 0)
    assert.not_equal(b:f64(1), b:f64(1))
    b:f32(9, 0.1)
    assert.truthy(math.abs(b:f32(9) - 0.1) < 1e-7)
    assert.equal(0.5, b:f32(-4, 0.5):f32(-4))
    assert.equal("bad argument #2 to 'f32' (number expected, got string)", message(b.f32, b, 1, "1"))
    assert.equal("bad argument #1 to 'f64' (position out of range)", message(b.f64, b, 6))
  end)

  it("gives its address", function()
    local b = a:buffer(10)
    b:u8(1, 77)
    if hakmem.backend == "ffi" then
      local ffi = require "ffi"
      assert.truthy(ffi.istype("uint8_t *", b:pointer()))
      assert.equal(77, b:pointer()[0])
      assert.truthy(b:slice(3):pointer() == b:pointer() + 2)
    else
      assert.equal("userdata", type(b:pointer()))
      assert.equal(b:pointer(), b:slice(1):pointer())
      assert.not_equal(b:pointer(), b:slice(2):pointer())
    end
  end)

  it("survives a random walk beside a model of it", function()
    local seed = 12345
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return math.floor(seed / 65536) % n + 1
    end
    local live = {}
    for _ = 1, support.short and 3000 or 20000 do
      local k = random(20)
      local entry = live[k]
      if not entry then
        local size = random(3) == 1 and random(200000) or random(2000)
        live[k] = { b = assert(a:buffer(size)), marks = {} }
      else
        local b, what = entry.b, random(10)
        if what == 1 then
          b:free()
          live[k] = nil
        elseif what == 2 then
          local size = random(4) == 1 and random(300000) or random(4000)
          assert(b:resize(size))
          for i in pairs(entry.marks) do
            if i > size then entry.marks[i] = nil end
          end
        elseif what == 3 then
          live[k] = nil -- for the collector
        else
          local i, v = random(#b), random(256) - 1
          assert.equal(entry.marks[i] or 0, b:u8(i))
          b:u8(i, v)
          entry.marks[i] = v
        end
      end
    end
    for _, entry in pairs(live) do
      for i, v in pairs(entry.marks) do assert.equal(v, entry.b:u8(i)) end
    end
  end)

  -- In processes of their own: busted changes ffi.typeof() and has hooks that keep loops from compiling.
  if support.is_jit then
    it("compiles: a loop of accesses never leaves its traces for C", function()
      local output, status = support.child [[
        local hakmem = require "hakmem"
        assert(hakmem.backend == "ffi", hakmem.backend_reason)
        local b = hakmem.arena():buffer(4096)
        local function loop()
          local sum = 0
          for round = 1, 50 do
            for i = 1, #b, 8 do
              b:u8(i, round)
              b:f64(i, b:u8(i) + b:i32(i))
              sum = sum + b:u16(i) + tonumber(b:u64(i)) % 3 + #b:read(i, 4)
              b:write(i, "abcd")
            end
            sum = sum + hakmem.stats "arena.live"
          end
          return sum
        end
        require("jit.v").on("/dev/stdout")
        loop()
      ]]
      assert.equal(0, status, output)
      assert.truthy(output:find "%[TRACE +%d+ [^\n]*loop%]", output)
      assert.falsy(output:find "NYI: C function", output)
      assert.falsy(output:find "NYI: FastFunc", output)
      assert.falsy(output:find "stitch", output)
    end)

    it("has typed memory", function()
      local output, status = support.child [[
        local hakmem, ffi = require "hakmem", require "ffi"
        local a = hakmem.arena { limit = "1M" }
        local p = assert(a:new("struct { double x, y; }", 100))
        assert(p[99].y == 0)
        p[99].y = 2
        collectgarbage()
        assert(p[99].y == 2)
        assert(a:stats "allocated" >= 1600)
        assert(a:new(ffi.typeof "int32_t")[0] == 0)
        assert(a:new("int[4]", 2)[1][3] == 0)
        p = nil
        collectgarbage()
        collectgarbage()
        assert(a:stats "blocks" == 0)
        print(a:new("double", 2 ^ 30))
        print(pcall(a.new, a, "int", -1))
        print(pcall(a.new, 1, "int"))
      ]]
      assert.equal("nil\tmemory limit reached\tQUOTA\n"
        .. "false\tbad argument #2 to 'new' (count out of range)\n"
        .. "false\tcalling 'new' on bad self (hakmem.arena expected, got number)\n", output)
      assert.equal(0, status)
    end)
  end
end)
