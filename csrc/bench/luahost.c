/* luahost.c - runs Lua programs on an allocator of choice and measures time and memory.
 * Why:   allocators are compared in one program that differs in nothing but the lua_Alloc.
 * Owns:  the allocators `malloc` and `bump`.
 * Not:   which runs are made, how often, and what they mean (csrc/bench/run).
 * Locks: none; one thread.
 * Start: main(), run_once().
 *
 * It is compiled twice, against Lua 5.4 and against LuaJIT. Allocators:
 *   malloc   realloc() and free() of the process, as luaL_newstate() of Lua 5.4 has them: glibc's,
 *            or those of a library named in LD_PRELOAD. jemalloc needs more static TLS than
 *            dlopen() has left, so the peers come in by preloading, all in the same way.
 *   own      luaL_newstate(): on LuaJIT the allocator it brings along
 *   bump     never frees; a block that grows is copied. No allocator can do less work.
 *   hakmem   hak_lua_alloc() on a private arena made for the state
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "include/hakmem_lua.h"

/* ---- allocators ----------------------------------------------------------------------------- */

static void *malloc_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
  (void)ud;
  (void)osize;
  if (nsize == 0) {
    free(ptr);
    return NULL;
  }
  return realloc(ptr, nsize);
}

#define BUMP_PIECE ((size_t)64 << 20)

static char *bump_next, *bump_end;

static bool bump_refill(size_t size) {
  size_t piece = size > BUMP_PIECE ? size : BUMP_PIECE;
  char *p =
      mmap(NULL, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return false;
  bump_next = p;
  bump_end = p + piece;
  return true;
}

static void *bump_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
  (void)ud;
  if (nsize == 0) return NULL;
  if (ptr != NULL && nsize <= osize) return ptr;
  nsize = (nsize + 7) & ~(size_t)7;
  if ((size_t)(bump_end - bump_next) < nsize && !bump_refill(nsize)) return NULL;
  char *p = bump_next;
  bump_next += nsize;
  return ptr != NULL ? memcpy(p, ptr, osize) : p;
}

enum allocator { ALLOC_MALLOC, ALLOC_OWN, ALLOC_BUMP, ALLOC_HAKMEM, ALLOC_COUNT };
static const char *const allocator_name[ALLOC_COUNT] = {"malloc", "own", "bump", "hakmem"};

struct vm {
  lua_State *L;
  hak_arena *arena; /* hakmem only */
};

static void die(const char *what) {
  fprintf(stderr, "luahost: %s\n", what);
  exit(1);
}

static hak_arena *new_arena(void) {
  hak_arena_config config = {.name = "bench", .kind = HAK_ARENA_PRIVATE};
  hak_arena *arena = hak_arena_create(&config);
  if (arena == NULL) die("cannot create an arena");
  return arena;
}

/* A state with its standard libraries; `arena` for hakmem, else NULL. */
static struct vm vm_open(enum allocator kind, hak_arena *arena) {
  struct vm vm = {NULL, arena};
  switch (kind) {
    case ALLOC_MALLOC: vm.L = lua_newstate(malloc_alloc, NULL); break;
    case ALLOC_OWN: vm.L = luaL_newstate(); break;
    case ALLOC_BUMP: vm.L = lua_newstate(bump_alloc, NULL); break;
    case ALLOC_HAKMEM: vm.L = lua_newstate(hak_lua_alloc, arena); break;
    case ALLOC_COUNT: break;
  }
  if (vm.L == NULL) die("cannot create a Lua state");
  luaL_openlibs(vm.L);
  return vm;
}

static struct vm vm_new(enum allocator kind) {
  return vm_open(kind, kind == ALLOC_HAKMEM ? new_arena() : NULL);
}

static void vm_close(struct vm vm) {
  lua_close(vm.L);
  if (vm.arena != NULL && hak_arena_destroy(vm.arena) != 0) die("cannot destroy an arena");
}

static void check(lua_State *L, int status) {
  if (status != 0) die(lua_tostring(L, -1));
}

/* ---- measures ------------------------------------------------------------------------------- */

static uint64_t wall_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t cpu_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The number, in KiB, behind `label` in a file of /proc/self. */
static long proc_kib(const char *path, const char *label) {
  char line[256];
  long kib = -1;
  FILE *f = fopen(path, "r");
  if (f == NULL) die("cannot read /proc/self");
  while (kib < 0 && fgets(line, sizeof line, f) != NULL) {
    if (strncmp(line, label, strlen(label)) == 0) kib = strtol(line + strlen(label), NULL, 10);
  }
  fclose(f);
  return kib;
}

/* smaps_rollup walks the page tables: exact, where statm lags behind by pages per processor. */
static long resident_kib(void) { return proc_kib("/proc/self/smaps_rollup", "Rss:"); }

/* ---- modes ---------------------------------------------------------------------------------- */

/* What is timed and counted: a state's whole life. callgrind collects inside this function only,
 * so it must keep its name and stay a function. */
__attribute__((noinline)) void bench_measured(enum allocator kind, const char *program,
                                              const char *size) {
  struct vm vm = vm_new(kind);
  check(vm.L, luaL_loadfile(vm.L, program));
  lua_pushstring(vm.L, size);
  check(vm.L, lua_pcall(vm.L, 1, 0, 0));
  vm_close(vm);
}

static void run_once(enum allocator kind, const char *program, const char *size) {
  uint64_t wall = wall_ns(), cpu = cpu_ns();
  bench_measured(kind, program, size);
  cpu = cpu_ns() - cpu;
  wall = wall_ns() - wall;
  printf("wall_ns %llu cpu_ns %llu peak_kib %ld\n", (unsigned long long)wall,
         (unsigned long long)cpu, proc_kib("/proc/self/status", "VmHWM:"));
}

static void states(enum allocator kind, long count) {
  struct vm *vms = calloc((size_t)count + 1, sizeof *vms);
  if (vms == NULL) die("not enough memory");
  memset(vms, 1, ((size_t)count + 1) * sizeof *vms);
  vms[count] = vm_new(kind); /* touches what all states share: code, the allocator's own tables */
  long before = resident_kib();
  uint64_t t = wall_ns();
  for (long i = 0; i < count; i++) vms[i] = vm_new(kind);
  t = wall_ns() - t;
  long after = resident_kib();
  long live = lua_gc(vms[0].L, LUA_GCCOUNT, 0) * 1024 + lua_gc(vms[0].L, LUA_GCCOUNTB, 0);
  printf("rss_kib_per_state %.2f live_kib_per_state %.2f create_ns %.0f\n",
         (double)(after - before) / (double)count, (double)live / 1024, (double)t / (double)count);
  for (long i = 0; i <= count; i++) vm_close(vms[i]);
  free(vms);
}

/* Fills a state with small tables and returns how long that took. */
static uint64_t fill(lua_State *L, const char *count) {
  static const char chunk[] =
      "local n, t = tonumber((...)), {} for i = 1, n do t[i] = { i } end keep = t";
  uint64_t t = wall_ns();
  check(L, luaL_loadstring(L, chunk));
  lua_pushstring(L, count);
  check(L, lua_pcall(L, 1, 0, 0));
  return wall_ns() - t;
}

/* Frees nothing: lua_close() still runs the finalizers and visits all objects, and what they hold goes
 * with the arena. */
static void *keep_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
  return nsize == 0 ? NULL : hak_lua_alloc(ud, ptr, osize, nsize);
}

/* A state that holds many small tables, ended in each way there is. A state whose arena is reset or
 * destroyed is never closed: it holds nothing outside its arena but its standard streams. */
static void teardown(enum allocator kind, const char *count) {
  struct vm vm = vm_new(kind);
  fill(vm.L, count);
  uint64_t t = wall_ns();
  lua_close(vm.L);
  printf("close_ns %llu", (unsigned long long)(wall_ns() - t));
  if (kind == ALLOC_HAKMEM) {
    if (hak_arena_destroy(vm.arena) != 0) die("cannot destroy an arena");
    vm = vm_new(kind);
    fill(vm.L, count);
    t = wall_ns();
    lua_setallocf(vm.L, keep_alloc, vm.arena);
    lua_close(vm.L);
    if (hak_arena_destroy(vm.arena) != 0) die("cannot destroy an arena");
    printf(" finalize_ns %llu", (unsigned long long)(wall_ns() - t));
    vm = vm_new(kind);
    uint64_t first = fill(vm.L, count);
    t = wall_ns();
    if (hak_arena_reset(vm.arena) != 0) die("cannot reset an arena");
    t = wall_ns() - t;
    vm = vm_open(kind, vm.arena); /* in the chunks that the first one left */
    uint64_t second = fill(vm.L, count);
    printf(" reset_ns %llu fill_ns %llu refill_ns %llu", (unsigned long long)t,
           (unsigned long long)first, (unsigned long long)second);
    t = wall_ns();
    if (hak_arena_destroy(vm.arena) != 0) die("cannot destroy an arena");
    printf(" destroy_ns %llu", (unsigned long long)(wall_ns() - t));
  }
  printf("\n");
}

/* ---- a state per request --------------------------------------------------------------------- */

/* What serves requests: loaded into every state, or once into the template. */
static const char app[] =
    "local routes, hits = {}, {}\n"
    "local function route(path, f) routes[path] = f end\n"
    "local function escape(s) return (s:gsub('[&<>]', { ['&'] = '&amp;', ['<'] = '&lt;' })) end\n"
    "for i = 1, 20 do route('/page/' .. i, function(q) return 'page ' .. i .. escape(q) end) end\n"
    "function handle(path, query)\n"
    "  hits[path] = (hits[path] or 0) + 1\n"
    "  local out = {}\n"
    "  for word in query:gmatch('[^&]+') do out[#out + 1] = escape(word) end\n"
    "  local f = routes[path]\n"
    "  return f and f(table.concat(out, ',')) or 'nothing', hits[path]\n"
    "end\n";

static void load_app(lua_State *L) {
  check(L, luaL_loadbuffer(L, app, sizeof app - 1, "=app"));
  check(L, lua_pcall(L, 0, 0, 0));
}

static void request(lua_State *L, long i) {
  lua_getglobal(L, "handle");
  lua_pushfstring(L, "/page/%d", (int)(i % 20 + 1));
  lua_pushliteral(L, "a=1&b=<two>&c=three");
  check(L, lua_pcall(L, 2, 2, 0));
  if (lua_tonumber(L, -1) != 1) die("a request met another one's state");
  lua_settop(L, 0);
}

/* LuaJIT: a state that is never closed must not leave machine code. */
static void forbid_compiler(lua_State *L) {
#if LUA_VERSION_NUM == 501
  extern int luaJIT_setmode(lua_State * L, int index, int mode);
  luaJIT_setmode(L, 0, 0);
#else
  (void)L;
#endif
}

static void request_in_fresh_state(struct vm vm, long i) {
  load_app(vm.L);
  request(vm.L, i);
}

static double per_request(uint64_t since, long count) {
  return (double)(wall_ns() - since) / (double)count;
}

static void requests(enum allocator kind, long count) {
  uint64_t t = wall_ns();
  for (long i = 0; i < count; i++) {
    struct vm vm = vm_new(kind);
    request_in_fresh_state(vm, i);
    vm_close(vm);
  }
  printf("fresh_ns %.0f", per_request(t, count));
  if (kind == ALLOC_HAKMEM) {
    hak_arena *arena = new_arena();
    t = wall_ns();
    for (long i = 0; i < count; i++) { /* never closed */
      struct vm vm = vm_open(kind, arena);
      forbid_compiler(vm.L);
      request_in_fresh_state(vm, i);
      if (hak_arena_reset(arena) != 0) die("cannot reset an arena");
    }
    printf(" reset_ns %.0f", per_request(t, count));
    struct vm vm = vm_open(kind, arena);
    forbid_compiler(vm.L);
    load_app(vm.L);
    if (hak_arena_snapshot(arena) != 0) die("cannot take a snapshot");
    t = wall_ns();
    for (long i = 0; i < count; i++) {
      request(vm.L, i);
      if (hak_arena_restore(arena) != 0) die("cannot restore an arena");
    }
    printf(" template_ns %.0f", per_request(t, count));
    hak_arena_destroy(arena);
  }
  printf("\n");
}

/* Some virtual machines take idle memory back and are slow to return it: whoever measures next
 * finds these pages warm in the kernel's free lists. */
static void touch(size_t mib) {
  size_t size = mib << 20;
  char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return;
  for (size_t i = 0; i < size; i += 4096) ((volatile char *)p)[i] = 1;
  munmap(p, size);
}

/* ---- command line --------------------------------------------------------------------------- */

static void usage(void) {
  fputs(
      "usage: luahost run ALLOCATOR PROGRAM.lua SIZE [TIMES]\n"
      "       luahost states ALLOCATOR COUNT       resident memory of COUNT idle states\n"
      "       luahost teardown ALLOCATOR TABLES    how long it takes to drop a full state\n"
      "       luahost requests ALLOCATOR COUNT     a state for each request\n"
      "       luahost touch MIB                    touches and returns memory\n"
      "ALLOCATOR: malloc (or what LD_PRELOAD names), own, bump, hakmem\n",
      stderr);
  exit(2);
}

static enum allocator allocator_of(const char *name) {
  for (int i = 0; i < ALLOC_COUNT; i++) {
    if (strcmp(name, allocator_name[i]) == 0) return (enum allocator)i;
  }
  usage();
  return ALLOC_COUNT;
}

static long number_of(const char *text) {
  char *end;
  long n = strtol(text, &end, 10);
  if (end == text || *end != '\0' || n < 1 || n > 100000000) usage();
  return n;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *mode = argc > 1 ? argv[1] : "";
  if (strcmp(mode, "run") == 0 && (argc == 5 || argc == 6)) {
    enum allocator kind = allocator_of(argv[2]);
    long times = argc == 6 ? number_of(argv[5]) : 1;
    for (long i = 0; i < times; i++) run_once(kind, argv[3], argv[4]);
  } else if (strcmp(mode, "states") == 0 && argc == 4) {
    states(allocator_of(argv[2]), number_of(argv[3]));
  } else if (strcmp(mode, "teardown") == 0 && argc == 4) {
    number_of(argv[3]);
    teardown(allocator_of(argv[2]), argv[3]);
  } else if (strcmp(mode, "requests") == 0 && argc == 4) {
    requests(allocator_of(argv[2]), number_of(argv[3]));
  } else if (strcmp(mode, "touch") == 0 && argc == 3) {
    touch((size_t)number_of(argv[2]));
  } else {
    usage();
  }
  return 0;
}
