-- What a C host gets for its states: the example of a server serves, a script whose live data fits is not
-- killed by garbage, and a thousand young states cost no more memory than under the C library's allocator.
local support = dofile "spec/lua_support.lua"

-- Runs one of three programs, or makes a thousand states, on either allocator.
local host = [[
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <lauxlib.h>
#include <lualib.h>
#include "hakmem_lua.h"

/* Byte for byte what malloc was asked for, at most `limit`. The VM collects all garbage before it
 * takes a refusal for an answer: what finishes here is what finishes with a collection before every
 * allocation. */
struct exact { size_t used, limit; };
static void *exact_alloc(void *ud, void *p, size_t osize, size_t nsize) {
  struct exact *e = ud;
  size_t old = p != NULL ? osize : 0;
  if (nsize > old && e->used - old + nsize > e->limit) return NULL;
  e->used = e->used - old + nsize;
  if (nsize != 0) return realloc(p, nsize);
  free(p);
  return NULL;
}

static int work(lua_State *L) {
  luaL_openlibs(L);
  if (luaL_loadstring(L, lua_touserdata(L, 1)) != LUA_OK) return lua_error(L);
  lua_call(L, 0, 0);
  return 0;
}

static int finishes(lua_State *L, const char *program) {
  if (L == NULL) return 0;
  lua_pushcfunction(L, work);
  lua_pushlightuserdata(L, (void *)program);
  int status = lua_pcall(L, 1, 0, 0);
  if (status != LUA_OK && status != LUA_ERRMEM) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    exit(2);
  }
  return status == LUA_OK;
}

static int fits_exactly(const char *program, size_t limit) {
  struct exact e = {0, limit};
  lua_State *L = lua_newstate(exact_alloc, &e);
  int ok = finishes(L, program);
  if (L != NULL) lua_close(L);
  return ok;
}

static int fits_hakmem(const char *program, size_t limit) {
  hak_arena *a = hak_arena_create(&(hak_arena_config){.kind = HAK_ARENA_PRIVATE, .hard = limit});
  lua_State *L = hak_lua_newstate(a);
  int ok = finishes(L, program);
  if (L != NULL) hak_lua_close(L, HAK_LUA_CLOSE);
  if (hak_arena_destroy(a) != 0) exit(3);
  return ok;
}

static size_t smallest(int (*fits)(const char *, size_t), const char *program) {
  size_t low = 0, high = 1 << 20;
  while (!fits(program, high)) high *= 2;
  while (high - low > high / 256) {
    size_t middle = (low + high) / 2;
    if (fits(program, middle)) high = middle; else low = middle;
  }
  return high;
}

static size_t resident(void) {
  unsigned long pages = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  if (f == NULL || fscanf(f, "%*u %lu", &pages) != 1) exit(4);
  fclose(f);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void states(int hakmem) {
  size_t before = resident();
  for (int i = 0; i < 1000; i++) {
    hak_arena_config config = {.kind = HAK_ARENA_PRIVATE};
    lua_State *L = hakmem ? hak_lua_newstate(hak_arena_create(&config)) : luaL_newstate();
    if (L == NULL) exit(5);
    luaL_openlibs(L);
  }
  printf("%zu\n", resident() - before);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "fit") == 0) {
    size_t m = smallest(fits_exactly, argv[2]), room = m + m / 10 * 3;
    if (room < m + (256 << 10)) room = m + (256 << 10);
    printf("%zu %zu %d\n", m, room, fits_hakmem(argv[2], room));
  } else if (argc == 2) {
    states(strcmp(argv[1], "hakmem") == 0);
  }
  return 0;
}
]]

local programs = {
  { "a table of strings that is rebuilt", [[
      local keep = {}
      for round = 1, 4 do
        for i = 1, 15000 do keep[i] = ("value %d of round %d"):format(i, round) end
      end]] },
  { "small tables and closures that come and go", [[
      local keep = {}
      for i = 1, 30000 do
        local t = { i, { i } }
        keep[i % 3000 + 1] = function() return t end
      end]] },
  { "long strings that grow by concatenation", [[
      local keep = {}
      for round = 1, 400 do
        local s = ""
        for i = 1, 100 do s = s .. ("%d,"):format(i):rep(20) end
        keep[round % 200] = s .. round
      end]] },
}

describe("examples/embed.c", function()
  local program = os.tmpname()

  setup(function()
    local package = support.is_jit and "luajit" or "lua5.4"
    local output, status = support.shell(("gcc -std=c11 -O1 -Wall -Wextra -Werror -Icsrc/include "
      .. "$(pkg-config --cflags %s) -o %s examples/embed.c %s/libhakmem.a $(pkg-config --libs %s) -lm -ldl -pthread")
      :format(package, program, support.quoted(support.build), package))
    assert.equal(0, status, output)
  end)
  teardown(function() os.remove(program) end)

  it("tries itself", function()
    local output, status = support.shell(program)
    assert.equal(0, status, output)
  end)

  it("keeps sixty clients apart, and ends at SIGTERM", function()
    local output, status = support.shell(([[bash -c '
      coproc server { exec %s 0 2>%s.port; }
      until read -r _ port <%s.port; do sleep 0.01; done 2>/dev/null
      for i in {1..60}; do
        exec {to[i]}<>/dev/tcp/127.0.0.1/$port || exit 2
        printf "n = %%d\\nn = n + 1\\nn * 2\\n" $i >&${to[i]} # three lines at once
      done
      for i in {1..60}; do
        read -r _ <&${to[i]}; read -r _ <&${to[i]}; read -r twice <&${to[i]}
        [ "$twice" = $((2 * i + 2)) ] || { echo "$i: $twice"; exit 3; }
      done
      kill -TERM $server_PID; wait $server_PID || exit 4
      ! read -r _ <&${to[60]}']]):format(program, program, program))
    os.remove(program .. ".port")
    assert.equal(0, status, output)
  end)
end)

if support.is_jit then
  -- LuaJIT raises at a refusal without having collected, so that it is made to collect before.
  describe("a child VM on LuaJIT", function()
    local hakmem = require "hakmem"
    -- The most that a collection left, among many; no less is needed, whatever the allocator.
    local sampled = [[
      local most, collect, f = 0, collectgarbage, assert(loadstring((...)))
      local function sample()
        collect()
        most = math.max(most, collect "count" * 1024)
      end
      debug.sethook(sample, "", 20000)
      f()
      debug.sethook()
      sample()
      return most
    ]]
    for _, case in ipairs(programs) do
      it("finishes with 1.5 times its live data: " .. case[1], function()
        local vm = assert(hakmem.vm { libs = { "base", "string", "math", "debug" } })
        local ok, live = vm:call(sampled, case[2])
        vm:close()
        assert.truthy(ok, live)
        assert.truthy(live > 600 * 1024 and live < 4 * 1024 * 1024, live)
        vm = assert(hakmem.vm { limit = math.floor(1.5 * live) })
        ok, live = vm:call(case[2])
        assert.truthy(ok, live)
        assert.truthy(vm:stats "peak" <= vm:stats "hard")
        vm:close()
      end)
    end
  end)
  return
end

describe("a C host with Lua 5.4", function()
  local program = os.tmpname()

  setup(function()
    local file = assert(io.open(program .. ".c", "w"))
    file:write(host)
    file:close()
    local output, status = support.shell(("gcc -std=gnu11 -O1 -Wall -Wextra -Werror -Icsrc/include "
      .. "-I/usr/include/lua5.4 -o %s %s.c %s/libhakmem.a -llua5.4 -lm -ldl -pthread")
      :format(program, program, support.quoted(support.build)))
    assert.equal(0, status, output)
  end)
  teardown(function()
    os.remove(program)
    os.remove(program .. ".c")
  end)

  -- M: the smallest limit with which it finishes on the exact allocator, by bisection.
  for _, case in ipairs(programs) do
    it("finishes where its live data fits: " .. case[1], function()
      local output, status = support.shell(program .. " fit " .. support.quoted(case[2]))
      assert.equal(0, status, output)
      local m, room, finished = output:match "^(%d+) (%d+) (%d)"
      m, room = tonumber(m), tonumber(room)
      assert.truthy(m > 600 * 1024 and m < 4 * 1024 * 1024, output)
      assert.truthy(room <= math.max(1.3 * m, m + 256 * 1024), output)
      assert.equal("1", finished, output)
    end)
  end

  it("pays no more for a thousand fresh states than with the C library's malloc", function()
    local function resident(allocator)
      local output, status = support.shell(program .. " " .. allocator)
      assert.equal(0, status, output)
      return tonumber(output)
    end
    local ours, theirs = resident "hakmem", resident "malloc"
    assert.truthy(theirs > 10 * 1024 * 1024, theirs)
    assert.truthy(ours <= theirs, ours .. " " .. theirs)
  end)
end)
