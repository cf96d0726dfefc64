-- hakmem_lua.h, compiled against every lua.h that is installed.
local support = dofile "spec/lua_support.lua"

local program = [[
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <lua.h>
#include <lauxlib.h>
#include <lualib.h>
#include "hakmem_lua.h"

static int set_up(lua_State *L) {
  luaL_openlibs(L);
  return 0;
}

static int protected(lua_State *L, lua_CFunction f) {
  lua_pushcfunction(L, f);
  return lua_pcall(L, 0, 0, 0);
}

static size_t stat(hak_arena *arena, const char *name) {
  uint64_t values[256];
  int i = hak_stat_find(name);
  assert(i >= 0 && i < 256);
  hak_stats_read(arena, values, 256);
  return (size_t)values[i];
}

static const char *const greedy[] = {
  "local t = {} for i = 1, 1e9 do t[i] = { i } end",
  "return #('x'):rep(1e9)",
  "local s = 'x' while true do s = s .. s end",
  "local t = {} for i = 1, 1e6 do t[i] = coroutine.create(function() end) end",
  "local function f(n) return 1 + f(n + 1) end return f(1)",
};

int main(void) {
  hak_arena *arena = hak_arena_create(&(hak_arena_config){.kind = HAK_ARENA_PRIVATE, .hard = 8 << 20});
  lua_State *L = hak_lua_newstate(arena);
  assert(L != NULL && protected(L, set_up) == 0);
  assert(hak_arena_reset(arena) != 0 && hak_arena_destroy(arena) != 0); /* pinned */
  for (size_t i = 0; i < sizeof greedy / sizeof *greedy; i++) {
    assert(luaL_loadstring(L, greedy[i]) == 0 && lua_pcall(L, 0, 0, 0) != 0);
    assert(strstr(lua_tostring(L, -1), "not enough memory") ||
           (strstr(greedy[i], "1 + f") && strstr(lua_tostring(L, -1), "stack overflow")));
    lua_settop(L, 0);
    assert(stat(arena, "peak") <= 8 << 20);
    lua_gc(L, LUA_GCCOLLECT, 0); /* 5.1 and LuaJIT do not by themselves */
    assert(luaL_loadstring(L, "local t = {} for i = 1, 100 do t[i] = ('x'):rep(i) end") == 0);
    assert(lua_pcall(L, 0, 0, 0) == 0); /* usable */
  }
  assert(hak_lua_close(L, HAK_LUA_CLOSE) == arena);
  assert(stat(arena, "allocated") == 0);

  /* from a coroutine, too */
  L = hak_lua_newstate(arena);
  assert(hak_lua_close(lua_newthread(L), HAK_LUA_DROP) == arena);
  assert(stat(arena, "allocated") > 0);
  assert(hak_arena_reset(arena) == 0 && stat(arena, "allocated") == 0);

  for (int i = 0; i < 100; i++) { /* two states in one arena: both pin it */
    lua_State *a = hak_lua_newstate(arena), *b = hak_lua_newstate(arena);
    assert(a != NULL && b != NULL);
    hak_lua_close(a, i % 2);
    assert(hak_arena_reset(arena) != 0);
    hak_lua_close(b, HAK_LUA_CLOSE);
    assert(hak_arena_reset(arena) == 0);
  }
  hak_arena_set_limit(arena, 0, 4096);
  assert(hak_lua_newstate(arena) == NULL); /* and is not pinned then */
  assert(hak_arena_destroy(arena) == 0);

  L = hak_lua_newstate(NULL); /* the default arena */
  assert(L != NULL && hak_lua_close(L, HAK_LUA_CLOSE) == hak_arena_default());
  L = luaL_newstate();
  assert(L != NULL && hak_lua_close(L, HAK_LUA_CLOSE) == NULL); /* not ours: left alone */
  lua_close(L);
  puts("good");
  fflush(stdout);

  L = hak_lua_newstate(hak_arena_default());
  lua_pushliteral(L, "last words");
  lua_error(L);
  return 0;
}
]]

describe("hakmem_lua.h", function()
  local sanitizer = (os.getenv "FLAVOR" or ""):match "^[at]san$"
  local fsan = sanitizer == "asan" and "-fsanitize=address,undefined" or sanitizer and "-fsanitize=thread" or ""
  for _, lua in ipairs {
    { "lua5.1", "-I/usr/include/lua5.1", "-llua5.1" }, { "lua5.2", "-I/usr/include/lua5.2", "-llua5.2" },
    { "lua5.3", "-I/usr/include/lua5.3", "-llua5.3" }, { "lua5.4", "-I/usr/include/lua5.4", "-llua5.4" },
    { "luajit", "-I/usr/include/luajit-2.1", "-lluajit-5.1" },
  } do
    it("makes, limits, closes and drops states of " .. lua[1], function()
      local base = os.tmpname()
      local file = assert(io.open(base .. ".c", "w"))
      file:write(program)
      file:close()
      local output, status = support.shell(
        ("gcc -std=c11 -Wall -Wextra -Werror -Icsrc/include %s %s -o %s %s.c %s/libhakmem.a %s -lm -ldl -pthread")
        :format(fsan, lua[2], base, base, support.quoted(support.build), lua[3]))
      assert.equal("", output)
      assert.equal(0, status)
      output, status = support.shell("( ulimit -c 0; exec " .. base .. " )")
      assert.truthy(output:find "^good\nPANIC: unprotected error in call to Lua API %(last words%)\n", output)
      assert.not_equal(0, status) -- Lua aborts after its panic function
      os.remove(base)
      os.remove(base .. ".c")
    end)
  end
end)
