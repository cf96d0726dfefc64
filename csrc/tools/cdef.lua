-- Writes lua/hakmem/cdef.lua from csrc/include/hakmem.h.
--   lua5.4 csrc/tools/cdef.lua           writes it
--   lua5.4 csrc/tools/cdef.lua --check   exit status 1 when the file is stale
-- Run at the top of the tree.

local header, target = "csrc/include/hakmem.h", "lua/hakmem/cdef.lua"

local function read(path)
  local f = io.open(path, "rb")
  if not f then return nil end
  local text = f:read("a")
  f:close()
  return text
end

local text = assert(read(header), header .. " is not here")
local version = assert(text:match('#define HAK_VERSION "([^"]+)"'))
local abi = assert(text:match("#define HAK_ABI_VERSION (%d+)"))

-- Comments, preprocessor lines and what only compilers need.
text = text:gsub("/%*.-%*/", ""):gsub("\\\n", " ")
text = ("\n" .. text):gsub("\n%s*#[^\n]*", ""):gsub('extern "C" {', "")
text = text:gsub("HAK_API%s*", ""):gsub("HAK_MALLOC_LIKE%s*", "")
text = text:gsub("\n}%s*$", "\n")

-- One declaration per line.
local declarations, pointers, depth, from = {}, {}, 0, 1
for at in text:gmatch("()[{};]") do
  local c = text:sub(at, at)
  depth = depth + (c == "{" and 1 or c == "}" and -1 or 0)
  if depth == 0 and c == ";" then
    local one = text:sub(from, at):gsub("%s+", " "):gsub("^ ", "")
    from = at + 1
    declarations[#declarations + 1] = one
    local result, name, parameters = one:match("^([^()]-)(hak_[%w_]+)(%(.*%));$")
    if name and not one:find("^typedef") then
      pointers[#pointers + 1] = ("    %s = %q,"):format(name, result .. "(*)" .. parameters)
    end
  end
end
assert(depth == 0 and #declarations > 20 and #pointers > 20, "cannot read " .. header)
table.sort(pointers)

local out = ([[
-- Generated from csrc/include/hakmem.h by csrc/tools/cdef.lua. Do not edit.
-- luacheck: ignore 631
return {
  version = %q,
  abi = %s,
  -- For ffi.cdef().
  source = [=[
%s
]=],
  -- The type of a pointer to each function.
  pointers = {
%s
  },
}
]]):format(version, abi, table.concat(declarations, "\n"), table.concat(pointers, "\n"))

if (...) == "--check" then
  if read(target) ~= out then
    io.stderr:write(target, " is stale: run lua5.4 csrc/tools/cdef.lua\n")
    os.exit(1)
  end
else
  local f = assert(io.open(target, "wb"))
  f:write(out)
  f:close()
end
