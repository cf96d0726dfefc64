--- What the specs of hosts share: a host is started as examples/hosts/run starts it, on a port and in
-- a folder of its own, waited for by connecting, driven, and stopped by its process id.
local socket = require "socket"
local http = require "socket.http"
local lua = dofile "spec/lua_support.lua"

local hosts = { quoted = lua.quoted, shell = lua.shell, text = lua.text, build = lua.build }
local Server = {}
Server.__index = Server
http.TIMEOUT = 60

local PATIENCE = 60 -- seconds for anything that a host has to do; none takes two when all is well

--- Polls until f() is true; an error with what f said last, otherwise.
function hosts.await(what, f)
  local deadline = socket.gettime() + PATIENCE
  local ok, said
  repeat
    ok, said = f()
    if ok then return ok end
    socket.sleep(0.02)
  until socket.gettime() > deadline
  error(("waited too long for %s: %s"):format(what, tostring(said)), 2)
end

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

--- A loopback address of this very process: two test runs do not want the same address and port.
local pid = tonumber(read "/proc/self/stat":match "^%d+")
local ADDRESS = ("127.%d.%d.%d"):format(pid // 65536 % 64 + 64, pid // 256 % 256, pid % 256)

function hosts.free_port()
  local probe = assert(socket.bind(ADDRESS, 0))
  local _, port = probe:getsockname()
  probe:close()
  return math.tointeger(tonumber(port))
end

--- A folder of its own; Server:finish() and hosts.remove() take it away.
function hosts.folder() return assert(hosts.shell "mktemp -d":match "^(/.*)\n$") end

function hosts.remove(folder) os.execute("rm -rf " .. hosts.quoted(folder)) end

--- A file that appears, or changes, at once as a whole.
function hosts.write(path, text)
  local file = assert(io.open(path .. ".new", "wb"))
  file:write(text)
  file:close()
  assert(os.rename(path .. ".new", path))
end

--- The text of an example with one thing changed.
function hosts.changed(path, what, by)
  local first, last = lua.text(path):find(what, 1, true)
  assert(first, what)
  return lua.text(path):sub(1, first - 1) .. by .. lua.text(path):sub(last + 1)
end

local function words_of(env)
  local words = {}
  for name, value in pairs(env) do words[#words + 1] = name .. "=" .. hosts.quoted(tostring(value)) end
  return "env " .. table.concat(words, " ")
end

--- Starts a command in the background, its output in a file. The pid is the command's own: the shell
-- that waits for its status is another process.
local function background(command, log)
  local job = { folder = hosts.folder() }
  local folder = hosts.quoted(job.folder)
  assert(os.execute(("{ %s </dev/null >%s 2>&1 & echo $! >%s/pid; wait $!; echo $? >%s/status; } 2>/dev/null &")
    :format(command, hosts.quoted(log), folder, folder)))
  job.pid = hosts.await("a process id", function() return tonumber(read(job.folder .. "/pid") or "") end)
  return job
end

--- Its exit status, once it has ended; the shell then has left its folder alone.
local function status_of(job)
  if job.status then return job.status end
  job.status = tonumber(read(job.folder .. "/status") or "")
  if job.status then hosts.remove(job.folder) end
  return job.status
end

--- Starts a host and waits until it takes connections.
-- env: variables for its configuration; that of a stopped server starts it again in its folder.
-- `ready(server)`, when given, tells instead of a connection.
function hosts.start(host, env, ready)
  env = env or {}
  local self = setmetatable({ host = host, address = ADDRESS, run = env.RUN or hosts.folder(), env = env }, Server)
  env.ADDRESS, env.BUILD, env.RUN = ADDRESS, hosts.build, self.run
  env.PORT, env.HTTP_PORT = env.PORT or hosts.free_port(), env.HTTP_PORT or hosts.free_port()
  self.port, self.http_port = env.PORT, env.HTTP_PORT
  self.job = background(("%s examples/hosts/run %s"):format(words_of(env), host), self.run .. "/output")
  self.pid = self.job.pid
  local ok, why = pcall(hosts.await, host .. " to listen", function()
    if status_of(self.job) then error(host .. " ended at once:\n" .. self:output()) end
    if ready then return ready(self) end
    local connection = socket.connect(ADDRESS, self.port)
    return connection and connection:close(), self:output()
  end)
  if ok then return self end
  self:finish()
  error(why, 2)
end

--- What it wrote to its standard output and error.
function Server:output() return read(self.run .. "/output") or "" end

function Server:signal(name) assert(os.execute(("kill -s %s %d"):format(name, self.pid))) end

--- Asks it to end with a signal; returns its exit status.
function Server:stop(signal)
  self:signal(signal)
  return hosts.await(self.host .. " to end", function() return status_of(self.job), self:output() end)
end

--- For teardown: nothing is left, whatever went wrong.
function Server:finish()
  if not status_of(self.job) then
    os.execute(("kill -s KILL %s %d 2>/dev/null"):format(table.concat(self:children(), " "), self.pid))
    hosts.await("the end of " .. self.host, function() return status_of(self.job) end)
  end
  hosts.remove(self.run)
end

--- Process ids of its workers, in order.
function Server:children()
  local list = {}
  for id in (read(("/proc/%d/task/%d/children"):format(self.pid, self.pid)) or ""):gmatch "%d+" do
    list[#list + 1] = math.tointeger(tonumber(id))
  end
  return list
end

--- Resident bytes of a process.
function hosts.resident(process)
  return tonumber(read(("/proc/%d/status"):format(process)):match "VmRSS:%s+(%d+)") * 1024
end

function hosts.is_alive(process) return read(("/proc/%d/stat"):format(process)) ~= nil end

-- ---- clients ------------------------------------------------------------------------------------

function Server:url(path, port) return ("http://%s:%d%s"):format(self.address, port or self.port, path) end

--- Body and status code of a page.
function Server:get(path, port)
  local body, code = http.request(self:url(path, port))
  return assert(body, code), code
end

--- Asks for n rows and looks at each.
function Server:check_rows(n)
  local body, code = self:get("/rows?rows=" .. n)
  assert(code == 200, body)
  local i = 0
  for line in body:gmatch "([^\n]*)\n" do
    i = i + 1
    assert(line == ("row %d of %d: %s"):format(i, n, ("*"):rep(i % 50)), line)
  end
  assert(i == n, i)
end

--- `requests` requests of one page by ApacheBench, `clients` at a time; meanwhile `during(server)`
-- runs. Every request must have been answered with status 200 and the same number of bytes.
function Server:load(path, requests, clients, during)
  local log = self.run .. "/load"
  local job = background(("ab -q -s 60 -n %d -c %d %s"):format(requests, clients,
    hosts.quoted(self:url(path))), log)
  if during then during(self) end
  local status = hosts.await("ab", function() return status_of(job) end)
  local text = read(log)
  assert(status == 0, text)
  assert(tonumber(text:match "Complete requests:%s+(%d+)") == requests, text)
  assert(tonumber(text:match "Failed requests:%s+(%d+)") == 0, text)
  assert(not text:find "Non%-2xx", text)
end

-- ---- numbers ------------------------------------------------------------------------------------

--- Prometheus text, after promtool found nothing to say about it: a list of
-- { name =, labels = { … }, value = }.
function hosts.samples(text)
  local path = os.tmpname()
  hosts.write(path, text)
  local said, status = hosts.shell("promtool check metrics <" .. path)
  os.remove(path)
  assert(status == 0 and said == "", said)
  local list = {}
  for line in text:gmatch "[^\n]+" do
    local name, labels, value = line:match "^([%w_]+){?(.-)}? (%S+)$"
    if name and line:sub(1, 1) ~= "#" then
      local sample = { name = name, labels = {}, value = tonumber(value) }
      for key, text_value in labels:gmatch '([%w_]+)="(.-)"' do sample.labels[key] = text_value end
      list[#list + 1] = sample
    end
  end
  return list
end

function Server:metrics(port)
  local text, code = self:get("/metrics", port)
  assert(code == 200, text)
  return hosts.samples(text)
end

--- The values of one metric, of samples with these labels.
function hosts.values(samples, name, labels)
  local list = {}
  for _, sample in ipairs(samples) do
    local fits = sample.name == name
    for key, value in pairs(labels or {}) do fits = fits and sample.labels[key] == value end
    if fits then list[#list + 1] = sample.value end
  end
  return list
end

function hosts.sum(samples, name, labels)
  local sum = 0
  for _, value in ipairs(hosts.values(samples, name, labels)) do sum = sum + value end
  return sum
end

return hosts
