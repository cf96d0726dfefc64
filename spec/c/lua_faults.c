/* lua_faults.c - every allocation of Lua programs fails: once, twice (5.4 collects and asks again),
 * and from then on.
 * Why:   a limit may strike anywhere; the state must live on, and give everything back.
 * Args:  as check.h has them; --short steps in strides.
 * Start: every TEST.
 *
 * Lua 5.4 never crashes, so nothing here may. LuaJIT does at some failures, whoever allocates: there each
 * run has a process of its own, and hakmem is held against malloc under the same failures
 * (lua_faults_luajit.c compiles this file for it). */
#include "check.h"
#include "include/hakmem_lua.h"

#include <lauxlib.h>
#include <lualib.h>

static const char *const corpus[] = {
    "local t = {} for i = 1, 200 do t[i] = { i, tostring(i) } end return #t",
    "local s = '' for i = 1, 100 do s = s .. i end return (s:gsub('%d', 'x'):rep(5))",
    "local t = {} for i = 1, 300 do t['k' .. i % 97] = i t[i] = nil end return next(t)",
    "local function f(n) if n > 0 then return 1 + f(n - 1) end return 0 end return f(150)",
    "local w = coroutine.wrap(function(...) for i = 1, 40 do coroutine.yield({ i, ... }) end end) "
    "for i = 1, 40 do w(i) end",
    "local c = {} for i = 1, 50 do local n = i c[i] = function() n = n + 1 return n end end "
    "for i = 1, 50 do c[i]() end return c[50]()",
    "local C = {} C.__index = C function C.new(x) return setmetatable({ x = x }, C) end "
    "C.__add = function(a, b) return C.new(a.x + b.x) end "
    "local s = C.new(0) for i = 1, 100 do s = s + C.new(i) end return s.x",
    "local ok = {} for i = 1, 20 do ok[i] = { pcall(error, { i }) } end return #ok",
    "local t = {} for w in ('a quick brown fox'):rep(10):gmatch('%a+') do t[#t + 1] = w:upper() "
    "end "
    "table.sort(t) return table.concat(t, ',')",
    "local load = loadstring or load local f = load('local a = ... return function(b) return a + b "
    "end') "
    "return f(1)(2)",
};
enum { PROGRAMS = sizeof corpus / sizeof *corpus };

struct faults {
  hak_arena *arena;         /* NULL: malloc */
  uint64_t seen, at, width; /* which fails, and how many */
  bool armed;
  size_t live;
};

static bool fails(struct faults *f) {
  f->seen++;
  return f->armed && f->seen >= f->at && f->seen - f->at < f->width;
}

/* Only what grows may fail. */
static void *faulty(void *ud, void *p, size_t osize, size_t nsize) {
  struct faults *f = ud;
  size_t had = p != NULL ? osize : 0;
  if (nsize > had && fails(f)) return NULL;
  void *q;
  if (f->arena != NULL)
    q = hak_lua_alloc(f->arena, p, osize, nsize);
  else if (nsize == 0)
    q = (free(p), NULL);
  else
    q = realloc(p, nsize);
  if (q != NULL || nsize == 0) f->live += nsize - had;
  return q;
}

static int open_all(lua_State *L) {
  luaL_openlibs(L);
  return 0;
}

static int run(lua_State *L) {
  const char *code = lua_touserdata(L, 1);
  if (luaL_loadstring(L, code) != 0) return lua_error(L);
  lua_call(L, 0, 0);
  return 0;
}

static int protected(lua_State *L, lua_CFunction f, const char *code) {
  int status;
#if LUA_VERSION_NUM >= 502
  lua_pushcfunction(L, f);
  lua_pushlightuserdata(L, (void *)(uintptr_t)code);
  status = lua_pcall(L, 1, 0, 0);
#else
  status = lua_cpcall(L, f, (void *)(uintptr_t)code);
#endif
  lua_settop(L, 0);
  return status;
}

enum outcome { FINISHED, FAILED, BROKEN, LEAKED, CRASHED, OUTCOMES };

/* A state's whole life, with failures in the program or, where `early`, from the start. */
static enum outcome live(struct faults *f, const char *code, bool early) {
  f->armed = early;
  lua_State *L = lua_newstate(faulty, f);
  if (L == NULL) return f->live == 0 ? FAILED : LEAKED;
  int status = protected(L, open_all, NULL);
  if (!early) {
    f->seen = 0;
    f->armed = true;
  }
  if (status == 0) status = protected(L, run, code);
  f->armed = false;
  bool usable =
      protected(L, run, "assert(true) local t = {} for i = 1, 9 do t[i] = { i } end") == 0;
  if (status != 0 && early) usable = true; /* perhaps it has no libraries */
  lua_close(L);
  if (f->live != 0) return LEAKED;
  return !usable ? BROKEN : status == 0 ? FINISHED : FAILED;
}

static const uint64_t widths[] = {1, 2, UINT64_MAX};

static enum outcome live_on(bool hakmem, const char *code, uint64_t at, uint64_t width,
                            bool early) {
  struct faults f = {.at = at, .width = width};
  if (hakmem) f.arena = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  enum outcome outcome = live(&f, code, early);
  if (f.arena != NULL) {
    if (outcome != LEAKED && stat_of(f.arena, "blocks") != 0) outcome = LEAKED;
    balanced(f.arena);
    CHECK_EQ(hak_arena_destroy(f.arena), 0);
  }
  return outcome;
}

static uint64_t allocations(const char *code, bool early) {
  struct faults f = {.at = UINT64_MAX, .arena = arena_of_kind(HAK_ARENA_PRIVATE, 0)};
  CHECK_EQ(live(&f, code, early), FINISHED);
  CHECK_EQ(hak_arena_destroy(f.arena), 0);
  return f.seen;
}

#if LUA_VERSION_NUM != 501

static void step(bool early) {
  size_t stride = rounds(1, 23);
  for (size_t p = 0; p < (early ? 1 : PROGRAMS); p++) {
    uint64_t all = allocations(corpus[p], early);
    for (int w = 0; w < 3; w++) {
      size_t failed = 0;
      for (uint64_t at = 1; at < all; at += stride) {
        enum outcome outcome = live_on(true, corpus[p], at, widths[w], early);
        if (outcome != FINISHED && outcome != FAILED)
          check_end(CHECK_FAILED, "program %zu, allocation %llu: outcome %d", p,
                    (unsigned long long)at, outcome);
        failed += outcome == FAILED;
      }
      if (widths[w] > 1) CHECK_CMP(failed, >, 0);
    }
  }
}

TEST(each_allocation_of_a_program_fails) { step(false); }
TEST(each_allocation_of_a_new_state_fails) { step(true); }

#else

/* In a process of its own: it may crash. */
static enum outcome live_apart(bool hakmem, const char *code, uint64_t at, uint64_t width) {
  pid_t child = fork();
  CHECK_CMP(child, >=, 0);
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    if (freopen("/dev/null", "w", stderr) == NULL) _exit(BROKEN);
    _exit(live_on(hakmem, code, at, width, false));
  }
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) < CRASHED ? (enum outcome)WEXITSTATUS(status)
                                                            : CRASHED;
}

static void compare(uint64_t width) {
  size_t stride = rounds(3, 41), count[2][OUTCOMES] = {{0}};
  for (size_t p = 0; p < PROGRAMS; p++) {
    uint64_t all = allocations(corpus[p], false);
    for (uint64_t at = 1; at < all; at += stride)
      for (int hakmem = 0; hakmem < 2; hakmem++)
        count[hakmem][live_apart(hakmem != 0, corpus[p], at, width)]++;
  }
  printf(
      "# malloc: %zu finished, %zu failed, %zu unusable, %zu leaked, %zu crashed; "
      "hakmem: %zu, %zu, %zu, %zu, %zu\n",
      count[0][FINISHED], count[0][FAILED], count[0][BROKEN], count[0][LEAKED], count[0][CRASHED],
      count[1][FINISHED], count[1][FAILED], count[1][BROKEN], count[1][LEAKED], count[1][CRASHED]);
  fflush(stdout);
  CHECK_CMP(count[1][FAILED], >, 0);
  /* whether LuaJIT survives depends on addresses, too: a few either way */
  for (int i = BROKEN; i <= CRASHED; i++) CHECK_CMP(count[1][i], <=, count[0][i] * 5 / 4 + 2);
}

TEST(one_failure_is_no_worse_than_with_malloc) { compare(1); }
TEST(failures_from_then_on_are_no_worse_than_with_malloc) { compare(UINT64_MAX); }

#endif
