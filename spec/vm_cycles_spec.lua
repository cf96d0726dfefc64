-- A hundred thousand child VMs come and go, and nothing stays.
local support = dofile "spec/lua_support.lua"
local hakmem = require "hakmem"

local cycles = (support.sanitized or support.short) and 1000 or 50000

--- Runs the code in so many children, one after the other; returns how much RSS has grown since the
-- first tenth, and how many arenas.
local function churn(options, code)
  local arenas, before = hakmem.stats "arena.live", nil
  for i = 1, cycles do
    local vm = assert(hakmem.vm(options))
    assert(vm:call(code, i))
    vm:close()
    if i == cycles / 10 then
      collectgarbage()
      before = hakmem.stats "resident"
    end
  end
  collectgarbage()
  return hakmem.stats "resident" - before, hakmem.stats "arena.live" - arenas
end

describe("RSS is flat after " .. cycles .. " child VMs", function()
  local function flat(name, options, code)
    it(name, function()
      local grown, arenas = churn(options, code)
      assert.equal(0, arenas)
      if not support.sanitized then assert.truthy(grown <= 1024 * 1024, grown) end
    end)
  end
  flat("that are dropped", { limit = "4M", seconds = 60, libs = { "base", "string", "table" } },
    "local t = {} for i = 1, 50 do t[i] = { ('x'):rep(i), ... } end return #t")
  flat("that are closed, for a file was opened", { limit = "4M", libs = { "base", "io" } },
    "local t = {} for i = 1, 50 do t[i] = { i, ... } end f = io.open '/dev/null' return #t")
end)

describe("RSS is flat after " .. cycles .. " uses of a pool", function()
  it("whatever they do", function()
    local pool = assert(hakmem.vm_pool { limit = "4M", size = 2, template = "t = {} for i = 1, 50 do t[i] = {} end" })
    local before
    for i = 1, cycles do
      assert(pool:call("for i = 1, 50 do t[i] = { ('x'):rep(i), ... } end", i))
      if i % 1000 == 0 then assert.is_false((pool:call "error 'now and then'")) end
      if i == cycles / 10 then before = hakmem.stats "resident" end
    end
    collectgarbage()
    if not support.sanitized then assert.truthy(hakmem.stats "resident" - before <= 1024 * 1024) end
    assert.equal(1, pool:stats().created)
    pool:close()
  end)
end)
