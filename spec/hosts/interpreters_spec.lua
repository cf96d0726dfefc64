-- The two interpreters: no program knows that its VM has moved onto an arena before its first line.
local hosts = dofile "spec/hosts/support.lua"
local lua = dofile "spec/lua_support.lua"

local MB = 1024 * 1024
local INSTALL = 'require"hakmem".install()'

local function env_of(abi, init)
  return {
    LUA_INIT = init, LUA_INIT_5_4 = init,
    LUA_PATH = "lua/?.lua;lua/?/init.lua;;", LUA_CPATH = hosts.build .. "/lua/" .. abi .. "/?.so;;",
  }
end

for _, case in ipairs { { "lua5.4", "5.4" }, { "luajit", "5.1" } } do
  local interpreter, abi = case[1], case[2]

  local function run(init, code)
    local output, status = lua.child(code, env_of(abi, init), interpreter)
    assert.equal(0, status, output)
    return output
  end

  describe(interpreter .. " with LUA_INIT", function()
    it("runs programs to the same end", function()
      local n = 0
      for path in hosts.shell "ls csrc/bench/lua/*.lua":gmatch "%S+" do
        n = n + 1
        local code = ("dofile %q "):format(path)
        local plain, moved = run("", code), run(INSTALL, code .. "assert(require 'hakmem'.current())")
        assert.truthy(plain:find "checksum", plain)
        assert.equal(plain, moved, path)
      end
      assert.truthy(n >= 12)
    end)

    it("counts what they allocate", function()
      local output = run(INSTALL, [[
        local keep = {}
        for i = 1, 100000 do keep[i] = { i } end
        local hakmem = require "hakmem"
        assert(hakmem.current():stats "blocks" > 100000)
        local again, why, code = hakmem.install()
        assert(again == nil and why and code == "EXISTS")
        io.write(hakmem.report "prometheus")
      ]])
      local samples = hosts.samples(output)
      assert.truthy(hosts.sum(samples, "hakmem_arena_allocated_bytes", { arena = "lua" }) > 4 * MB)
    end)

    it("caps a program that runs away, and lets it go on", function()
      local output = run('require"hakmem".install{ limit = "8M" }', [[
        local hakmem = require "hakmem"
        for round = 1, 10 do
          local ok, why = pcall(function()
            local keep = {}
            for i = 1, 1e9 do keep[i] = { i } end
          end)
          assert(not ok and tostring(why):find "not enough memory", why)
        end
        local stats = hakmem.current():stats()
        assert(stats.peak <= 8 * 1024 * 1024 and stats.refusals >= 10)
        print "lives"
      ]])
      assert.equal("lives\n", output)
    end)

    it("closes the VM at os.exit, finalizers and all", function()
      for _, exit in ipairs { "os.exit(0, true)", "os.exit(0)", "" } do
        local output = run(INSTALL, [[
          local function finalizer() io.write "closed\n" end
          if newproxy then
            local p = newproxy(true)
            getmetatable(p).__gc = finalizer
            keep = p
          else
            keep = setmetatable({}, { __gc = finalizer })
          end
          coroutine.wrap(function() ]] .. exit .. [[ coroutine.yield() end)()
        ]])
        assert.equal(exit == "os.exit(0)" and "" or "closed\n", output)
      end
    end)
  end)
end
