-- lighttpd with mod_magnet: Lua 5.4, a VM per script that the host replaces when the script changes.
local hosts = dofile "spec/hosts/support.lua"

local KB, MB = 1024, 1024 * 1024

describe("lighttpd", function()
  local lighttpd, folder, script

  setup(function()
    folder = hosts.folder()
    script = folder .. "/script.lua" -- one that can be changed
    hosts.write(script, hosts.text "examples/hosts/lighttpd.lua")
    hosts.write(folder .. "/lighttpd.conf", hosts.changed("examples/hosts/lighttpd.conf",
      'env.HAKMEM + "/examples/hosts/lighttpd.lua"', '"' .. script .. '"'))
    lighttpd = hosts.start("lighttpd", { CONFIG = folder .. "/lighttpd.conf" })
  end)
  teardown(function()
    if lighttpd then lighttpd:finish() end
    if folder then hosts.remove(folder) end
  end)

  local function of_arena(metric)
    local values = hosts.values(lighttpd:metrics(), metric, { arena = "lighttpd" })
    assert.equal(1, #values) -- also: the VMs that were replaced have taken their arenas along
    return values[1]
  end

  it("answers from a VM that the script itself has moved onto an arena", function()
    assert.same({ "hello from lighttpd\n", 200 }, { lighttpd:get "/" })
    assert.equal(16 * MB, of_arena "hakmem_arena_hard_bytes")
  end)

  it("answers right under load, within the limit", function()
    lighttpd:check_rows(500)
    lighttpd:load("/rows?rows=500", 3000, 8)
    assert.truthy(of_arena "hakmem_arena_small_refills_total" > 1000)
    assert.truthy(of_arena "hakmem_arena_peak_bytes" > 100 * KB)
    assert.truthy(of_arena "hakmem_arena_peak_bytes" < 4 * MB)
  end)

  it("refuses a request that passes its limit, and that one alone", function()
    lighttpd:load("/rows?rows=500", 1000, 4, function()
      for _ = 1, 20 do
        assert.same({ "memory limit reached\n", 413 }, { lighttpd:get "/rows?rows=200000" })
      end
    end)
  end)

  it("caps the whole VM: a request that wants more fails, the server lives", function()
    for _ = 1, 10 do
      local body, code = lighttpd:get "/greedy?rows=1000000"
      assert.equal(507, code)
      assert.truthy(body:find "not enough memory", body)
      assert.same({ "12342\n", 200 }, { lighttpd:get "/greedy?rows=300" })
    end
    assert.truthy(of_arena "hakmem_arena_refusals_total" > 0)
    assert.truthy(of_arena "hakmem_arena_peak_bytes" <= 16 * MB)
  end)

  it("drops the VM and its arena when the script changes, also under load", function()
    local text = hosts.text "examples/hosts/lighttpd.lua"
    lighttpd:load("/rows?rows=100", 4000, 8, function()
      for round = 1, 5 do
        hosts.write(script, (text:gsub("hello", "round " .. round)) .. ("-- longer\n"):rep(round))
        hosts.await("the new script", function()
          return lighttpd:get "/" == ("round %d from lighttpd\n"):format(round), lighttpd:get "/"
        end)
      end
    end)
    assert.equal(16 * MB, of_arena "hakmem_arena_hard_bytes")
  end)

  it("restarts gracefully and ends when told so", function()
    lighttpd:load("/rows?rows=100", 2000, 4)
    lighttpd:signal "USR1"
    hosts.await("a restart", function()
      local _, starts = lighttpd:output():gsub("server started", "")
      return starts == 2, lighttpd:output()
    end)
    hosts.await("an answer", function() return pcall(lighttpd.get, lighttpd, "/") end)
    assert.equal(16 * MB, of_arena "hakmem_arena_hard_bytes")
    assert.equal(0, lighttpd:stop "INT")
    assert.falsy(lighttpd:output():find "hakmem:" or lighttpd:output():find "lua:", lighttpd:output())
  end)
end)
