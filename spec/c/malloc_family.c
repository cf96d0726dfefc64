/* malloc_family.c - the malloc family on the default arena, and its twins on arenas.
 * Start: sizes_are_usable. */
#include "check.h"

enum { SPREAD = 4096 };

static size_t spread[SPREAD]; /* every small size, then the edges of all magnitudes */

static size_t spread_fill(size_t most) {
  size_t n = 0;
  for (size_t s = 0; s <= 2200; s++) spread[n++] = s;
  for (size_t base = 2048; base <= most; base += base / 8 > 64 * KIB ? 64 * KIB : base / 8) {
    CHECK_CMP(n + 3, <, SPREAD);
    spread[n++] = base - 1;
    spread[n++] = base;
    spread[n++] = base + 1;
  }
  return n;
}

TEST(sizes_are_usable) {
  size_t n = spread_fill(2 * MIB + 64 * KIB);
  for (size_t i = 0; i < n; i++) {
    size_t size = spread[i];
    char *p = hak_malloc(size);
    CHECK(p != NULL);
    CHECK_EQ((uintptr_t)p % 16, 0);
    size_t usable = hak_usable_size(p);
    CHECK_CMP(usable, >=, size);
    CHECK_CMP(usable, <=, size + size / 8 + 64 * KIB);
    if (size >= 128 && size <= 32 * KIB) CHECK_CMP(usable, <=, size + size / 8 + 16);
    CHECK(hak_owns(p));
    CHECK(hak_arena_of(p) == hak_arena_default());
    memset(p, (int)(i & 255), usable);
    CHECK_EQ((unsigned char)p[usable ? usable - 1 : 0], i & 255);
    hak_free(p);
  }
}

TEST(live_blocks_are_disjoint) {
  size_t n = spread_fill(256 * KIB);
  char **p = calloc(n, sizeof *p);
  for (int round = 0; round < 2; round++) {
    for (size_t i = 0; i < n; i++) {
      p[i] = hak_malloc(spread[i]);
      CHECK(p[i] != NULL);
      fill(p[i], hak_usable_size(p[i]), i + 1);
    }
    for (size_t i = 0; i < n; i++) CHECK(intact(p[i], hak_usable_size(p[i]), i + 1));
    for (size_t i = round; i < n; i += 2) hak_free(p[i]); /* half, then the other half */
    for (size_t i = !round; i < n; i += 2) {
      CHECK(intact(p[i], hak_usable_size(p[i]), i + 1));
      hak_free(p[i]);
    }
  }
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  CHECK_EQ(stat_of(NULL, "allocated"), 0);
  balanced(NULL);
  free(p);
}

TEST(beyond_two_mebibytes) {
  static const size_t sizes[] = {2 * MIB,     2 * MIB + 1, 3 * MIB,          4 * MIB - 1, 4 * MIB,
                                 4 * MIB + 1, 17 * MIB,    64 * MIB + 12345, 300 * MIB};
  for (size_t i = 0; i < HAK_COUNT_OF(sizes); i++) {
    char *p = hak_malloc(sizes[i]);
    CHECK(p != NULL);
    CHECK_EQ((uintptr_t)p % 16, 0);
    CHECK_CMP(hak_usable_size(p), >=, sizes[i]);
    fill(p, sizes[i], i);
    char *q = hak_malloc(sizes[i]); /* a neighbour of the same size */
    CHECK(q != NULL && (q >= p + sizes[i] || q + sizes[i] <= p));
    fill(q, sizes[i], i + 100);
    CHECK(intact(p, sizes[i], i));
    hak_free(p);
    CHECK(intact(q, sizes[i], i + 100));
    hak_free(q);
    balanced(NULL);
  }
  CHECK_EQ(stat_of(NULL, "large.blocks"), 0);
}

TEST(size_zero_is_unique) {
  void *p[64];
  for (int i = 0; i < 64; i++) {
    p[i] = i % 2 ? hak_malloc(0) : hak_calloc(i, 0);
    CHECK(p[i] != NULL);
    CHECK(hak_owns(p[i]));
    for (int j = 0; j < i; j++) CHECK(opaque(p[i]) != opaque(p[j]));
  }
  for (int i = 0; i < 64; i++) hak_free(p[i]);
  hak_free(NULL);
  CHECK_EQ(hak_usable_size(NULL), 0);
  CHECK(!hak_owns(NULL));
}

/* Pages given back by MADV_FREE keep what they hold until the kernel wants them. */
TEST(calloc_is_zero_after_lazy_purges) {
  char *p[16];
  CHECK_EQ(set_knob("purge.mode", "free"), 0);
  CHECK_EQ(set_knob("purge.decay", "0"), 0);
  for (int i = 0; i < 16; i++) { /* a chunk of them */
    p[i] = hak_malloc(256 * KIB);
    memset(p[i], 0xa5, 256 * KIB);
  }
  for (int i = 0; i < 16; i++) hak_free(p[i]);
  CHECK_EQ(set_knob("purge.decay", "1h"), 0);
  hak_free(hak_malloc(256 * KIB));
  hak_trim(); /* now the chunk goes back whole */
  char *q = hak_calloc(1, 4 * MIB);
  CHECK(q != NULL && all_zero(q, 4 * MIB));
  hak_free(q);
}

TEST(calloc_is_zero_after_reuse_and_purge) {
  CHECK_EQ(set_knob("purge.decay", "0"), 0);
  static const size_t sizes[] = {1,     16,     100,     1000,    4096,    30000,   40000,
                                 65536, 300000, 1048576, 2097152, 5000000, 20000000};
  for (size_t i = 0; i < HAK_COUNT_OF(sizes); i++) {
    for (int how = 0; how < 4; how++) {
      char *p = hak_malloc(sizes[i]);
      CHECK(p != NULL);
      memset(p, 0xa5, hak_usable_size(p));
      hak_free(p);
      if (how & 1) hak_trim();
      char *q = how & 2 ? hak_calloc(1, sizes[i]) : hak_calloc(sizes[i], 1);
      CHECK(q != NULL && all_zero(q, sizes[i]));
      memset(q, 0x5a, hak_usable_size(q));
      hak_free(q);
    }
  }
  /* many at once: fresh slabs, reused slabs and half-used slabs in turn */
  uint64_t seed = 7;
  char *live[512] = {0};
  size_t size[512] = {0};
  for (size_t i = 0; i < rounds(40000, 8000); i++) {
    size_t k = below(&seed, 512);
    if (live[k] != NULL) {
      memset(live[k], 0xff, size[k]);
      hak_free(live[k]);
    }
    size[k] = log_size(&seed, i % 64 ? 4096 : 200000);
    live[k] = hak_calloc(size[k], 1);
    CHECK(live[k] != NULL && all_zero(live[k], size[k]));
    memset(live[k], 0xff, size[k]);
    if (i % 5000 == 0) hak_trim();
  }
  for (int k = 0; k < 512; k++) hak_free(live[k]);
}

static void refuses(void *p) {
  CHECK(p == NULL);
  CHECK_EQ(errno, ENOMEM);
  errno = 0;
}

TEST(too_large_is_enomem) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  static const size_t huge[] = {
      (size_t)PTRDIFF_MAX + 1, SIZE_MAX,   SIZE_MAX - 1, SIZE_MAX - 15, SIZE_MAX - 64 * 1024,
      SIZE_MAX / 2 + 4096,     PTRDIFF_MAX};
  errno = 0;
  for (size_t i = 0; i < HAK_COUNT_OF(huge); i++) {
    volatile size_t n = huge[i];
    refuses(hak_malloc(n));
    refuses(hak_malloc_site(n, 1));
    refuses(hak_calloc(n, 1));
    refuses(hak_calloc(1, n));
    refuses(hak_aligned_alloc(64, n));
    refuses(hak_arena_alloc(a, n));
    refuses(hak_arena_calloc(a, 1, n));
    refuses(hak_arena_aligned_alloc(a, 4096, n));
    void *out = &a;
    CHECK_EQ(hak_posix_memalign(&out, 64, n), ENOMEM);
    CHECK(out == &a);
    errno = 0;
    for (size_t old = 8; old <= 8 * MIB; old *= 32) {
      char *p = hak_malloc(old), *q = hak_arena_alloc(a, old);
      fill(p, old, old);
      fill(q, old, old + 1);
      refuses(hak_realloc(p, n));
      refuses(hak_arena_realloc(a, q, n));
      CHECK(intact(p, old, old) && intact(q, old, old + 1));
      hak_free(p);
      hak_arena_free(a, q);
    }
  }
  static const size_t product[][2] = {{SIZE_MAX, 2},         {2, SIZE_MAX},
                                      {SIZE_MAX / 2 + 1, 2}, {(size_t)1 << 33, (size_t)1 << 33},
                                      {SIZE_MAX, SIZE_MAX},  {SIZE_MAX / 16 + 1, 16}};
  for (size_t i = 0; i < HAK_COUNT_OF(product); i++) {
    volatile size_t n = product[i][0], m = product[i][1];
    refuses(hak_calloc(n, m));
    refuses(hak_arena_calloc(a, n, m));
  }
  CHECK_EQ(stat_of(a, "blocks"), 0);
  balanced(NULL);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(realloc_keeps_contents) {
  static const size_t steps[] = {1,       24,      15,      16,      17,       100,      90,
                                 2000,    1000,    5000,    32768,   32769,    40000,    33000,
                                 65536,   65537,   200000,  100000,  1048576,  1048577,  2097152,
                                 2097153, 3000000, 6000000, 5999999, 30000000, 29000000, 9000000,
                                 100000,  32768,   500,     8,       70000000, 1};
  for (int decoy = 0; decoy < 2; decoy++) {
    size_t n = HAK_COUNT_OF(steps);
    char *p = NULL;
    size_t old = 0;
    for (size_t i = 0; i < 2 * n; i++) {
      size_t size = i < n ? steps[i] : steps[2 * n - 1 - i];
      void *block = decoy ? hak_malloc(size) : NULL; /* sits where p might want to grow */
      char *q = hak_realloc(p, size);
      CHECK(q != NULL);
      CHECK_EQ((uintptr_t)q % 16, 0);
      CHECK_CMP(hak_usable_size(q), >=, size);
      CHECK(intact_part(q, old < size ? old : size, old, i - 1));
      fill(q, size, i);
      p = q;
      old = size;
      hak_free(block);
    }
    hak_free(p);
    CHECK_EQ(stat_of(NULL, "blocks"), 0);
    balanced(NULL);
  }
}

TEST(realloc_walks_at_random) {
  enum { LIVE = 40 };
  char *p[LIVE] = {0};
  size_t size[LIVE] = {0};
  uint64_t seed = 11, tag[LIVE] = {0};
  for (size_t i = 0; i < rounds(30000, 4000); i++) {
    size_t k = below(&seed, LIVE), want = log_size(&seed, i % 16 ? 100000 : 12 * MIB);
    if (size[k] && below(&seed, 3) == 0) want = size[k] + below(&seed, 1 + size[k] / 4);
    char *q = hak_realloc(p[k], want);
    CHECK(q != NULL);
    size_t kept = want < size[k] ? want : size[k];
    CHECK(intact_part(q, kept, size[k], tag[k]));
    p[k] = q;
    size[k] = want;
    tag[k] = i;
    fill(q, want, i);
  }
  for (int k = 0; k < LIVE; k++) {
    CHECK(intact(p[k], size[k], tag[k]));
    hak_free(p[k]);
  }
  CHECK_EQ(stat_of(NULL, "allocated"), 0);
  balanced(NULL);
}

TEST(realloc_edges) {
  void *p = hak_realloc(NULL, 100);
  CHECK(p != NULL);
  p = hak_realloc(p, 0); /* a minimum block, not a free */
  CHECK(p != NULL && hak_owns(p));
  CHECK_EQ(stat_of(NULL, "blocks"), 1);
  p = hak_realloc(p, 3 * MIB);
  p = hak_realloc(p, 0);
  CHECK(p != NULL);
  CHECK_CMP(hak_usable_size(p), <=, 64);
  hak_free(p);
  p = hak_realloc(NULL, 0);
  CHECK(p != NULL);
  hak_free(p);
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  /* realloc stays in the arena that owns the block */
  hak_arena *a = arena_of_kind(HAK_ARENA_SHARED, 0);
  for (size_t size = 10; size < 40 * MIB; size *= 9) {
    char *q = hak_arena_alloc(a, size);
    q = hak_realloc(q, size * 3);
    CHECK(hak_arena_of(q) == a);
    q = hak_realloc(q, 5);
    CHECK(hak_arena_of(q) == a);
    hak_free(q);
  }
  CHECK_EQ(stat_of(a, "blocks"), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(shrinks_return_memory) {
  char *p = hak_malloc(64 * MIB);
  CHECK(p != NULL);
  uint64_t before = stat_of(NULL, "large.bytes");
  p = hak_realloc(p, MIB);
  CHECK_CMP(stat_of(NULL, "large.bytes"), <, before / 16);
  p = hak_realloc(p, 100);
  CHECK_EQ(stat_of(NULL, "large.bytes"), 0);
  hak_free(p);
}

TEST(aligned_blocks) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  static const size_t sizes[] = {0,    1,     8,     24,      100,     1000,   4096,
                                 5000, 32768, 70000, 1 * MIB, 3 * MIB, 9 * MIB};
  for (size_t align = 1; align <= 4 * MIB; align *= 2) {
    char *live[3 * HAK_COUNT_OF(sizes)];
    for (size_t i = 0; i < HAK_COUNT_OF(sizes); i++) {
      void *out = NULL;
      live[3 * i] = hak_aligned_alloc(align, sizes[i]);
      live[3 * i + 1] = hak_arena_aligned_alloc(a, align, sizes[i]);
      CHECK_EQ(hak_posix_memalign(&out, align < 8 ? 8 : align, sizes[i]), 0);
      live[3 * i + 2] = out;
      for (int j = 0; j < 3; j++) {
        char *p = live[3 * i + j];
        CHECK(p != NULL);
        CHECK_EQ((uintptr_t)p % align, 0);
        CHECK_CMP(hak_usable_size(p), >=, sizes[i]);
        fill(p, hak_usable_size(p), 3 * i + j);
      }
    }
    for (size_t i = 0; i < 3 * HAK_COUNT_OF(sizes); i++) {
      CHECK(intact(live[i], hak_usable_size(live[i]), i));
      if (i % 3 == 0) { /* an aligned block may be reallocated; alignment is not kept */
        size_t size = sizes[i / 3], whole = hak_usable_size(live[i]);
        live[i] = hak_realloc(live[i], size + 1000);
        CHECK(live[i] != NULL && intact_part(live[i], size, whole, i));
      }
      hak_free(live[i]);
    }
  }
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  balanced(NULL);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(alignment_errors) {
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  static const size_t bad[] = {0, 3, 6, 12, 24, 48, 100, 4095, 4097, SIZE_MAX, (size_t)PTRDIFF_MAX};
  for (size_t i = 0; i < HAK_COUNT_OF(bad); i++) {
    void *out = &a;
    errno = 0;
    CHECK(hak_aligned_alloc(bad[i], 100) == NULL);
    CHECK_EQ(errno, EINVAL);
    errno = 0;
    CHECK(hak_arena_aligned_alloc(a, bad[i], 100) == NULL);
    CHECK_EQ(errno, EINVAL);
    CHECK_EQ(hak_posix_memalign(&out, bad[i], 100), EINVAL);
    CHECK(out == &a);
  }
  for (size_t align = 1; align < sizeof(void *); align *= 2) { /* powers of two, yet too small */
    void *out = &a;
    CHECK_EQ(hak_posix_memalign(&out, align, 100), EINVAL);
    CHECK(out == &a);
  }
  /* a power of two that nobody can serve is lack of memory, not a bad argument */
  errno = 0;
  void *p = hak_aligned_alloc((size_t)1 << 62, 1);
  CHECK(p == NULL);
  CHECK_EQ(errno, ENOMEM);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(alignments_beyond_chunks) {
  void *p[12];
  for (int i = 0; i < 12; i++) {
    size_t align = (size_t)128 * KIB << i; /* to 256 MiB */
    p[i] = hak_aligned_alloc(align, 1000 + (size_t)i * MIB);
    CHECK(p[i] != NULL);
    CHECK_EQ((uintptr_t)p[i] % align, 0);
    fill(p[i], 1000 + (size_t)i * MIB, i);
  }
  for (int i = 0; i < 12; i++) {
    CHECK(intact(p[i], 1000 + (size_t)i * MIB, i));
    hak_free(p[i]);
  }
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  balanced(NULL);
}

/* When the first reservation is full, others follow: blocks of all kinds lie beyond it. */
TEST(many_regions) {
  CHECK_EQ(set_knob("os.region", "64M"), 0);
  enum { N = 700 };
  static char *p[N], *small[N * 8], *lua[N * 8];
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  uint64_t reserves = stat_of(NULL, "os.reserves");
  for (size_t i = 0; i < N; i++) {
    size_t size = i % 3 ? 900000 : 5 * MIB;
    p[i] = hak_malloc(size);
    CHECK(p[i] != NULL);
    p[i][0] = p[i][size - 1] = (char)i;
    for (size_t k = 8 * i; k < 8 * i + 8; k++) {
      fill(small[k] = hak_malloc(k % 9000), k % 9000, k);
      fill(lua[k] = hak_lua_alloc(a, NULL, 0, 1 + k % 9000), 1 + k % 9000, k);
    }
  }
  CHECK_CMP(stat_of(NULL, "os.reserves"), >, reserves + 4);
  for (size_t i = 0; i < N; i++) {
    size_t size = i % 3 ? 900000 : 5 * MIB;
    CHECK(p[i][0] == (char)i && p[i][size - 1] == (char)i);
    if (i % 2) p[i] = hak_realloc(p[i], size + 3 * MIB);
    CHECK(p[i] != NULL && p[i][size - 1] == (char)i);
    hak_free(p[i]);
  }
  for (size_t k = 0; k < N * 8; k++) {
    CHECK(intact(small[k], k % 9000, k) && intact(lua[k], 1 + k % 9000, k));
    CHECK(hak_arena_of(lua[k]) == a);
    hak_free(small[k]);
    hak_lua_alloc(a, lua[k], 1 + k % 9000, 0);
  }
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
  hak_trim();
  balanced(NULL);
}

TEST(small_reservations_do_not_cap_memory) {
  CHECK_EQ(set_knob("os.region", "64M"), 0);
  enum { N = 3000 }; /* 9 GiB of address space, nothing of it touched */
  static char *p[N];
  size_t n = rounds(N, 1500);
  for (size_t i = 0; i < n; i++) {
    p[i] = hak_malloc(3 * MIB);
    CHECK(p[i] != NULL);
  }
  for (size_t i = 0; i < n; i++) hak_free(p[i]);
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
}

TEST(usable_size_of_either_side) {
  /* bytes past the size asked for belong to the caller, also after a realloc inside the block */
  for (size_t size = 1; size < 300000; size = size * 5 / 4 + 1) {
    char *p = hak_malloc(size), *q = hak_malloc(size);
    size_t up = hak_usable_size(p), uq = hak_usable_size(q);
    CHECK_EQ(up, uq);
    memset(p, 1, up);
    memset(q, 2, uq);
    CHECK(p[0] == 1 && p[up - 1] == 1 && q[0] == 2 && q[uq - 1] == 2);
    char *r = hak_realloc(p, up);
    CHECK(opaque(r) == opaque(p)); /* it fits already */
    hak_free(r);
    hak_free(q);
  }
}

TEST(owns_never_aborts) {
  int local = 0;
  void *foreign = malloc(100);
  char *p = hak_malloc(100), *big = hak_malloc(MIB);
  CHECK(!hak_owns(&local) && !hak_owns(foreign) &&
        !hak_owns((void *)(uintptr_t)&owns_never_aborts));
  CHECK(!hak_owns((void *)(uintptr_t)8) && !hak_owns((void *)(uintptr_t)-16));
  CHECK(!hak_owns((void *)((uintptr_t)1 << 46)));
  CHECK(hak_owns(p) && hak_owns(p + 50) && hak_owns(big + MIB / 2));
  CHECK(hak_arena_of(&local) == NULL && hak_arena_of(NULL) == NULL);
  CHECK(hak_arena_of(foreign) == NULL);
  hak_free(p);
  hak_free(big);
  free(foreign);
}

TEST(errno_survives) {
  static const size_t sizes[] = {8, 3000, 40000, 900000, 9000000};
  for (size_t i = 0; i < HAK_COUNT_OF(sizes); i++) {
    errno = 77;
    void *p = hak_malloc(sizes[i]);
    CHECK_EQ(errno, 77);
    p = hak_realloc(p, sizes[i] * 2);
    CHECK_EQ(errno, 77);
    hak_free(p);
    CHECK_EQ(errno, 77);
    p = hak_calloc(1, sizes[i]);
    hak_free_sized(p, sizes[i]);
    CHECK_EQ(errno, 77);
  }
  hak_free(NULL);
  hak_trim();
  CHECK_EQ(errno, 77);
}

TEST(sized_frees) {
  size_t n = spread_fill(300000);
  hak_arena *a = arena_of_kind(HAK_ARENA_PRIVATE, 0);
  for (size_t i = 0; i < n; i++) {
    void *p = hak_malloc(spread[i]), *q = hak_arena_alloc(a, spread[i]);
    CHECK(p != NULL && q != NULL);
    hak_free_sized(p, spread[i]);
    hak_arena_free_sized(a, q, spread[i]);
  }
  hak_free_sized(NULL, 10);
  hak_arena_free_sized(a, NULL, 10);
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  CHECK_EQ(hak_arena_destroy(a), 0);
}

TEST(site_and_version) {
  void *p = hak_malloc_site(1000, 0x1234), *q = hak_malloc_site(5 * MIB, 0);
  CHECK(p != NULL && q != NULL);
  hak_free(p);
  hak_free(q);
  CHECK_STR(hak_version(), HAK_VERSION);
  CHECK_EQ(hak_abi_version(), HAK_ABI_VERSION);
  CHECK_STR(hak_errname(ENOMEM), "NOMEM");
  CHECK_STR(hak_errname(EBUSY), "BUSY");
  CHECK_STR(hak_strerror(EBUSY), "arena in use by a Lua state");
  CHECK(hak_strerror(-12345) != NULL && hak_errname(-12345) != NULL);
}

TEST(trim_and_shutdown_keep_live_blocks) {
  enum { N = 3000 };
  char *p[N];
  uint64_t seed = 3;
  size_t size[N];
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < N; i++) {
      size[i] = log_size(&seed, 100000);
      p[i] = hak_malloc(size[i]);
      CHECK(p[i] != NULL);
      fill(p[i], size[i], i);
    }
    for (int i = 0; i < N; i += 2) hak_free(p[i]);
    if (round == 0) hak_trim();
    if (round == 1) hak_shutdown(), hak_shutdown();
    for (int i = 1; i < N; i += 2) {
      CHECK(intact(p[i], size[i], i));
      hak_free(p[i]);
    }
    balanced(NULL);
  }
  hak_trim();
  CHECK_EQ(stat_of(NULL, "blocks"), 0);
  CHECK_EQ(stat_of(NULL, "cached"), 0);
  hak_shutdown();
  CHECK_EQ(stat_of(NULL, "active"), 0);
  void *again = hak_malloc(10);
  CHECK(again != NULL);
  hak_free(again);
}
