-- HAProxy: Lua 5.3, a VM per thread in one process, made by the main thread and used by others.
local hosts = dofile "spec/hosts/support.lua"

local KB, MB = 1024, 1024 * 1024
local MAXMEM, THREADS = 64 * MB, 2 -- as the configuration says

describe("haproxy", function()
  local haproxy

  setup(function() haproxy = hosts.start "haproxy" end)
  teardown(function() if haproxy then haproxy:finish() end end)

  -- Asks the master for a reload and waits until a new worker has taken over and the old one is gone.
  local function reload()
    local old = haproxy:children()[1]
    haproxy:signal "USR2"
    hosts.await("a new worker", function()
      local now = haproxy:children()
      return #now == 1 and now[1] ~= old, haproxy:output()
    end)
    hosts.await("its first answer", function() return pcall(haproxy.get, haproxy, "/") end)
  end

  local function of_thread(samples, metric, thread)
    local values = hosts.values(samples, metric, { arena = "haproxy." .. thread })
    assert.equal(1, #values)
    return values[1]
  end

  it("answers, with one arena for each thread", function()
    assert.same({ "hello from haproxy\n", 200 }, { haproxy:get "/" })
    local samples, hard = haproxy:metrics(), 0
    for thread = 1, THREADS do hard = hard + of_thread(samples, "hakmem_arena_hard_bytes", thread) end
    assert.truthy(hard > MAXMEM // 2 and hard < MAXMEM, hard)
    assert.equal(THREADS + 1, hosts.sum(samples, "hakmem_arena_live"))
  end)

  it("answers right under load, on every thread, within the limit", function()
    haproxy:check_rows(500)
    haproxy:load("/rows?rows=500", 3000, 16)
    local samples = haproxy:metrics()
    for thread = 1, THREADS do
      assert.truthy(of_thread(samples, "hakmem_arena_peak_bytes", thread) > 100 * KB)
      assert.truthy(of_thread(samples, "hakmem_arena_small_refills_total", thread) > 1000)
    end
  end)

  it("refuses a request that passes its limit, and that one alone", function()
    haproxy:load("/rows?rows=500", 1000, 8, function()
      for _ = 1, 20 do
        assert.same({ "memory limit reached\n", 413 }, { haproxy:get "/rows?rows=200000" })
      end
    end)
  end)

  it("honours tune.lua.maxmem: a greedy request fails, its thread lives", function()
    for _ = 1, 20 do -- on either thread
      local body, code = haproxy:get "/greedy?kb=100000"
      assert.equal(507, code)
      assert.truthy(body:find "not enough memory", body)
      assert.same({ "100\n", 200 }, { haproxy:get "/greedy?kb=100" })
    end
    local samples, peaks, refusals = haproxy:metrics(), 0, 0
    for thread = 1, THREADS do
      peaks = peaks + of_thread(samples, "hakmem_arena_peak_bytes", thread)
      refusals = refusals + of_thread(samples, "hakmem_arena_refusals_total", thread)
    end
    assert.truthy(peaks < MAXMEM, peaks)
    assert.truthy(refusals >= 20, refusals)
  end)

  it("reloads under load without losing a request", function()
    haproxy:load("/rows?rows=100", 6000, 8, function()
      for _ = 1, 3 do reload() end
    end)
    assert.equal(THREADS + 1, hosts.sum(haproxy:metrics(), "hakmem_arena_live"))
  end)

  it("stops when told so, all VMs closed", function()
    assert.equal(0, haproxy:stop "USR1")
    local output = haproxy:output()
    assert.falsy(output:find "hakmem:" or output:find "ALERT" or output:find "signal", output)
    local _, ended = output:gsub("exited with code 0", "")
    assert.equal(4, ended, output)
  end)
end)

describe("haproxy with lua-load", function()
  local haproxy, folder

  setup(function()
    folder = hosts.folder()
    hosts.write(folder .. "/haproxy.cfg", hosts.changed("examples/hosts/haproxy.cfg", "lua-load-per-thread", "lua-load"))
    haproxy = hosts.start("haproxy", { CONFIG = folder .. "/haproxy.cfg" })
  end)
  teardown(function()
    if haproxy then haproxy:finish() end
    if folder then hosts.remove(folder) end
  end)

  it("has one VM that all threads use in turns", function()
    haproxy:load("/rows?rows=500", 3000, 16, function()
      for _ = 1, 10 do assert.same({ "memory limit reached\n", 413 }, { haproxy:get "/rows?rows=200000" }) end
    end)
    local samples = haproxy:metrics()
    assert.equal(2, hosts.sum(samples, "hakmem_arena_live"))
    assert.truthy(hosts.sum(samples, "hakmem_arena_small_refills_total", { arena = "haproxy.0" }) > 1000)
    assert.equal(0, haproxy:stop "USR1")
  end)
end)
