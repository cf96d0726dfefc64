-- knot-resolver: LuaJIT, real queries, a second process that takes over from the first.
local hosts = dofile "spec/hosts/support.lua"
local unix = require "socket.unix"

local MB = 1024 * 1024

-- What one line of Lua gives, over the control socket of the process.
local function control(kresd, line)
  local connection = unix.stream()
  assert(connection:connect(kresd.run .. "/control/" .. kresd.pid))
  connection:settimeout(60)
  assert(connection:send "__binary\n")
  assert(connection:receive(2) == "> ") -- before that it would be answered as for people
  assert(connection:send(line .. "\n"))
  local size = string.unpack(">I4", assert(connection:receive(4)))
  local text = assert(connection:receive(size))
  connection:close()
  return text
end

describe("kresd", function()
  local kresd, other

  setup(function()
    kresd = hosts.start("kresd", nil, function(server)
      local _, status = hosts.shell(("kdig +time=1 +retry=0 @%s -p %d host.example.com"):format(
        server.address, server.port))
      return status == 0, server:output()
    end)
  end)
  teardown(function()
    if kresd then kresd:finish() end
    if other then other:finish() end
  end)

  local function dig(words)
    local output, status = hosts.shell(("kdig +time=10 @%s -p %d %s"):format(kresd.address, kresd.port, words))
    assert.equal(0, status, output)
    return output
  end

  -- Many queries by one kdig; each must bring the record.
  local function dig_many(n, name, address)
    local names = {}
    for i = 1, n do names[i] = name end
    assert.equal((address .. "\n"):rep(n), dig("+short " .. table.concat(names, " ")))
  end

  -- The answer is a Lua value as kresd prints it.
  local function metrics(server)
    local text = control(server, "require('hakmem').report('prometheus')"):match "^'(.*)'%s*$"
    return hosts.samples((text:gsub("\\(%d%d%d)", function(code) return string.char(code) end)))
  end

  local function of_arena(server, metric)
    local values = hosts.values(metrics(server), metric, { arena = "kresd" })
    assert.equal(1, #values)
    return values[1]
  end

  it("answers, its VM on an arena", function()
    assert.equal("192.0.2.1\n", dig "+short host.example.com")
    assert.truthy(dig "www.debian.org":find "status: REFUSED")
    assert.equal(32 * MB, of_arena(kresd, "hakmem_arena_hard_bytes"))
  end)

  it("answers thousands of queries", function()
    dig_many(1500, "host.example.com", "192.0.2.1")
    dig_many(1500, "100.grow.example.com", "192.0.2.2")
    assert.truthy(of_arena(kresd, "hakmem_arena_small_refills_total") > 1000)
    assert.truthy(of_arena(kresd, "hakmem_arena_peak_bytes") <= 32 * MB)
  end)

  it("refuses the query whose answer costs too much, and that one alone", function()
    for _ = 1, 20 do
      assert.truthy(dig "100000.grow.example.com":find "status: REFUSED")
      assert.equal("192.0.2.2\n", dig "+short 10.grow.example.com")
    end
  end)

  it("hands over to a second process under load, and both end well", function()
    local log = kresd.run .. "/queries"
    local names = (" host.example.com"):rep(3000)
    assert(os.execute(("{ kdig +short +time=2 +retry=5 @%s -p %d %s >%s 2>%s.err; echo $? >%s.status; } &"):format(
      kresd.address, kresd.port, names, log, log, log)))
    other = hosts.start("kresd", { PORT = kresd.port }, function(server) return pcall(control, server, "1") end)
    assert.equal(0, kresd:stop "TERM")
    local done = hosts.await("the queries", function()
      local file = io.open(log .. ".status")
      local status = file and file:read "n"
      if file then file:close() end
      return status
    end)
    assert.equal(0, done, hosts.text(log .. ".err"))
    assert.equal(("192.0.2.1\n"):rep(3000), hosts.text(log))
    dig_many(100, "10.grow.example.com", "192.0.2.2")
    assert.equal(32 * MB, of_arena(other, "hakmem_arena_hard_bytes"))
    assert.equal(0, other:stop "TERM")
    for _, server in ipairs { kresd, other } do
      assert.falsy(server:output():find "hakmem:" or server:output():find "rror", server:output())
    end
  end)
end)
