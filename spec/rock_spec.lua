-- The rock: made, packed and installed in a temporary tree, without a network.
local support = dofile "spec/lua_support.lua"
local quoted = support.quoted

local abi = support.is_jit and "5.1" or _VERSION:match "%d+%.%d+"
local incdir = support.is_jit and "/usr/include/luajit-2.1" or "/usr/include/lua" .. abi

describe("the rock for " .. support.interpreter, function()
  local dir, source, made, installed, server

  -- No proxy answers there, and no configuration of the user's is read.
  local function sh(command)
    local output, status = support.shell(("export HOME=%s LUAROCKS_CONFIG=%s/none MAKEFLAGS=-j2 "
      .. "http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9; unset LUA_PATH LUA_CPATH; %s")
      :format(quoted(dir), quoted(dir), command))
    assert.equal(0, status, command .. "\n" .. output)
    return output
  end

  local function luarocks(tree, words)
    return sh(("cd %s && luarocks --lua-version=%s --tree=%s %s"):format(quoted(source), abi, quoted(tree), words))
  end

  -- In an empty folder, so that nothing of the source tree is found by chance.
  local function smoke(tree)
    return sh(("mkdir -p %s/empty && cd %s/empty && LUA_PATH='%s/share/lua/%s/?.lua;%s/share/lua/%s/?/init.lua;;' "
      .. "LUA_CPATH='%s/lib/lua/%s/?.so' %s %s/rockspec/smoke.lua"):format(dir, dir, tree, abi, tree, abi, tree, abi,
      support.interpreter, source))
  end

  setup(function()
    dir = support.shell("mktemp -d"):gsub("\n", "")
    source, made, installed, server = dir .. "/source", dir .. "/made", dir .. "/installed", dir .. "/server"
    sh(("mkdir -p %s %s && cp -r Makefile csrc lua rockspec %s"):format(source, server, source))
  end)
  teardown(function() support.shell("rm -rf " .. quoted(dir)) end)

  it("is made from the tree", function()
    luarocks(made, "make rockspec/hakmem-scm-1.rockspec LUA_INCDIR=" .. incdir)
    assert.truthy(smoke(made):find("works on", 1, true))
  end)

  it("has every file of lua/hakmem", function()
    local have = sh(("ls %s/share/lua/%s/hakmem"):format(made, abi))
    assert.equal(sh(("cd %s/lua/hakmem && ls *.lua"):format(source)), have)
  end)

  it("says the same about itself as the header", function()
    local version = support.text("csrc/include/hakmem.h"):match '#define HAK_VERSION "([^"]+)"'
    local backend = support.is_jit and "ffi" or "c"
    assert.truthy(smoke(made):find("^hakmem " .. version:gsub("%.", "%%.") .. " works on .*%(" .. backend .. "%)\n$"))
  end)

  it("is packed, and installed from a server that is a folder", function()
    sh(("cd %s && luarocks --lua-version=%s --tree=%s pack hakmem"):format(server, abi, made))
    sh(("cd %s && luarocks-admin --lua-version=%s make-manifest ."):format(server, abi))
    luarocks(installed, ("install --only-server=%s hakmem"):format(server))
    assert.truthy(smoke(installed):find("works on", 1, true))
    assert.truthy(luarocks(installed, "show hakmem"):find "scm%-1")
  end)

  it("is installed from the packed file, and removed", function()
    local tree = dir .. "/file"
    luarocks(tree, ("install %s/hakmem-scm-1.*.rock"):format(server))
    assert.truthy(smoke(tree):find("works on", 1, true))
    luarocks(tree, "remove hakmem")
    local output = sh(("find %s -name 'core.so' -o -name 'init.lua'"):format(tree))
    assert.equal("", output)
  end)

  it("compiles again when it is made for another Lua", function()
    local other = support.is_jit and "5.4" or "5.1"
    sh(("cd %s && luarocks --lua-version=%s --tree=%s/other make rockspec/hakmem-scm-1.rockspec LUA_INCDIR=%s")
      :format(source, other, dir, "/usr/include/lua" .. other))
    local output = sh(("cd / && LUA_PATH='%s/other/share/lua/%s/?.lua;%s/other/share/lua/%s/?/init.lua;;' "
      .. "LUA_CPATH='%s/other/lib/lua/%s/?.so' lua%s %s/rockspec/smoke.lua"):format(dir, other, dir, other, dir, other,
      other, source))
    assert.truthy(output:find("works on Lua " .. other, 1, true))
  end)
end)
