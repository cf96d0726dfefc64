/* lua_alloc.c - hak_lua_alloc() as a VM uses it: exact sizes, shrinks that never fail, blocks that
 * are freed with a smaller size than they were made with.
 * Start: struct vm, vm_run(). */
#include "check.h"
#if HAK_FAULT
#include "os/os.h"
#endif

/* A VM as the allocator sees it: live blocks with the sizes it believes in. */
enum { SLOTS = 3000 };
struct vm {
  void *ud;
  char *p[SLOTS];
  size_t size[SLOTS];
  uint64_t tag[SLOTS];
  uint64_t seed, ops, refusals;
  size_t live_bytes;
};

static size_t vm_size(struct vm *vm) { /* what Lua asks for, mostly */
  switch (below(&vm->seed, 16)) {
    case 0: return 16 << below(&vm->seed, 12);  /* table arrays, hash parts */
    case 1: return 24 + below(&vm->seed, 4000); /* long strings */
    case 2:
      return below(&vm->seed, 100) ? 1 + below(&vm->seed, 300) : 1 + below(&vm->seed, 3 * MIB);
    case 3: return 1 + below(&vm->seed, 64);
    case 4:
    case 5:
    case 6: return 56; /* tables */
    case 7:
    case 8: return 40;                         /* closures, upvalues */
    default: return 25 + below(&vm->seed, 60); /* short strings */
  }
}

static void vm_check(const struct vm *vm, size_t k) {
  CHECK(intact(vm->p[k], vm->size[k], vm->tag[k]));
}

static void vm_resize(struct vm *vm, size_t k, size_t size) {
  size_t old = vm->size[k], kept = old < size ? old : size;
  char *p = vm->p[k];
  size_t osize = p == NULL ? below(&vm->seed, 9) : old; /* a type tag when there is no block */
  char *q = hak_lua_alloc(vm->ud, p, osize, size);
  vm->ops++;
  if (size == 0) {
    CHECK(q == NULL);
    vm->live_bytes -= p == NULL ? 0 : old;
    vm->p[k] = NULL;
    vm->size[k] = 0;
    return;
  }
  if (q == NULL) {
    CHECK(p == NULL || size > old); /* a shrink never fails */
    if (p != NULL) vm_check(vm, k); /* and a failure changes nothing */
    vm->refusals++;
    return;
  }
  CHECK_EQ((uintptr_t)q % 8, 0);
  if (p != NULL) CHECK(intact_part(q, kept, old, vm->tag[k]));
  vm->live_bytes += size - (p == NULL ? 0 : old);
  vm->p[k] = q;
  vm->size[k] = size;
  vm->tag[k] = vm->ops;
  fill(q, size, vm->ops);
}

static void vm_run(struct vm *vm, size_t ops) {
  for (size_t i = 0; i < ops; i++) {
    size_t k = below(&vm->seed, SLOTS), old = vm->size[k];
    if (vm->p[k] == NULL) {
      vm_resize(vm, k, vm_size(vm));
      continue;
    }
    vm_check(vm, k);
    switch (below(&vm->seed, 8)) {
      case 0: vm_resize(vm, k, old * 2 < 6 * MIB ? old * 2 : 10); break;
      case 1: vm_resize(vm, k, old / 2 + 1); break; /* shrinks, later freed with the small size */
      case 2: vm_resize(vm, k, 1 + below(&vm->seed, old)); break;
      case 3: vm_resize(vm, k, vm_size(vm)); break;
      default: vm_resize(vm, k, 0);
    }
  }
}

static void vm_close(struct vm *vm) {
  for (size_t k = 0; k < SLOTS; k++) {
    if (vm->p[k] == NULL) continue;
    vm_check(vm, k);
    vm_resize(vm, k, 0);
  }
  CHECK_EQ(vm->live_bytes, 0);
}

static struct vm *vm_new(void *ud, uint64_t seed) {
  struct vm *vm = calloc(1, sizeof *vm);
  vm->ud = ud;
  vm->seed = seed;
  return vm;
}

static size_t vm_blocks(const struct vm *vm) {
  size_t n = 0;
  for (size_t k = 0; k < SLOTS; k++) n += vm->p[k] != NULL;
  return n;
}

static void life_on(hak_arena *a, uint64_t seed) {
  struct vm *vm = vm_new(a, seed);
  for (int phase = 0; phase < 6; phase++) {
    vm_run(vm, rounds(40000, 6000));
    CHECK_EQ(stat_of(a, "blocks"), vm_blocks(vm));
    CHECK_CMP(stat_of(a, "allocated"), >=, vm->live_bytes);
    balanced(a);
    balanced(NULL);
    if (phase == 3) hak_arena_trim(a);
  }
  CHECK_EQ(vm->refusals, 0);
  vm_close(vm);
  CHECK_EQ(stat_of(a, "blocks"), 0);
  CHECK_EQ(stat_of(a, "allocated"), 0);
  balanced(a);
  free(vm);
}

TEST(vm_on_a_private_arena) {
  for (uint64_t seed = 1; seed <= 3; seed++) {
    hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
    life_on(a, seed);
    life_on(a, seed + 10); /* a second life in the same arena */
    CHECK_EQ(hak_arena_reset(a), 0);
    life_on(a, seed + 20);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

TEST(vm_on_a_shared_arena) {
  hak_arena *a = arena_of_kind(HAK_ARENA_SHARED, 0);
  life_on(a, 4);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(vm_on_the_default_arena) {
  struct vm *vm = vm_new(hak_arena_default(), 5);
  vm_run(vm, rounds(100000, 20000));
  CHECK_EQ(stat_of(hak_arena_default(), "blocks"), vm_blocks(vm));
  vm_close(vm);
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  free(vm);
}

TEST(nothing_in_nothing_out) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  CHECK(hak_lua_alloc(a, NULL, 0, 0) == NULL);
  CHECK(hak_lua_alloc(a, NULL, 5, 0) == NULL); /* osize is a type tag here */
  CHECK(hak_lua_alloc(hak_arena_default(), NULL, 0, 0) == NULL);
  CHECK(hak_lua_alloc(a, NULL, 0, (size_t)PTRDIFF_MAX + 1) == NULL);
  CHECK(hak_lua_alloc(a, NULL, 0, SIZE_MAX) == NULL);
  char *p = hak_lua_alloc(a, NULL, 0, 100);
  fill(p, 100, 1);
  CHECK(hak_lua_alloc(a, p, 100, SIZE_MAX - 8) == NULL);
  CHECK(intact(p, 100, 1));
  hak_lua_alloc(a, p, 100, 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(dead_arenas_give_nothing) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
  errno = 0;
  CHECK(hak_lua_alloc(a, NULL, 0, 100) == NULL);
  CHECK_EQ(errno, EINVAL);
}

TEST(classes_are_eight_bytes_apart) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  const char *name = "arena.nursery", *value = "0";
  CHECK_EQ(hak_arena_configure(a, &name, &value, 1, NULL, 0), 0);
  for (size_t size = 1; size <= 128; size++) {
    void *p[50];
    uint64_t before = stat_of(a, "allocated");
    for (int i = 0; i < 50; i++) {
      p[i] = hak_lua_alloc(a, NULL, 0, size);
      CHECK(p[i] != NULL && (uintptr_t)p[i] % 8 == 0);
    }
    CHECK_EQ(stat_of(a, "allocated") - before, 50 * ((size + 7) & ~(size_t)7));
    for (int i = 0; i < 50; i++) hak_lua_alloc(a, p[i], size, 0);
  }
  for (size_t size = 129; size <= 32 * KIB; size += 1 + size / 16) { /* at most 12.5 % waste */
    uint64_t before = stat_of(a, "allocated");
    void *p = hak_lua_alloc(a, NULL, 0, size);
    CHECK_CMP(stat_of(a, "allocated") - before, <=, size + size / 8 + 8);
    hak_lua_alloc(a, p, size, 0);
  }
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(young_arenas_are_small) {
  enum { N = 1000 };
  static hak_arena *a[N];
  static void *p[N][40];
  uint64_t before = stat_of(NULL, "charged");
  for (int i = 0; i < N; i++) {
    a[i] = arena_of_kind(HAK_ARENA_PRIVATE, 0);
    for (int k = 0; k < 40; k++) { /* forty sizes, 20 KiB together: a fresh state */
      p[i][k] = hak_lua_alloc(a[i], NULL, 0, 24 + 25 * (size_t)k);
      CHECK(p[i][k] != NULL);
      fill(p[i][k], 24 + 25 * (size_t)k, (uint64_t)i * 40 + k);
    }
    balanced(a[i]);
  }
  size_t each = (stat_of(NULL, "charged") - before) / N;
  CHECK_CMP(each, <=, 28 * KIB);
  for (int i = 0; i < N; i++) {
    CHECK_EQ(stat_of(a[i], "blocks"), 40);
    for (int k = 0; k < 40; k++) {
      CHECK(intact(p[i][k], 24 + 25 * (size_t)k, (uint64_t)i * 40 + k));
      if (i % 2) hak_lua_alloc(a[i], p[i][k], 24 + 25 * (size_t)k, 0);
    }
    CHECK_EQ(hak_arena_destroy(a[i]), 0);
  }
  CHECK_EQ(stat_of(NULL, "nursery.bytes"), 0);
  balanced(NULL);
}

/* Growth from the first byte past every border: nursery, slabs, large blocks, and back. */
TEST(one_block_through_all_layers) {
  for (int kind = 0; kind < 2; kind++) {
    hak_arena *a = arena_of_kind(kind, 0);
    struct vm *vm = vm_new(a, 6);
    for (size_t size = 1; size < 20 * MIB; size += 1 + size / 8) {
      vm_resize(vm, 0, size);
      vm_resize(vm, 1, size); /* a neighbour that is in the way */
      if (size % 3 == 0) vm_resize(vm, 1, 0);
      CHECK(vm->size[0] == size);
    }
    while (vm->size[0] > 1) {
      vm_resize(vm, 0, vm->size[0] - vm->size[0] / 3 - (vm->size[0] < 3));
      vm_check(vm, 0);
    }
    vm_close(vm);
    CHECK_EQ(stat_of(a, "allocated"), 0);
    balanced(a);
    CHECK_EQ(hak_arena_destroy(a), 0);
    free(vm);
  }
}

/* The same arena used through both doors; each door frees its own. */
TEST(mixed_with_arena_calls) {
  enum { N = 500 };
  for (int kind = 0; kind < 2; kind++) {
    hak_arena *a = arena_of_kind(kind, 0);
    struct vm *vm = vm_new(a, 7);
    char *p[N] = {0};
    size_t size[N] = {0};
    uint64_t seed = 8;
    for (size_t i = 0; i < rounds(20000, 4000); i++) {
      vm_run(vm, 4);
      size_t k = below(&seed, N);
      if (p[k] != NULL) {
        CHECK(intact(p[k], size[k], k));
        hak_arena_free(a, p[k]);
      }
      size[k] = log_size(&seed, 50000);
      p[k] = hak_arena_alloc(a, size[k]);
      CHECK(p[k] != NULL);
      CHECK_EQ((uintptr_t)p[k] % 16, 0);
      CHECK_CMP(hak_usable_size(p[k]), >=, size[k]);
      fill(p[k], size[k], k);
    }
    vm_close(vm);
    for (int k = 0; k < N; k++) {
      CHECK(p[k] == NULL || intact(p[k], size[k], k));
      hak_arena_free(a, p[k]);
    }
    CHECK_EQ(stat_of(a, "blocks"), 0);
    CHECK_EQ(hak_arena_destroy(a), 0);
    free(vm);
  }
}

TEST(shrinks_succeed_at_the_limit) {
  for (int kind = 0; kind < 2; kind++) {
    for (size_t hard = 256 * KIB; hard <= 4 * MIB; hard *= 4) {
      hak_arena *a = arena_of_kind(kind, hard);
      struct vm *vm = vm_new(a, hard);
      for (int phase = 0; phase < 4; phase++) {
        vm_run(vm, rounds(20000, 5000)); /* vm_resize() insists that shrinks succeed */
        for (size_t k = 0; k < SLOTS; k += 3)
          if (vm->size[k] > 1) vm_resize(vm, k, vm->size[k] / 2);
        CHECK_CMP(stat_of(a, "charged"), <=, hard);
        CHECK_CMP(stat_of(a, "peak"), <=, hard);
        CHECK_EQ(hak_arena_set_limit(a, 0, 1 + hard / 8), 0); /* far below the charge */
        for (size_t k = 1; k < SLOTS; k += 3)
          if (vm->size[k] > 1) vm_resize(vm, k, 1 + vm->size[k] / 3);
        CHECK_EQ(hak_arena_set_limit(a, 0, hard), 0);
      }
      CHECK_CMP(vm->refusals, >, 0);
      CHECK_CMP(stat_of(a, "refusals"), >, 0);
      CHECK_EQ(stat_of(a, "blocks"), vm_blocks(vm));
      balanced(a);
      vm_close(vm);
      CHECK_EQ(stat_of(a, "blocks"), 0);
      vm_resize(vm, 0, 1000); /* the arena is usable again */
      CHECK(vm->p[0] != NULL);
      CHECK_EQ(hak_arena_destroy(a), 0);
      free(vm);
    }
  }
}

/* A limit of n bytes holds nearly n bytes of blocks of one size. */
TEST(limits_leave_room) {
  static const size_t sizes[] = {16, 56, 200, 1000, 10000, 100000};
  for (size_t s = 0; s < HAK_COUNT_OF(sizes); s++) {
    hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 8 * MIB);
    size_t n = 0;
    while (n * sizes[s] < 64 * MIB && hak_lua_alloc(a, NULL, 0, sizes[s]) != NULL) n++;
    CHECK_CMP(n * sizes[s], >=, 5 * MIB);
    CHECK_CMP(n * sizes[s], <=, 8 * MIB);
    CHECK_EQ(hak_arena_destroy(a), 0);
  }
}

#if HAK_FAULT
TEST(shrinks_succeed_without_memory) {
  for (int kind = 0; kind < 2; kind++) {
    hak_arena *a = arena_of_kind(kind, 0);
    struct vm *vm = vm_new(a, 9);
    for (int phase = 0; phase < 10; phase++) {
      vm_run(vm, 4000);
      haki_fault_arm(HAK_FAULT_ALL, 1, true);
      for (size_t k = 0; k < SLOTS; k++)
        if (vm->size[k] > 1) vm_resize(vm, k, 1 + below(&vm->seed, vm->size[k]));
      vm_run(vm, 2000);
      haki_fault_disarm();
    }
    vm_close(vm);
    CHECK_EQ(stat_of(a, "blocks"), 0);
    CHECK_EQ(hak_arena_destroy(a), 0);
    free(vm);
  }
}
#endif

/* Blocks of one shared arena, resized by whichever thread holds them. */
static void *relay(void *vm) {
  vm_run(vm, rounds(20000, 3000));
  return NULL;
}

TEST(state_moves_between_threads) {
  for (int kind = 0; kind < 2; kind++) {
    hak_arena *a = arena_of_kind(kind, 0);
    struct vm *vm = vm_new(a, 12);
    for (int hop = 0; hop < 8; hop++) finish(start(relay, vm)); /* joined: a happens-before edge */
    if (kind == HAK_ARENA_PRIVATE) CHECK_EQ(hak_arena_handover(a), 0); /* exact figures */
    CHECK_EQ(stat_of(a, "blocks"), vm_blocks(vm));
    vm_close(vm);
    CHECK_EQ(stat_of(a, "blocks"), 0);
    CHECK_EQ(hak_arena_destroy(a), 0);
    free(vm);
  }
}
