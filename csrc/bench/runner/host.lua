-- host.lua - starts the host programs and reads what they print.

local host = {}
host.__index = host

-- root: the project's top folder; dir: where the host programs are, from there.
function host.new(root, dir)
  return setmetatable({ root = root, dir = dir }, host)
end

local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

-- The command for one host program under one allocator; `wrap` goes in front (valgrind).
function host:command(vm, allocator, arguments, wrap)
  local words = {}
  for _, argument in ipairs(arguments) do words[#words + 1] = quote(tostring(argument)) end
  return ("cd %s && %s%s %s/luahost-%s %s"):format(quote(self.root),
    allocator.preload and "LD_PRELOAD=" .. allocator.preload .. " " or "", wrap or "",
    quote(self.dir), vm.name, table.concat(words, " "))
end

-- Starts a command; calling the result waits for its end and gives what it wrote.
function host.start(command)
  local pipe = assert(io.popen("(" .. command .. ") 2>&1"))
  return function()
    local text = pipe:read("a")
    if not pipe:close() then error("failed: " .. command .. "\n" .. text, 0) end
    return text
  end
end

-- Lines of `key value` pairs, or several in a line, as one table of numbers.
function host.values(text)
  local values = {}
  for key, value in text:gmatch("(%a[%w_.]*) +(%d[%d.]*)") do values[key] = tonumber(value) end
  return values
end

function host:run(vm, allocator, arguments)
  return host.values(host.start(self:command(vm, allocator, arguments))())
end

-- Whether the library of an allocator can be had: the loader complains on stderr when it cannot (`true`
-- alone is built into shells, and nothing would be loaded).
function host.available(allocator)
  if not allocator.preload then return true end
  return host.start("LD_PRELOAD=" .. allocator.preload .. " env true")() == ""
end

return host
