--- Includes point downward: each file may include lower layers and what stands above it in its own.

local LAYERS = { "include", "base", "os", "map", "pool", "heap", "edge", "bench", "tools" }
-- In layers with an order, a file may include those listed before it.
local ORDER = {
  base = { "port", "list", "spin", "error", "debug", "log", "knob", "stat" },
}

local rank, place = {}, {}
for i, layer in ipairs(LAYERS) do rank[layer] = i end
for layer, files in pairs(ORDER) do
  place[layer] = {}
  for i, file in ipairs(files) do place[layer][file] = i end
end

local function sources()
  local list = {}
  local pipe = io.popen "find csrc -name '*.[ch]' | sort"
  for path in pipe:lines() do list[#list + 1] = path end
  pipe:close()
  return list
end

local function includes(path)
  local list, number = {}, 0
  for line in io.lines(path) do
    number = number + 1
    local target = line:match '^%s*#%s*include%s*"(.-)"'
    if target then list[#list + 1] = { target = target, line = number } end
  end
  return list
end

--- nil, or why `path` must not include `target`.
local function fault(path, target)
  local layer, stem = path:match "^csrc/(%w+)/.-([%w_]+)%.%w+$"
  local to, to_stem = target:match "^(%w+)/([%w_]+)%.%w+$"
  if not rank[layer] then return "unknown layer" end
  if not to then -- "hakmem.h" beside it: headers that users compile have no folder
    return layer ~= "include" and "is not written from csrc/" or nil
  end
  if not rank[to] then return "unknown layer '" .. to .. "'" end
  if rank[to] > rank[layer] then return "points up" end
  if to == layer and place[layer] and to_stem ~= stem then
    local from, at = place[layer][stem], place[layer][to_stem]
    local table_file = target:find "%.def$"
    if not table_file and (not from or not at or at >= from) then return "breaks the order of " .. layer end
  end
end

describe("layers", function()
  it("have sources to read", function()
    assert.is_true(#sources() > 10)
  end)

  it("are not broken by an include that points up", function()
    local faults = {}
    for _, path in ipairs(sources()) do
      for _, include in ipairs(includes(path)) do
        local why = fault(path, include.target)
        if why then faults[#faults + 1] = ("%s:%d: %s %s"):format(path, include.line, include.target, why) end
      end
    end
    assert.are.equal("", table.concat(faults, "\n"))
  end)

  it("are told apart by the rule itself", function()
    assert.is_nil(fault("csrc/heap/arena.c", "map/page.h"))
    assert.is_nil(fault("csrc/base/log.c", "base/log.h"))
    assert.are.equal("points up", fault("csrc/map/page.c", "heap/heap.h"))
    assert.are.equal("breaks the order of base", fault("csrc/base/debug.c", "base/log.h"))
    assert.are.equal("is not written from csrc/", fault("csrc/map/page.c", "page.h"))
  end)

  it("keep every file under 600 lines", function()
    local long = {}
    for _, path in ipairs(sources()) do
      local n = 0
      for _ in io.lines(path) do n = n + 1 end
      if n >= 600 then long[#long + 1] = path .. " has " .. n end
    end
    assert.are.equal("", table.concat(long, "\n"))
  end)

  it("keep every example under 60, but for the quick start and the server", function()
    local longer = { ["examples/quickstart.lua"] = 160, ["examples/embed.c"] = 225 }
    for path in io.popen("ls examples/*.c examples/*.lua"):lines() do
      local n = 0
      for _ in io.lines(path) do n = n + 1 end
      assert.truthy(n < (longer[path] or 60), path .. " has " .. n)
    end
  end)
end)
