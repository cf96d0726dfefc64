-- nginx with the Lua module: LuaJIT, a master that forks workers, reload under load, and requests
-- that wait for each other inside their limits.
local hosts = dofile "spec/hosts/support.lua"

local MB = 1024 * 1024

describe("nginx", function()
  local nginx

  setup(function() nginx = hosts.start "nginx" end)
  teardown(function() if nginx then nginx:finish() end end)

  -- The page of all workers, once each has published its numbers.
  local function metrics()
    return hosts.await("the numbers of both workers", function()
      local samples = nginx:metrics()
      return #hosts.values(samples, "hakmem_arena_hard_bytes", { arena = "nginx" }) == 2 and samples
    end)
  end

  -- Sends HUP and waits until its workers are others.
  local function reload()
    local old = nginx:children()
    nginx:signal "HUP"
    hosts.await("new workers", function()
      local now = nginx:children()
      for _, pid in ipairs(now) do
        for _, before in ipairs(old) do
          if pid == before then return false end
        end
      end
      return #now == #old
    end)
  end

  it("answers from a VM that moved onto an arena before the workers were forked", function()
    assert.same({ "hello from nginx\n", 200 }, { nginx:get "/" })
    assert.equal(2, #nginx:children())
    for _, hard in ipairs(hosts.values(metrics(), "hakmem_arena_hard_bytes", { arena = "nginx" })) do
      assert.equal(32 * MB, hard)
    end
  end)

  it("answers right under load, within the limit of the location", function()
    nginx:check_rows(500)
    local function refills() return hosts.sum(metrics(), "hakmem_arena_small_refills_total", { arena = "nginx" }) end
    local before = refills()
    nginx:load("/rows?rows=500", 3000, 8)
    hosts.await("the numbers", function() return refills() - before > 1000 end)
    for _, peak in ipairs(hosts.values(metrics(), "hakmem_arena_peak_bytes", { arena = "nginx" })) do
      assert.truthy(peak > 0 and peak < 16 * MB, peak)
    end
  end)

  it("caps the VM of a guest: its request fails, the others do not notice", function()
    nginx:load("/rows?rows=500", 1000, 4, function()
      for _ = 1, 20 do
        assert.same({ "not enough memory\n", 413 }, { nginx:get "/guest?rows=200000" })
        assert.same({ "guest row 1 of 2\nguest row 2 of 2\n", 200 }, { nginx:get "/guest?rows=2" })
      end
    end)
    for _, peak in ipairs(hosts.values(metrics(), "hakmem_arena_peak_bytes", { arena = "guest" })) do
      assert.truthy(peak <= MB, peak)
    end
  end)

  it("refuses a request that passes the limit of its location, and that one alone", function()
    nginx:load("/rows?rows=500", 1000, 4, function()
      for _ = 1, 20 do
        assert.same({ "memory limit reached\n", 413 }, { nginx:get "/rows?rows=200000" })
      end
    end)
    nginx:check_rows(500)
  end)

  it("charges requests that wait inside their limits each to its own", function()
    -- Twenty that need two thirds of it each and pause in the middle; together they need 13 MiB.
    local urls = {}
    for i = 1, 20 do
      urls[i] = hosts.quoted(nginx:url("/pause?kb=320&pause=0.3&more=320&i=" .. i)) .. " -o /dev/null"
    end
    local function ask_all()
      local codes = hosts.shell("curl -s --parallel --parallel-max 20 -w '%{http_code}\\n' "
        .. table.concat(urls, " ") .. " 2>/dev/null")
      local _, good = codes:gsub("200\n", "")
      local _, refused = codes:gsub("413\n", "")
      return good, refused
    end
    assert.same({ 20, 0 }, { ask_all() })
    -- One that is over before its pause, one after it, between others that are not.
    urls[10] = hosts.quoted(nginx:url "/pause?kb=4000&pause=0.3&more=10") .. " -o /dev/null"
    urls[15] = hosts.quoted(nginx:url "/pause?kb=320&pause=0.3&more=4000") .. " -o /dev/null"
    assert.same({ 18, 2 }, { ask_all() })
  end)

  it("caps the whole VM: a request that wants more fails, the worker lives", function()
    local workers = nginx:children()
    for _ = 1, 10 do
      local body, code = nginx:get "/greedy?kb=100000"
      assert.equal(507, code)
      assert.truthy(body:find "not enough memory", body)
      assert.same({ "100\n", 200 }, { nginx:get "/greedy?kb=100" })
    end
    assert.same(workers, nginx:children())
    local samples = metrics()
    assert.truthy(hosts.sum(samples, "hakmem_arena_refusals_total", { arena = "nginx" }) > 0)
    for _, peak in ipairs(hosts.values(samples, "hakmem_arena_peak_bytes", { arena = "nginx" })) do
      assert.truthy(peak <= 32 * MB, peak)
    end
  end)

  it("reloads under load without losing a request", function()
    nginx:load("/rows?rows=100", 6000, 8, function()
      for _ = 1, 3 do reload() end
    end)
    assert.same({ "hello from nginx\n", 200 }, { nginx:get "/" })
  end)

  it("keeps nothing of the VMs that reloads replace", function()
    for _ = 1, 3 do reload() end -- what the first ones leave in caches
    local before, arenas = hosts.resident(nginx.pid), hosts.sum(metrics(), "hakmem_arena_live", { worker = "0" })
    for _ = 1, 20 do reload() end
    assert.equal(arenas, hosts.sum(metrics(), "hakmem_arena_live", { worker = "0" }))
    local grown = hosts.resident(nginx.pid) - before
    assert.truthy(grown < 2 * MB, grown)
  end)

  it("quits when told so, and has nothing to complain about", function()
    local workers = nginx:children()
    assert.equal(0, nginx:stop "QUIT")
    for _, pid in ipairs(workers) do assert.falsy(hosts.is_alive(pid)) end
    for line in nginx:output():gmatch "[^\n]+" do
      assert.falsy(line:find "%[alert%]" or line:find "%[crit%]" or line:find "%[emerg%]" or line:find "hakmem:", line)
    end
  end)
end)

describe("nginx without a code cache", function()
  local nginx, folder

  setup(function()
    folder = hosts.folder()
    hosts.write(folder .. "/nginx.conf", hosts.changed("examples/hosts/nginx.conf", "lua_shared_dict",
      "lua_code_cache off;\n  lua_shared_dict"))
    nginx = hosts.start("nginx", { CONFIG = folder .. "/nginx.conf" })
  end)
  teardown(function()
    if nginx then nginx:finish() end
    if folder then hosts.remove(folder) end
  end)

  it("makes, moves and closes a VM for each request, and keeps nothing of it", function()
    local function live() return hosts.values(nginx:metrics(), "hakmem_arena_live", { worker = "0" })[1] end
    nginx:load("/rows?rows=10", 300, 4)
    local workers, before, arenas = nginx:children(), {}, live()
    for i, pid in ipairs(workers) do before[i] = hosts.resident(pid) end
    nginx:load("/rows?rows=10", 1500, 4)
    assert.same(workers, nginx:children())
    assert.truthy(math.abs(live() - arenas) <= 1)
    for i, pid in ipairs(workers) do
      local grown = hosts.resident(pid) - before[i]
      assert.truthy(grown < 2 * MB, grown)
    end
    assert.equal(0, nginx:stop "QUIT")
  end)
end)
