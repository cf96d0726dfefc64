-- A hundred thousand child VMs come and go, and nothing stays. Each case in a process of its own, whose
-- RSS nobody else moves.
local support = dofile "spec/lua_support.lua"

local cycles = (support.sanitized or support.short) and 1000 or 50000

--- Runs `use` so many times; says how much RSS has grown since the first tenth, and how many arenas.
local SCRIPT = [=[
  local hakmem = require "hakmem"
  local cycles = %d
  %s
  local arenas, before = hakmem.stats "arena.live", nil
  for i = 1, cycles do
    use(i)
    if i == cycles / 10 then
      collectgarbage()
      before = hakmem.stats "resident"
    end
  end
  collectgarbage()
  print(hakmem.stats "resident" - before, hakmem.stats "arena.live" - arenas)
]=]

describe("RSS is flat after " .. cycles, function()
  local function flat(name, use)
    it(name, function()
      local output, status = support.child(SCRIPT:format(cycles, use))
      assert.equal(0, status, output)
      local grown, arenas = output:match "^(%-?%d+)%D+(%d+)%D*\n$"
      assert.equal("0", arenas, output)
      if not support.sanitized then assert.truthy(tonumber(grown) <= 512 * 1024, output) end
    end)
  end
  flat("child VMs that are dropped", [[
    local libs = { "base", "string", "table" }
    function use(i)
      local vm = assert(hakmem.vm { limit = "4M", seconds = 60, libs = libs })
      assert(vm:call("local t = {} for i = 1, 50 do t[i] = { ('x'):rep(i), ... } end return #t", i))
      vm:close()
    end]])
  flat("child VMs that are closed, for a file was opened", [[
    local libs = { "base", "io" }
    function use(i)
      local vm = assert(hakmem.vm { limit = "4M", libs = libs })
      assert(vm:call("local t = {} for i = 1, 50 do t[i] = { i, ... } end f = io.open '/dev/null'", i))
      vm:close()
    end]])
  flat("uses of a pool", [[
    local pool = assert(hakmem.vm_pool { limit = "4M", template = "t = {} for i = 1, 50 do t[i] = {} end" })
    pool:call ""
    function use(i)
      assert(pool:call("for i = 1, 50 do t[i] = { ('x'):rep(i), ... } end", i))
      if i % 1000 == 0 then assert(not pool:call "error 'now and then'") end
      assert(pool:stats().created == 1)
    end]])
end)
