--- The FFI layer on LuaJIT, over the very functions and structures of the C module.
-- A call into C by way of the Lua API ends a trace; a load through an FFI pointer does not. So the
-- methods that a loop calls are Lua functions here. They do the good case only: whatever is odd
-- about an argument goes to the C method, which knows what to say.
--
-- Nothing is looked up by ffi.load(): another copy of the library may be in the process. The C
-- module hands over its own functions' addresses, checked against the ABI that cdef.lua was
-- generated for.

local ffi = require "ffi"
local cdef = require "hakmem.cdef"

local M = {}

-- The first two fields of struct lua_buffer, csrc/edge/lua_buffer.c.
local view_t = ffi.typeof("struct { uint8_t *data; size_t size; } *")
local bytes_t = ffi.typeof("uint8_t *")

local function bind(symbols, name)
  return ffi.cast(cdef.pointers[name], symbols[name])
end

---------------------------------------------------------------------------------------------------
-- Numbers in buffers. One prototype per type: a trace is specialised to it.

local number_source = [[
local cast, floor, getmetatable, type, tonumber, istype, meta, view_t, item_t, slow = ...
return function(b, i, v)
  if getmetatable(b) == meta and type(i) == "number" then
    local view = cast(view_t, b)
    local size = tonumber(view.size)
    local at = i < 0 and size + i or i - 1
    if i ~= 0 and at >= 0 and at + WIDTH <= size and floor(at) == at then
      local item = cast(item_t, view.data + at)
      if v == nil then return item[0] end
      if CHECK then
        item[0] = v
        return b
      end
    end
  end
  return slow(b, i, v)
end
]]

local integer_check = 'type(v) == "number" and v >= LOW and v <= HIGH and floor(v) == v'
local wide_check = '(' .. integer_check .. ') or istype("int64_t", v) or istype("uint64_t", v)'
local float_check = 'type(v) == "number"'

local numbers = {
  { "u8", "uint8_t", 1, integer_check, "0", "255" },
  { "i8", "int8_t", 1, integer_check, "-128", "127" },
  { "u16", "uint16_t", 2, integer_check, "0", "65535" },
  { "i16", "int16_t", 2, integer_check, "-32768", "32767" },
  { "u32", "uint32_t", 4, integer_check, "0", "4294967295" },
  { "i32", "int32_t", 4, integer_check, "-2147483648", "2147483647" },
  -- Plain numbers above 2^53 take the slow way.
  { "u64", "uint64_t", 8, wide_check, "0", "9007199254740992" },
  { "i64", "int64_t", 8, wide_check, "-9007199254740992", "9007199254740992" },
  { "f32", "float", 4, float_check, "0", "0" },
  { "f64", "double", 8, float_check, "0", "0" },
}

local function number_methods(methods, meta)
  for _, number in ipairs(numbers) do
    local name, ctype, width, check, low, high = unpack(number)
    local source = number_source:gsub("CHECK", (check:gsub("%%", "%%%%")))
    source = source:gsub("WIDTH", width):gsub("LOW", low):gsub("HIGH", high)
    methods[name] = assert(loadstring(source, "=hakmem.ffi." .. name))(ffi.cast, math.floor,
      getmetatable, type, tonumber, ffi.istype, meta, view_t, ffi.typeof(ctype .. " *"),
      methods[name])
  end
end

---------------------------------------------------------------------------------------------------
-- Bytes in buffers.

local function byte_methods(methods, meta)
  local cast, copy, fill, string, floor = ffi.cast, ffi.copy, ffi.fill, ffi.string, math.floor
  local read, write, fill_slow, length = methods.read, methods.write, methods.fill, meta.__len
  local pointer = methods.pointer

  function methods.read(b, i, n)
    if getmetatable(b) == meta and type(i) == "number" and (n == nil or type(n) == "number") then
      local view = cast(view_t, b)
      local size = tonumber(view.size)
      local at = i < 0 and size + i or i - 1
      local count = n or size - at
      if i ~= 0 and at >= 0 and count >= 0 and at + count <= size and view.data ~= nil
        and floor(at) == at and floor(count) == count then
        return string(view.data + at, count)
      end
    end
    return read(b, i, n)
  end

  function methods.write(b, i, s)
    if getmetatable(b) == meta and type(i) == "number" and type(s) == "string" then
      local view = cast(view_t, b)
      local size = tonumber(view.size)
      local at = i < 0 and size + i or i - 1
      if i ~= 0 and at >= 0 and at + #s <= size and view.data ~= nil and floor(at) == at then
        copy(view.data + at, s, #s)
        return b
      end
    end
    return write(b, i, s)
  end

  function methods.fill(b, value, i, n)
    if getmetatable(b) == meta and type(value) == "number" and i == nil and n == nil
      and value >= 0 and value <= 255 and floor(value) == value then
      local view = cast(view_t, b)
      if view.data ~= nil then
        fill(view.data, view.size, value)
        return b
      end
    end
    return fill_slow(b, value, i, n)
  end

  function methods.pointer(b)
    if getmetatable(b) == meta then
      local view = cast(view_t, b)
      if view.data ~= nil then return cast(bytes_t, view.data) end
    end
    return pointer(b)
  end

  function meta.__len(b)
    if getmetatable(b) == meta then
      local view = cast(view_t, b)
      if view.data ~= nil then return tonumber(view.size) end
    end
    return length(b)
  end
end

---------------------------------------------------------------------------------------------------
-- Typed memory: a pointer to n zeroed items, alive as long as that very pointer object.

local function typed_method(methods, meta)
  local owner = setmetatable({}, { __mode = "k" })
  local buffer = methods.buffer
  function methods.new(a, ctype, n)
    if getmetatable(a) ~= meta then
      error(("calling 'new' on bad self (hakmem.arena expected, got %s)"):format(type(a)), 2)
    end
    local item_t = ffi.typeof(ctype)
    n = n == nil and 1 or n
    if type(n) ~= "number" or n < 0 or n % 1 ~= 0 then
      error("bad argument #2 to 'new' (count out of range)", 2)
    end
    local b, message, code = buffer(a, ffi.sizeof(item_t) * n)
    if not b then return nil, message, code end
    local p = ffi.cast(ffi.typeof("$ *", item_t), b:pointer())
    owner[p] = b
    return p
  end
end

---------------------------------------------------------------------------------------------------
-- Statistics.

local function statistics(core)
  local symbols = core.internals.symbols
  local read = bind(symbols, "hak_stats_read")
  local info_at = bind(symbols, "hak_stat_info_at")
  local count = tonumber(bind(symbols, "hak_stat_count")())
  local values = ffi.new("uint64_t[?]", count)
  local by_name, plan = {}, {}
  for i = 0, count - 1 do
    local info = info_at(i)
    if info.process ~= 0 then
      local name = ffi.string(info.name)
      local entry = { index = i, scale = ffi.string(info.kind) == "ratio" and 1e-9 or 1 }
      entry.group, entry.key = name:match("^([^.]+)%.(.+)$")
      entry.key = entry.key or name
      by_name[name] = entry
      plan[#plan + 1] = entry
    end
  end
  local slow, arenas, classes = core.stats, core.arenas, core.classes

  return function(name)
    if name == nil then
      local result = {}
      read(nil, values, count)
      for i = 1, #plan do
        local entry = plan[i]
        local into = result
        if entry.group then
          into = result[entry.group]
          if not into then
            into = {}
            result[entry.group] = into
          end
        end
        into[entry.key] = tonumber(values[entry.index]) * entry.scale
      end
      result.l25.classes = classes()
      result.arenas = arenas()
      return result
    end
    local entry = by_name[name]
    if not entry then return slow(name) end
    read(nil, values, count)
    return tonumber(values[entry.index]) * entry.scale
  end
end

---------------------------------------------------------------------------------------------------

local function not_gc64()
  return nil, "this LuaJIT takes no allocator of others: it is not built as GC64", "UNSUPPORTED"
end

--- Puts the functions above in place of the C module's. False and a reason: nothing was changed.
function M.enable(core, hakmem)
  if not (ffi.abi("gc64") or ffi.abi("32bit")) then
    hakmem.vm, hakmem.vm_pool, hakmem.install = not_gc64, not_gc64, not_gc64
  end
  if not ffi.abi("le") then return false, "big-endian machine" end
  if not pcall(ffi.typeof, "hak_stat_info") then ffi.cdef(cdef.source) end
  local abi = bind(core.internals.symbols, "hak_abi_version")()
  if abi ~= cdef.abi then
    return false, ("hakmem.cdef is of ABI %d, the library has %d"):format(cdef.abi, abi)
  end
  local meta = core.internals.buffer
  if not meta.hakmem_ffi then -- the module's state outlives a second require
    meta.hakmem_ffi = true
    number_methods(meta.__index, meta)
    byte_methods(meta.__index, meta)
    typed_method(core.internals.arena.__index, core.internals.arena)
  end
  hakmem.stats = statistics(core)
  return true
end

return M
