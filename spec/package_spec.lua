-- What is shipped: the library's face, `make install`, pkg-config, and what the Makefile says.
local support = dofile "spec/lua_support.lua"
local quoted = support.quoted

local function sh(command)
  local output, status = support.shell("export MAKEFLAGS=; " .. command)
  assert.equal(0, status, command .. "\n" .. output)
  return output
end

local header = support.text "csrc/include/hakmem.h"
local library = support.build .. "/libhakmem.so"
local version = header:match '#define HAK_VERSION "([^"]+)"'

local function declared()
  local set = {}
  for declaration in header:gsub("/%*.-%*/", ""):gmatch "\nHAK_API ([^;]*);" do
    set[declaration:match "(hak_[%w_]+)%("] = true
  end
  assert.truthy(next(set))
  return set
end

describe("the library", function()
  it("has a soname with the version of its ABI", function()
    assert.truthy(sh("readelf -d " .. quoted(library)):find("Library soname: [libhakmem.so.0]", 1, true))
  end)

  it("needs nothing but libc", function()
    for name in sh("readelf -d " .. quoted(library)):gmatch "Shared library: %[([^%]]+)%]" do
      assert.truthy(name:find "^libc%.so" or name:find "^ld%-linux", name)
    end
  end)

  it("has no undefined symbol of Lua's", function()
    local output = sh("nm -D --undefined-only " .. quoted(library))
    assert.truthy(output:find " U ")
    assert.falsy(output:find " lua")
  end)

  it("exports what hakmem.h declares, and the table that copies share, and nothing else", function()
    local set = declared()
    set.hak_core_v1 = true
    for name in sh("nm -D --defined-only " .. quoted(library)):gmatch "%x+ %u (%S+)" do
      assert.truthy(set[name], name .. " is exported")
      set[name] = nil
    end
    assert.is_nil(next(set), tostring(next(set)) .. " is not exported")
  end)

  it("has a C test for each function", function()
    local tests = sh "cat spec/c/*.c spec/c/check.h"
    for name in pairs(declared()) do
      assert.truthy(tests:find("%f[%w_]" .. name .. "%("), name)
    end
  end)

  it("has a header that C++ and strict C11 take", function()
    for _, compiler in ipairs { "gcc -std=c11 -xc", "gcc -std=c++11 -xc++" } do
      if compiler:find "c%+%+" and not support.shell("gcc -print-prog-name=cc1plus"):find "/" then break end
      assert.equal("", sh(("echo '#include <hakmem.h>' | %s -Icsrc/include -Wall -Wextra -Wpedantic -Werror "
        .. "-fsyntax-only -"):format(compiler)))
    end
  end)
end)

describe("make install", function()
  local dir
  setup(function()
    dir = sh("mktemp -d"):gsub("\n", "")
    sh(("make -s install B=%s DESTDIR=%s PREFIX=/opt/hak"):format(quoted(support.build), dir))
  end)
  teardown(function() support.shell("rm -rf " .. dir) end)

  -- pkg-config as a cross build uses it: everything lies below DESTDIR.
  local function pkg_config(words)
    return sh(("PKG_CONFIG_PATH=%s/opt/hak/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=%s pkg-config %s hakmem")
      :format(dir, dir, words)):gsub("\n", "")
  end

  it("puts everything below PREFIX", function()
    local expected = {
      "include/hakmem.h", "include/hakmem_lua.h", "lib/libhakmem-preload.so", "lib/libhakmem.a",
      "lib/libhakmem.so", "lib/libhakmem.so.0", "lib/pkgconfig/hakmem.pc",
    }
    for abi in sh(("ls %s/lua"):format(quoted(support.build))):gmatch "%d%.%d" do
      expected[#expected + 1] = "lib/lua/" .. abi .. "/hakmem/core.so"
      for file in sh("ls lua/hakmem/*.lua"):gmatch "[%w_]+%.lua" do
        expected[#expected + 1] = "share/lua/" .. abi .. "/hakmem/" .. file
      end
    end
    table.sort(expected)
    assert.equal(table.concat(expected, "\n") .. "\n",
      sh(("cd %s/opt/hak && find . -type f -o -type l | sed 's,^./,,' | LC_ALL=C sort"):format(dir)))
    assert.equal("opt\n", sh("ls " .. dir))
  end)

  it("tells pkg-config", function()
    assert.equal(version, (pkg_config "--modversion"))
    assert.truthy(pkg_config("--cflags --libs"):find("-lhakmem", 1, true))
    assert.truthy(pkg_config("--static --libs"):find("-pthread", 1, true))
    assert.falsy(sh("cat " .. dir .. "/opt/hak/lib/pkgconfig/hakmem.pc"):find(dir, 1, true))
  end)

  it("gives what a program needs, shared and static", function()
    local file = assert(io.open(dir .. "/program.c", "w"))
    file:write [[
      #include <hakmem.h>
      #include <stdio.h>
      int main(void) {
        void *p = hak_malloc(100);
        hak_free(p);
        return puts(hak_version()) < 0 || p == NULL;
      }
    ]]
    file:close()
    sh(("cd %s && gcc program.c %s -o shared"):format(dir, pkg_config "--cflags --libs"))
    assert.equal(version .. "\n", sh(("LD_LIBRARY_PATH=%s/opt/hak/lib %s/shared"):format(dir, dir)))
    sh(("cd %s && gcc program.c %s opt/hak/lib/libhakmem.a -pthread -ldl -o static")
      :format(dir, pkg_config "--cflags"))
    assert.equal(version .. "\n", sh("env -u LD_LIBRARY_PATH " .. dir .. "/static"))
  end)

  it("gives the Lua module", function()
    local abi = support.is_jit and "5.1" or _VERSION:match "%d+%.%d+"
    local output, status = support.child("print(require('hakmem')._VERSION)", {
      LUA_PATH = ("%s/opt/hak/share/lua/%s/?.lua;%s/opt/hak/share/lua/%s/?/init.lua"):format(dir, abi, dir, abi),
      LUA_CPATH = ("%s/opt/hak/lib/lua/%s/?.so"):format(dir, abi),
    })
    assert.equal("hakmem " .. version .. "\n", output)
    assert.equal(0, status)
  end)
end)

describe("the Makefile", function()
  it("explains its targets", function()
    local help = sh "make -s help"
    for _, target in ipairs {
      "all", "run", "test", "bench", "asan", "tsan", "audit", "coverage", "docs", "check", "lint", "env", "install",
      "deps", "clean",
    } do
      assert.truthy(help:find("%f[%w]" .. target .. "%s+%a"), target)
    end
  end)

  it("prints an environment in which the built tree works in place", function()
    local lua = support.is_jit and "luajit" or "lua5.4"
    local output = sh(("unset LUA_PATH LUA_CPATH LD_LIBRARY_PATH; eval \"$(make -s env LUA=%s B=%s)\"; cd / && "
      .. "%s -e 'print(require(\"hakmem\").report(\"text\"))'"):format(lua, quoted(support.build), lua))
    assert.truthy(output:find("^hakmem " .. version:gsub("%.", "%%.")), output)
  end)
end)
