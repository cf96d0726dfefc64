/* limits.c - limits that a Lua program can live with: what fits finishes, a runaway is caught, and the
 * state goes on; made in an arena and moved onto one, JIT compiler on and off.
 * Start: what_fits_finishes. */
#include "embed.h"

#if LUA_VERSION_NUM == 501
static bool on_luajit(void) { return luaJIT_setmode != NULL; }
static void compile(lua_State *L, bool on) { luaJIT_setmode(L, 0, on ? 0x100 : 0); }
#else
static bool on_luajit(void) { return false; }
static void compile(lua_State *L, bool on) { (void)L, (void)on; }
#endif

/* ---- what fits -------------------------------------------------------------------------------- */

static const struct program {
  const char *name, *text;
} programs[] = {
    {"strings rebuilt",
     "local keep = {}\n"
     "for round = 1, 4 do\n"
     "  for i = 1, 13000 do keep[i] = ('value %d of round %d'):format(i, round) end\n"
     "end"},
    {"tables and closures",
     "local keep = {}\n"
     "for i = 1, 60000 do\n"
     "  local t = { i, { i } }\n"
     "  keep[i % 3000 + 1] = function() return t end\n"
     "end"},
    {"concatenation",
     "local keep = {}\n"
     "for round = 1, 400 do\n"
     "  local s = ''\n"
     "  for i = 1, 25 do s = s .. ('%d,'):format(i):rep(48) end\n"
     "  keep[round % 200] = s .. round\n"
     "end"},
    {"a tree that is renewed by branches",
     "local function tree(d) return d > 0 and { tree(d - 1), tree(d - 1) } or { d } end\n"
     "local root = {}\n"
     "for i = 1, 200 do root[i % 16] = tree(8) end"},
    {"objects and coroutines",
     "local keep = {}\n"
     "for i = 1, 6000 do\n"
     "  local co = coroutine.create(function(a) local b = { a } coroutine.yield(b) return b end)\n"
     "  coroutine.resume(co, i)\n"
     "  keep[i % 500] = co\n"
     "end"},
    {"a queue",
     "local first, last, q = 1, 0, {}\n"
     "for i = 1, 60000 do\n"
     "  last = last + 1 q[last] = { id = i, name = 'job' .. i % 1000 }\n"
     "  if last - first > 3000 then q[first] = nil first = first + 1 end\n"
     "end"},
    {"words counted",
     "local count = {}\n"
     "for i = 1, 60000 do\n"
     "  local w = ('%x'):format(i * 7919 % 8000)\n"
     "  count[w] = (count[w] or 0) + 1\n"
     "end"},
    {"buffers among garbage",
     "local function rows(n) local l = {}\n"
     "  for i = 1, n do l[i] = ('row %d of %d: %s'):format(i, n, ('*'):rep(i % 50)) end\n"
     "  return table.concat(l) end\n"
     "keep = rows(5000) for i = 1, 100 do rows(500) end"},
    {"garbage alone",
     "local keep = ('x'):rep(700000)\n"
     "for i = 1, 200000 do local t = { i } end\n"
     "for i = 1, 20000 do local s = ('y'):rep(100) .. i end"},
};

struct exact {
  size_t used, most, limit;
};
static void *exact_alloc(void *ud, void *p, size_t osize, size_t nsize) {
  struct exact *e = ud;
  size_t old = p != NULL ? osize : 0;
  if (nsize > old && e->used - old + nsize > e->limit) return NULL;
  e->used = e->used - old + nsize;
  if (e->used > e->most) e->most = e->used;
  if (nsize != 0) return realloc(p, nsize);
  free(p);
  return NULL;
}

static bool finishes(lua_State *L, const char *text) {
  int status = run_code(L, text);
  if (status != 0 && strstr(lua_tostring(L, -1), "not enough memory") == NULL)
    check_end(CHECK_FAILED, "%s", lua_tostring(L, -1));
  return status == 0;
}

#if LUA_VERSION_NUM == 501
/* Lua that does not collect before it raises: the most that it had out when all garbage was
 * collected after each 16 KiB of growth. */
static struct exact *sampled;
static void sample(lua_State *L, lua_Debug *ar) {
  static size_t low;
  (void)ar;
  if (sampled->used < low) low = sampled->used;
  if (sampled->used - low < 16 * KIB) return;
  lua_gc(L, LUA_GCCOLLECT, 0);
  low = sampled->used;
}

static size_t smallest(const struct program *p) {
  struct exact e = {.limit = SIZE_MAX / 2};
  lua_State *L = lua_newstate(exact_alloc, &e);
  CHECK_EQ(protect(L, open_libraries, NULL), 0);
  if (on_luajit()) compile(L, false);
  sampled = &e;
  lua_sethook(L, sample, LUA_MASKCOUNT, 100);
  CHECK(finishes(L, p->text));
  lua_sethook(L, NULL, 0, 0);
  lua_close(L);
  return e.most;
}
#else
static bool fits_exactly(const struct program *p, size_t limit) {
  struct exact e = {.limit = limit};
  lua_State *L = lua_newstate(exact_alloc, &e);
  bool ok = L != NULL && protect(L, open_libraries, NULL) == 0 && finishes(L, p->text);
  if (L != NULL) lua_close(L);
  return ok;
}

static size_t smallest(const struct program *p) {
  size_t low = 0, high = MIB;
  while (!fits_exactly(p, high)) high *= 2;
  while (high - low > high / 256) {
    size_t middle = (low + high) / 2;
    *(fits_exactly(p, middle) ? &high : &low) = middle;
  }
  return high;
}
#endif

static bool fits(const struct program *p, size_t limit, bool compiled, bool moved) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, limit);
  lua_State *L = moved ? luaL_newstate() : hak_lua_newstate(a);
  CHECK(L != NULL);
  if (moved) CHECK_EQ(hak_lua_install(L, a), 0);
  bool ok = protect(L, open_libraries, NULL) == 0;
  if (on_luajit()) compile(L, compiled);
  ok = ok && finishes(L, p->text);
  CHECK_CMP(stat_of(a, "peak"), <=, limit);
  moved ? lua_close(L) : (void)hak_lua_close(L, HAK_LUA_CLOSE);
  CHECK_EQ(hak_arena_destroy(a), 0);
  return ok;
}

TEST(what_fits_finishes) {
  for (size_t i = 0; i < HAK_COUNT_OF(programs); i++) {
    const struct program *p = &programs[i];
    size_t m = smallest(p), room = m + m / 10 * 3;
    if (room < m + 256 * KIB) room = m + 256 * KIB;
    CHECK_CMP(m, >, 200 * KIB);
    for (int k = 0; k < 4; k++) {
      if (!on_luajit() && (k & 1) != 0) continue;
      if (!fits(p, room, (k & 1) != 0, (k & 2) != 0))
        check_end(CHECK_FAILED, "%s: M %zu, not in %zu (compiled %d, moved %d)", p->name, m, room,
                  k & 1, k >> 1);
    }
  }
}

/* ---- what does not ---------------------------------------------------------------------------- */

static const char *const runaways[] = {
    "return #('x'):rep(1e9)",
    "local s = 'x' while true do s = s .. s end",
    "local t = {} for i = 1, 1e6 do t[i] = coroutine.create(function() end) end",
    "local t = {} for i = 1, 1e9 do t[i] = { i } end",
    "local t = {} for i = 1, 1e9 do t[i] = 'key ' .. i end",
    "local t = {} for i = 1, 1e9 do t['key ' .. i] = i end",
    "local t = {} for i = 1, 1e9 do t = { t, i } end",
    "local t = {} for i = 1, 1e9 do local n = i t[i] = function() n = n + 1 return n end end",
    "local t = {} while true do t[#t + 1] = ('y'):rep(1000 + #t) end",
    "local t = {} while true do t[#t + 1] = table.concat({ #t, #t, #t }, ('z'):rep(500)) end",
    "local function f(n) return 1 + f(n + 1) end return f(1)",
    ("local t = {} while true do pcall(function() while true do t[#t + 1] = { {} } end end)"
     " if #t > 0 then error('not enough memory') end end"),
    "local s = {} for i = 1, 1e9 do s[i] = ('%d'):format(i) end",
    "return ('x'):rep(2e6):gsub('x', 'yyyyyyyyyyyyyyyy')",
    "local t = {} for i = 1, 1e9 do t[i + 0.5] = i end",
    "return select('#', (unpack or table.unpack)({}, 1, 1e6))",
    "local t = {} while true do t[#t + 1] = assert((loadstring or load)('return ' .. #t)) end",
};

static bool expected(const char *message) {
  return strstr(message, "not enough memory") != NULL || strstr(message, "overflow") != NULL ||
         strstr(message, "too many results") != NULL;
}

/* From a script that catches the error itself, and then from the host. LuaJIT sees garbage only where it
 * interprets, and not what stale stack slots hold: there a second refusal may follow at once. */
static void run_away(lua_State *L, hak_arena *a, size_t limit) {
  for (size_t i = 0; i < HAK_COUNT_OF(runaways); i++) {
    char text[1000];
    snprintf(
        text, sizeof text,
        "local ok, message = pcall(function() %s end) assert(not ok)\n"
        "local function use()\n"
        "  for round = 1, 3 do local t = {} for i = 1, 300 do t[i] = { ('x'):rep(i) } end end\n"
        "end\n"
        "for try = 2, %d do if pcall(use) then error('caught ' .. tostring(message)) end end\n"
        "use() error('caught ' .. tostring(message))",
        runaways[i], on_luajit() ? 3 : 1);
    for (int outside = 0; outside < 2; outside++) {
      int status = run_code(L, outside ? runaways[i] : text);
      const char *message = status != 0 ? lua_tostring(L, -1) : "no error";
      if (status == 0 || message == NULL || !expected(message) ||
          (!outside && strstr(message, "caught") == NULL))
        check_end(CHECK_FAILED, "program %zu.%d: %d, %s", i, outside, status, message);
      lua_settop(L, 0);
      CHECK_CMP(stat_of(a, "peak"), <=, limit);
      if (outside && LUA_VERSION_NUM == 501) lua_gc(L, LUA_GCCOLLECT, 0); /* by nobody else yet */
      status = run_code(L, "local t = {} for i = 1, 300 do t[i] = { ('x'):rep(i) } end");
      if (status != 0) check_end(CHECK_FAILED, "after program %zu: %s", i, lua_tostring(L, -1));
    }
  }
}

TEST(runaways_are_caught) {
  static const size_t limits[] = {2 * MIB, 8 * MIB, 32 * MIB};
  size_t n = rounds(HAK_COUNT_OF(limits), 2); /* time goes with the limit */
  for (size_t i = 0; i < n; i++) {
    for (int k = 0; k < 4; k++) {
      if (!on_luajit() && (k & 1) != 0) continue;
      hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, limits[i]);
      lua_State *L = (k & 2) != 0 ? luaL_newstate() : hak_lua_newstate(a);
      if ((k & 2) != 0) CHECK_EQ(hak_lua_install(L, a), 0);
      CHECK_EQ(protect(L, open_libraries, NULL), 0);
      if (k & 1)
        hak_lua_restrain(L); /* compiled where LuaJIT survives it */
      else if (on_luajit())
        compile(L, false);
      run_away(L, a, limits[i]);
      (k & 2) != 0 ? lua_close(L) : (void)hak_lua_close(L, HAK_LUA_CLOSE);
      CHECK_EQ(stat_of(a, "blocks"), 0);
      CHECK_EQ(hak_arena_destroy(a), 0);
    }
  }
}

/* Buffers of the auxiliary library ask past the VM, which then does not collect for them. */
TEST(buffers_do_not_fail_for_garbage) {
  for (int generational = 0; generational < (LUA_VERSION_NUM >= 504 ? 2 : 1); generational++) {
    hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 16 * MIB);
    lua_State *L = hak_lua_newstate(a);
    CHECK_EQ(protect(L, open_libraries, NULL), 0);
    if (generational) must_run(L, "collectgarbage('generational')");
    must_run(L,
             "function rows(n) local l = {}\n"
             "  for i = 1, n do l[i] = ('row %d of %d: %s'):format(i, n, ('*'):rep(i % 50)) end\n"
             "  return table.concat(l) end");
    for (int round = 0; round < 3; round++) {
      CHECK(run_code(L, "return rows(1000000)") != 0);
      lua_settop(L, 0);
      if (LUA_VERSION_NUM == 501) lua_gc(L, LUA_GCCOLLECT, 0);
      for (size_t i = 0; i < rounds(600, 200); i++) must_run(L, "return rows(500)");
    }
    CHECK_CMP(stat_of(a, "peak"), <=, 16 * MIB);
    hak_lua_close(L, HAK_LUA_CLOSE);
  }
}

/* ---- the pace --------------------------------------------------------------------------------- */

#if LUA_VERSION_NUM == 501
TEST(settings_of_the_collector_come_back) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 8 * MIB);
  lua_State *L = hak_lua_newstate(a);
  CHECK_EQ(protect(L, open_libraries, NULL), 0);
  lua_gc(L, LUA_GCSETPAUSE, 170);
  lua_gc(L, LUA_GCSETSTEPMUL, 230);
  must_run(L, "local t = {} for i = 1, 55000 do t[i] = { i } end"); /* above half */
  must_run(L, "collectgarbage() collectgarbage()");
  CHECK_CMP(stat_of(a, "peak"), >, 5 * MIB);
  CHECK_CMP(stat_of(a, "charged"), <, 3 * MIB);
  must_run(L, "local t = {} for i = 1, 1000 do t[i] = { i } end");
  CHECK_EQ(lua_gc(L, LUA_GCSETPAUSE, 170), 170);
  CHECK_EQ(lua_gc(L, LUA_GCSETSTEPMUL, 230), 230);
  hak_lua_close(L, HAK_LUA_CLOSE);
}
#endif

/* As a VM asks for an object: again, where it collects when it is refused. */
static void *ask(hak_arena *a, size_t n) {
  void *p = hak_lua_alloc(a, NULL, LUA_TSTRING, n);
  if (p == NULL && LUA_VERSION_NUM > 501) p = hak_lua_alloc(a, NULL, LUA_TSTRING, n);
  return p;
}

/* Room until a refusal, or until the hook of the error that is to be raised is there. */
static size_t take_all(lua_State *L, hak_arena *a, void **p, size_t n) {
  lua_Hook hook = lua_gethook(L);
  while ((p[n] = ask(a, 64 * KIB)) != NULL) {
    n++;
    if (lua_gethook(L) != hook) break;
  }
  return n;
}

/* A refusal comes at 15/16 (LuaJIT: the error behind 31/32); what is left is for handling it; then there
 * is room again. */
TEST(a_refusal_leaves_a_rest) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 16 * MIB);
  lua_State *L = hak_lua_newstate(a);
  size_t line = on_luajit() ? 31 * MIB / 2 : 15 * MIB;
  for (int round = 0; round < 2; round++) {
    void *p[16 * MIB / (64 * KIB)];
    uint64_t refusals = stat_of(a, "refusals");
    size_t n = take_all(L, a, p, 0);
    CHECK_CMP(stat_of(a, "charged"), <=, line + 65 * KIB);
    CHECK_CMP(stat_of(a, "charged"), >, line - 65 * KIB);
    CHECK_CMP(stat_of(a, "refusals"), >, refusals);
    n = take_all(L, a, p, n);
    CHECK_CMP(stat_of(a, "charged"), >, line + 200 * KIB);
    while (n > 0) hak_lua_alloc(a, p[--n], 64 * KIB, 0);
    lua_sethook(L, NULL, 0, 0);
  }
  CHECK_CMP(stat_of(a, "peak"), <=, 16 * MIB);
  hak_lua_close(L, HAK_LUA_CLOSE);
}

/* The error that is raised leaves a hook of the program's own where it was. */
static int hooked;
static void count_lines(lua_State *L, lua_Debug *ar) {
  (void)L;
  (void)ar;
  hooked++;
}
TEST(hooks_are_kept) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 4 * MIB);
  lua_State *L = hak_lua_newstate(a);
  CHECK_EQ(protect(L, open_libraries, NULL), 0);
  lua_sethook(L, count_lines, LUA_MASKLINE, 0);
  CHECK(run_code(L, "local t = {} for i = 1, 1e9 do t[i] = { i } end") != 0);
  CHECK(lua_gethook(L) == count_lines);
  hooked = 0;
  must_run(L, "local a = 1\nlocal b = 2\n");
  CHECK_CMP(hooked, >=, 2);
  hak_lua_close(L, HAK_LUA_CLOSE);
}
