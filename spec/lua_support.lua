--- What the Lua specs share.
local support = {}

support.is_jit = rawget(_G, "jit") ~= nil
support.interpreter = support.is_jit and "luajit" or "lua" .. _VERSION:match "%d+%.%d+"
support.build = os.getenv "BUILD" or "build"
support.short = (os.getenv "TEST_SHORT" or "") ~= ""
-- A sanitizer's own memory and slowness would be measured, not ours.
support.sanitized = (os.getenv "FLAVOR" or ""):find "san" ~= nil

function support.quoted(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

--- Runs a shell command; returns its output, both streams, and its exit status.
function support.shell(command)
  local pipe = assert(io.popen("{ " .. command .. "\n} 2>&1; echo \"exit=$?\""))
  local text = pipe:read "*a"
  pipe:close()
  local output, status = text:match "^(.*)exit=(%d+)\n$"
  return output, tonumber(status)
end

--- Runs Lua code in a process of its own, on the same kind of interpreter or another one.
-- `env`: variables to set. Returns output and exit status.
function support.child(code, env, interpreter)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(code)
  file:close()
  local words = {}
  for name, value in pairs(env or {}) do
    words[#words + 1] = name .. "=" .. support.quoted(value)
  end
  local output, status = support.shell(("env %s timeout 300 %s %s"):format(table.concat(words, " "),
    interpreter or support.interpreter, path))
  os.remove(path)
  return output, status
end

--- The message of the error that f(...) raises. It is called by pcall, as the contract says it.
function support.message(f, ...)
  local ok, message = pcall(f, ...)
  assert(not ok, "no error was raised")
  return message
end

--- The text of a file of the tree.
function support.text(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

--- All names in knobs.def (K) or stats.def (S), and the rest of their lines.
function support.definitions(path, letter)
  local list = {}
  local text = support.text(path):gsub("/%*.-%*/", "")
  for words, rest in text:gmatch("\n" .. letter .. "%(([%w_]+, [%w_]+, [%w_]+),%s*([^\n]*)") do
    local w1, w2, w3 = words:match "^([%w_]+), ([%w_]+), ([%w_]+)$"
    list[#list + 1] = letter == "K" and { name = w2 .. "." .. w3, type = w1, rest = rest }
      or { name = (w1 == "top" and "" or w1 .. ".") .. w2, kind = w3, rest = rest }
  end
  assert(#list > 0, "cannot read " .. path)
  return list
end

return support
