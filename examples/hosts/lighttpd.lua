--- What lighttpd.conf serves. The script runs once for each request, always in the same VM: the first
-- run moves it onto its arena. When the file changes, mod_magnet closes the VM and makes another.
local hakmem = require "hakmem"
if not hakmem.current() then assert(hakmem.install { name = "lighttpd", limit = "16M" }) end

local path, query = lighty.env["uri.path"], lighty.env["uri.query"] or ""
local function parameter(name) return tonumber(query:match(name .. "=(%d+)")) or 10 end

local function answer(status, text)
  lighty.header["Content-Type"] = "text/plain; version=0.0.4"
  lighty.content = { text }
  return status
end

local function rows(n)
  local list = {}
  for i = 1, n do list[i] = ("row %d of %d: %s\n"):format(i, n, ("*"):rep(i % 50)) end
  return table.concat(list)
end

if path == "/" then
  return answer(200, "hello from lighttpd\n")
elseif path == "/rows" then -- ?rows=N: as many as the client asks for, in 1 MiB of memory
  local text, message, code = hakmem.with_limit({ hard = "1M" }, rows, parameter "rows")
  return answer(text and 200 or code == "QUOTA" and 413 or 503, text or message .. "\n")
elseif path == "/greedy" then -- ?rows=N: no limit but that of the VM
  local ok, result = pcall(rows, parameter "rows")
  return answer(ok and 200 or 507, ok and #result .. "\n" or tostring(result) .. "\n")
elseif path == "/metrics" then
  return answer(200, hakmem.report "prometheus")
end
return 404
