/* copies.c - several copies of the library in one process share one state, in any order.
 * Why:   a preload, a library and a Lua module meet in one process; two states would mean blocks
 *        that one of them calls foreign.
 * How:   copies of libhakmem.so under other names, and the Lua modules, opened by dlopen(), or
 *        preloaded by starting this program again.
 * Start: open_copy(), agree(). */
#define _GNU_SOURCE  /* dladdr1 */
#define CHECK_BARE 1 /* nothing of hakmem is linked into this program */
#define CHECK_CHILD child
#include "check.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>

/* What the cases call, of one copy. */
struct copy {
  void *handle;
  void *(*malloc)(size_t), *(*realloc)(void *, size_t);
  void (*free)(void *), (*shutdown)(void);
  int (*owns)(const void *);
  size_t (*usable_size)(const void *), (*stats_read)(hak_arena *, uint64_t *, size_t);
  int (*stat_find)(const char *), (*knob_find)(const char *);
  uint64_t (*knob_value)(size_t);
  int (*configure)(const char *const *, const char *const *, size_t, char *, size_t);
  hak_arena *(*arena_create)(const hak_arena_config *), *(*arena_default)(void);
  hak_arena *(*arena_from_id)(hak_arena_id), *(*arena_of)(const void *);
  hak_arena_id (*arena_get_id)(hak_arena *);
  void *(*arena_alloc)(hak_arena *, size_t), (*arena_free)(hak_arena *, void *);
  void *(*lua_alloc)(void *, void *, size_t, size_t);
  int (*arena_destroy)(hak_arena *);
};

static char folder[64]; /* of the copies; removed when the case is over */
static char library[PATH_MAX];

static void find_library(void) { /* the built tree: $BUILD, or where this program lies */
  const char *build = getenv("BUILD");
  char here[PATH_MAX - 64] = "";
  if (build != NULL)
    snprintf(here, sizeof here, "%s/x", build);
  else
    CHECK_CMP(readlink("/proc/self/exe", here, sizeof here - 1), >, 0);
  for (char *slash; (slash = strrchr(here, '/')) != NULL;) {
    *slash = 0;
    snprintf(library, sizeof library, "%s/libhakmem.so.0", here);
    if (access(library, R_OK) == 0) return;
  }
  CHECK(!"libhakmem.so.0 above this program");
}

static void make_folder(void) {
  snprintf(folder, sizeof folder, "%s", "/tmp/hakmem-copies-XXXXXX");
  CHECK(mkdtemp(folder) != NULL);
}
static void remove_folder(void) {
  char path[128];
  for (char name = 'a'; name <= 'z'; name++) {
    snprintf(path, sizeof path, "%s/%c.so", folder, name);
    unlink(path);
  }
  rmdir(folder);
}

static const char *copy_file(char name) { /* <folder>/<name>.so, another inode each */
  static char path[128];
  snprintf(path, sizeof path, "%s/%c.so", folder, name);
  if (access(path, R_OK) == 0) return path;
  FILE *from = fopen(library, "rb"), *to = fopen(path, "wb");
  CHECK(from != NULL && to != NULL);
  static char buffer[65536];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, from)) > 0;)
    CHECK_EQ(fwrite(buffer, 1, n, to), n);
  CHECK_EQ(fclose(from) | fclose(to), 0);
  return path;
}

static void bind(void *field, void *handle, const char *name) {
  void *symbol = dlsym(handle, name);
  if (symbol == NULL) check_end(CHECK_FAILED, "no symbol %s", name);
  memcpy(field, &symbol, sizeof symbol);
}
static void bind_copy(struct copy *c) {
#define BIND(field) bind(&c->field, c->handle, "hak_" #field)
  BIND(malloc), BIND(realloc), BIND(free), BIND(shutdown), BIND(owns), BIND(usable_size);
  BIND(stats_read), BIND(stat_find), BIND(knob_find), BIND(knob_value), BIND(configure);
  BIND(arena_create), BIND(arena_default), BIND(arena_from_id), BIND(arena_of);
  BIND(arena_get_id), BIND(arena_alloc), BIND(arena_free), BIND(lua_alloc), BIND(arena_destroy);
#undef BIND
}
static struct copy open_file(const char *path, int flags) {
  struct copy c = {.handle = dlopen(path, flags)};
  if (c.handle == NULL) check_end(CHECK_FAILED, "%s", dlerror());
  bind_copy(&c);
  return c;
}
static struct copy open_copy(char name, int scope) {
  return open_file(copy_file(name), RTLD_NOW | scope);
}

static uint64_t stat_in(const struct copy *c, const char *name) {
  uint64_t v[256] = {0};
  CHECK_CMP(c->stats_read(NULL, v, 256), >, c->stat_find(name));
  return v[c->stat_find(name)];
}

/* So many blocks that slabs fill up, empty and go back, through the fast paths of a copy that did
 * not make the arena. */
static void fill_slabs(const struct copy *c, hak_arena *arena) {
  enum { BLOCKS = 5000 };
  static void *p[2][BLOCKS];
  for (int i = 0; i < BLOCKS; i++) {
    p[0][i] = c->lua_alloc(arena, NULL, 0, 56);
    p[1][i] = c->arena_alloc(arena, 64);
    CHECK(p[0][i] != NULL && p[1][i] != NULL);
  }
  for (int i = 0; i < BLOCKS; i++) {
    c->lua_alloc(arena, p[0][i], 56, 0);
    c->arena_free(arena, p[1][i]);
  }
}

/* Whatever one copy does, the other sees. */
static void agree(const struct copy *a, const struct copy *b) {
  static const size_t sizes[] = {1, 100, 5000, 40000, 1 * MIB, 9 * MIB};
  CHECK(a->malloc != b->malloc); /* two copies indeed */
  CHECK(a->arena_default() == b->arena_default());
  uint64_t blocks = stat_in(a, "blocks");
  for (size_t i = 0; i < HAK_COUNT_OF(sizes); i++) {
    char *p = a->malloc(sizes[i]);
    CHECK(p != NULL);
    fill(p, sizes[i], i);
    CHECK_EQ(stat_in(a, "blocks"), blocks + 1);
    CHECK_EQ(stat_in(b, "blocks"), blocks + 1);
    CHECK(b->owns(p) && b->arena_of(p) == a->arena_default());
    CHECK_EQ(a->usable_size(p), b->usable_size(p));
    char *q = b->realloc(p, sizes[i] * 2);
    CHECK(q != NULL && intact(q, sizes[i], i));
    a->free(q);
    b->free(a->malloc(sizes[i]));
    a->free(b->malloc(sizes[i]));
  }
  hak_arena_config config = {.kind = HAK_ARENA_PRIVATE, .name = "of a"};
  hak_arena *arena = a->arena_create(&config);
  CHECK(arena != NULL);
  CHECK(b->arena_from_id(a->arena_get_id(arena)) == arena);
  void *p = a->lua_alloc(arena, NULL, 0, 100), *q = b->arena_alloc(arena, 200);
  p = b->lua_alloc(arena, p, 100, 3000);
  CHECK(p != NULL && a->arena_of(q) == arena);
  a->lua_alloc(arena, p, 3000, 0);
  a->arena_free(arena, q);
  fill_slabs(b, arena);
  fill_slabs(a, arena);
  hak_arena_id id = b->arena_get_id(arena);
  CHECK_EQ(b->arena_destroy(arena), 0);
  CHECK(a->arena_from_id(id) == NULL);
  const char *name = "small.keep", *value = stat_in(a, "arena.created") % 2 ? "5" : "6";
  CHECK_EQ(a->configure(&name, &value, 1, NULL, 0), 0);
  CHECK_EQ(b->knob_value((size_t)b->knob_find(name)), (uint64_t)(value[0] - '0'));
  CHECK_EQ(stat_in(a, "blocks"), blocks);
  CHECK_EQ(stat_in(a, "mapped"), stat_in(b, "mapped"));
  CHECK_EQ(stat_in(a, "os.region"), stat_in(b, "os.region"));
}

static void set_up(void) {
  find_library();
  make_folder();
}

TEST(every_order_and_scope) {
  set_up();
  for (int variant = 0; variant < 16; variant++) {
    pid_t pid = fork(); /* a fresh process each */
    CHECK_CMP(pid, >=, 0);
    if (pid == 0) {
      struct copy a = open_copy('a', variant & 1 ? RTLD_GLOBAL : RTLD_LOCAL);
      void *p = variant & 4 ? a.malloc(1000) : NULL; /* before the other one comes, or after */
      if (p != NULL) fill(p, 1000, 1);
      struct copy b = open_copy('b', variant & 2 ? RTLD_GLOBAL : RTLD_LOCAL);
      if (variant & 8) b.free(b.malloc(10)); /* the later copy is used first */
      if (p != NULL) CHECK(b.owns(p) && intact(p, 1000, 1));
      b.free(p);
      agree(&a, &b);
      agree(&b, &a);
      _exit(0);
    }
    int status = -1;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    if (status != 0) check_end(CHECK_FAILED, "variant %d ended with status 0x%x", variant, status);
  }
  remove_folder();
}

TEST(many_copies) {
  set_up();
  struct copy c[6];
  for (char i = 0; i < 6; i++) {
    c[(int)i] = open_copy((char)('a' + i), RTLD_LOCAL);
    c[(int)i].free(c[(int)i].malloc(100));
  }
  for (int i = 0; i < 6; i++) agree(&c[i], &c[(i + 1) % 6]);
  remove_folder();
}

/* The fast paths of a copy that does not own the state work on the owner's heaps. */
static void churn_through(const struct copy *c, size_t n, hak_arena *arena, uint64_t seed) {
  enum { LIVE = 3000 };
  static char *lua[LIVE], *plain[LIVE], *common[LIVE];
  static size_t size[LIVE];
  memset(size, 0, sizeof size);
  for (size_t i = 0; i < rounds(200000, 30000); i++) {
    size_t k = below(&seed, LIVE), want = log_size(&seed, below(&seed, 50) ? 2000 : 100000);
    const struct copy *x = &c[below(&seed, n)];
    if (size[k] != 0) {
      CHECK(intact(lua[k], size[k], k) && intact(plain[k], size[k], k + 1));
      CHECK(intact(common[k], size[k], k + 2));
      x->lua_alloc(arena, lua[k], size[k], 0);
      c[below(&seed, n)].arena_free(arena, plain[k]);
      c[below(&seed, n)].free(common[k]);
    }
    lua[k] = x->lua_alloc(arena, NULL, 0, want);
    plain[k] = c[below(&seed, n)].arena_alloc(arena, want);
    common[k] = c[below(&seed, n)].malloc(want);
    CHECK(lua[k] != NULL && plain[k] != NULL && common[k] != NULL);
    fill(lua[k], want, k);
    fill(plain[k], want, k + 1);
    fill(common[k], want, k + 2);
    size[k] = want;
  }
  for (size_t k = 0; k < LIVE; k++) {
    if (size[k] == 0) continue;
    c[k % n].lua_alloc(arena, lua[k], size[k], 0);
    c[(k + 1) % n].arena_free(arena, plain[k]);
    c[(k + 2) % n].free(common[k]);
  }
}
TEST(fast_paths_of_every_copy) {
  set_up();
  for (int kind = 0; kind < 2; kind++) {
    struct copy c[3];
    for (char i = 0; i < 3; i++) c[(int)i] = open_copy((char)('a' + i), RTLD_LOCAL);
    hak_arena_config config = {.kind = kind};
    hak_arena *arena = c[kind].arena_create(&config);
    CHECK(arena != NULL);
    churn_through(c, 3, arena, 5);
    CHECK_EQ(stat_in(&c[0], "blocks"), 0);
    CHECK_EQ(stat_in(&c[2], "allocated"), 0);
    CHECK_EQ(c[1].arena_destroy(arena), 0);
    c[2].shutdown();
    CHECK_EQ(stat_in(&c[1], "active"), 0);
  }
  remove_folder();
}

TEST(a_copy_may_be_closed) {
  set_up();
  struct copy a = open_copy('a', RTLD_LOCAL), b = open_copy('b', RTLD_LOCAL);
  char *p = a.malloc(1000), *q = b.malloc(100000);
  fill(p, 1000, 1);
  fill(q, 100000, 2);
  dlclose(a.handle); /* the owner of the state */
  CHECK(b.owns(p) && intact(p, 1000, 1));
  b.free(p);
  struct copy c = open_copy('c', RTLD_LOCAL);
  CHECK(intact(q, 100000, 2));
  c.free(q);
  agree(&b, &c);
  dlclose(b.handle);
  c.free(c.malloc(50));
  remove_folder();
}

TEST(loading_in_a_loop_is_flat) {
  set_up();
  struct copy a = open_copy('a', RTLD_LOCAL);
  a.free(a.malloc(100));
  uint64_t region = stat_in(&a, "os.region"), mapped = 0;
  for (int i = 0; i < 200; i++) {
    struct copy b = open_copy((char)('b' + i % 4), RTLD_LOCAL);
    char *p = b.malloc(1000);
    CHECK(p != NULL && a.owns(p));
    a.free(p);
    if (i % 16 == 0) b.shutdown();
    dlclose(b.handle);
    if (i == 20) mapped = stat_in(&a, "mapped");
  }
  CHECK_EQ(stat_in(&a, "os.region"), region);
  CHECK_CMP(stat_in(&a, "mapped"), <=, mapped + 4 * MIB);
  remove_folder();
}

/* Threads whose heaps were made through one copy exit through another. */
static struct copy first, second;
static void *both(void *unused) {
  void *p[200];
  for (int i = 0; i < 200; i++) p[i] = (i & 1 ? first : second).malloc((size_t)i * 40);
  for (int i = 0; i < 200; i++) (i % 3 ? first : second).free(p[i]);
  return unused;
}
TEST(threads_use_several_copies) {
  set_up();
  first = open_copy('a', RTLD_LOCAL);
  second = open_copy('b', RTLD_LOCAL);
  for (int round = 0; round < 50; round++) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++) t[i] = start(both, NULL);
    for (int i = 0; i < 4; i++) finish(t[i]);
  }
  CHECK_EQ(stat_in(&first, "blocks"), 0);
  CHECK_CMP(stat_in(&second, "heaps.live"), <=, 2);
  remove_folder();
}

/* Copies that start at the same moment still end with one state. */
static pthread_barrier_t gate;
static void *start_copy(void *copy) {
  pthread_barrier_wait(&gate);
  struct copy *c = copy;
  return c->malloc(100);
}
TEST(copies_that_start_at_once) {
  set_up();
  for (int round = 0; round < 20; round++) {
    pid_t pid = fork();
    CHECK_CMP(pid, >=, 0);
    if (pid == 0) {
      struct copy c[4];
      pthread_t t[4];
      pthread_barrier_init(&gate, NULL, 4);
      for (char i = 0; i < 4; i++) c[(int)i] = open_copy((char)('a' + i), RTLD_LOCAL);
      for (int i = 0; i < 4; i++) t[i] = start(start_copy, &c[i]);
      for (int i = 0; i < 4; i++) c[(i + 1) % 4].free(finish(t[i]));
      agree(&c[0], &c[3]);
      _exit(0);
    }
    reap(pid);
  }
  remove_folder();
}

TEST(forks_keep_it) {
  set_up();
  struct copy a = open_copy('a', RTLD_LOCAL), b = open_copy('b', RTLD_LOCAL);
  void *p = a.malloc(100);
  pid_t pid = fork();
  CHECK_CMP(pid, >=, 0);
  if (pid == 0) {
    b.free(p);
    struct copy c = open_copy('c', RTLD_LOCAL);
    agree(&a, &c);
    agree(&c, &b);
    _exit(0);
  }
  reap(pid);
  b.free(p);
  remove_folder();
}

/* The Lua modules are copies too; what they need of Lua is not called here. */
TEST(lua_modules_are_copies) {
  set_up();
  static const char *const abis[] = {"5.1", "5.2", "5.3", "5.4"};
  struct copy a = open_copy('a', RTLD_LOCAL);
  int seen = 0;
  for (size_t i = 0; i < HAK_COUNT_OF(abis); i++) {
    char path[PATH_MAX + 64];
    int n = (int)(strrchr(library, '/') - library);
    snprintf(path, sizeof path, "%.*s/lua/%s/hakmem/core.so", n, library, abis[i]);
    if (access(path, R_OK) != 0) continue;
    struct copy b = open_file(path, RTLD_LAZY | RTLD_LOCAL);
    agree(&a, &b);
    agree(&b, &a);
    seen++;
  }
  remove_folder();
  if (seen == 0) SKIP("no Lua module was built");
}

/* Changes the ABI number in a copy: the first word of its table hak_core_v1. */
static void change_abi(const char *path) {
  struct copy c = open_file(path, RTLD_NOW | RTLD_LOCAL);
  const uint32_t *table = dlsym(c.handle, "hak_core_v1");
  CHECK(table != NULL && *table == HAK_ABI_VERSION);
  Dl_info info;
  struct link_map *map;
  CHECK(dladdr1(table, &info, (void **)&map, RTLD_DL_LINKMAP) != 0);
  size_t address = (uintptr_t)table - map->l_addr;
  FILE *f = fopen(path, "r+b");
  ElfW(Ehdr) head;
  CHECK(f != NULL && fread(&head, sizeof head, 1, f) == 1);
  for (size_t i = 0; i < head.e_phnum; i++) {
    ElfW(Phdr) h;
    CHECK_EQ(fseek(f, (long)(head.e_phoff + i * sizeof h), SEEK_SET), 0);
    CHECK_EQ(fread(&h, sizeof h, 1, f), 1);
    if (h.p_type != PT_LOAD || address - h.p_vaddr >= h.p_filesz) continue;
    uint32_t other = HAK_ABI_VERSION + 1;
    CHECK_EQ(fseek(f, (long)(h.p_offset + address - h.p_vaddr), SEEK_SET), 0);
    CHECK_EQ(fwrite(&other, sizeof other, 1, f), 1);
  }
  CHECK_EQ(fclose(f), 0);
}

TEST(another_abi_runs_apart_and_says_so) {
  set_up();
  char other[128];
  snprintf(other, sizeof other, "%s", copy_file('x'));
  pid_t pid = fork(); /* who looks into the file has loaded it */
  if (pid == 0) {
    change_abi(other);
    _exit(0);
  }
  reap(pid);
  int fd[2], old = dup(2);
  CHECK_EQ(pipe(fd), 0);
  dup2(fd[1], 2);
  close(fd[1]);
  struct copy x = open_file(other, RTLD_NOW | RTLD_LOCAL), a = open_copy('a', RTLD_LOCAL);
  void *p = a.malloc(100);
  dup2(old, 2);
  char said[512] = "";
  CHECK_CMP(read(fd[0], said, sizeof said - 1), >, 0);
  CHECK(strstr(said, "ABI") != NULL && strstr(said, "apart") != NULL);
  CHECK_EQ(strchr(said, '\n') - said, (ptrdiff_t)strlen(said) - 1); /* one line */
  struct copy b = open_copy('b', RTLD_LOCAL);
  dup2(open("/dev/null", O_WRONLY), 2);
  CHECK(b.owns(p)); /* those that fit together are together */
  b.free(p);
  agree(&a, &b);
  dlclose(x.handle);
  remove_folder();
}

/* ---- preloaded: the copy is there before main() ---------------------------------------------- */

static const char *beside_library(const char *name) {
  static char path[PATH_MAX + 64];
  snprintf(path, sizeof path, "%.*s/%s", (int)(strrchr(library, '/') - library), library, name);
  return path;
}

static int child(const char *what) {
  check_verdict =
      mmap(NULL, sizeof *check_verdict, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  find_library();
  snprintf(folder, sizeof folder, "%s", what);
  struct copy linked = {.handle = RTLD_DEFAULT};
  bind_copy(&linked);
  char *p = linked.malloc(1000);
  struct copy b = open_copy('b', RTLD_LOCAL), c = open_copy('c', RTLD_GLOBAL);
  b.free(p);
  c.free(c.malloc(1)); /* the loader now makes its thread-local storage: by malloc */
  agree(&linked, &b);
  agree(&b, &c);
  agree(&c, &linked);
  struct copy module = {.handle = dlopen(beside_library("lua/5.4/hakmem/core.so"), RTLD_LAZY)};
  if (module.handle != NULL) {
    bind_copy(&module);
    module.free(module.malloc(1));
    agree(&module, &linked);
    agree(&linked, &module);
  }
  if (strstr(getenv("LD_PRELOAD"), "libhakmem-preload") == NULL) return 0;
  p = opaque(malloc(100)); /* the drop-in malloc is one more door to the same state */
  CHECK(linked.owns(p) && c.owns(p) && c.arena_of(p) == linked.arena_default());
  b.free(p);
  free(opaque(c.malloc(70000)));
  return 0;
}

/* This program again, with these libraries in front. */
static void run_preloaded(const char *list) {
  pid_t pid = fork();
  CHECK_CMP(pid, >=, 0);
  if (pid == 0) {
    setenv("LD_PRELOAD", list, 1);
    setenv("HAKMEM_DRAIN_ENABLED", "0", 1); /* its start would allocate, too: blocks are counted */
    execl("/proc/self/exe", "copies", "child", folder, (char *)NULL);
    _exit(99);
  }
  int status = -1;
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  if (status != 0) {
    remove_folder();
    check_end(CHECK_FAILED, "with LD_PRELOAD=%s: status 0x%x", list, status);
  }
}

TEST(preloaded_in_every_order) {
  if (CHECK_SANITIZED) SKIP("a sanitizer's runtime wants to be preloaded first");
  set_up();
  char list[2 * PATH_MAX + 200];
  run_preloaded(copy_file('a'));
  const char *drop_in = beside_library("libhakmem-preload.so");
  run_preloaded(drop_in);
  snprintf(list, sizeof list, "%s %s", drop_in, copy_file('a'));
  run_preloaded(list);
  snprintf(list, sizeof list, "%s %s", copy_file('a'), drop_in);
  run_preloaded(list);
  remove_folder();
}

/* By dlopen() it replaces no malloc; it is a copy like others. */
TEST(the_drop_in_malloc_opened_late) {
  if (CHECK_SANITIZED) SKIP("a sanitizer has its own malloc");
  set_up();
  for (int early = 0; early < 2; early++) {
    pid_t pid = fork();
    CHECK_CMP(pid, >=, 0);
    if (pid == 0) {
      struct copy a, p;
      if (early == 0) a = open_copy('a', RTLD_LOCAL);
      p = open_file(beside_library("libhakmem-preload.so"), RTLD_NOW | RTLD_LOCAL);
      if (early == 1) a = open_copy('a', RTLD_LOCAL);
      void (*give)(void *), *(*get)(size_t);
      bind(&give, p.handle, "free");
      bind(&get, p.handle, "malloc");
      agree(&a, &p);
      agree(&p, &a);
      a.free(get(100));
      give(a.malloc(100));
      _exit(0);
    }
    reap(pid);
  }
  remove_folder();
}
