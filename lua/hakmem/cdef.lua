-- Generated from csrc/include/hakmem.h by csrc/tools/cdef.lua. Do not edit.
-- luacheck: ignore 631
return {
  version = "0.1.0",
  abi = 1,
  -- For ffi.cdef().
  source = [=[
void *hak_malloc(size_t size);
void *hak_malloc_site(size_t size, uintptr_t site);
void *hak_calloc(size_t count, size_t size);
void *hak_realloc(void *ptr, size_t size);
void hak_free(void *ptr);
void hak_free_sized(void *ptr, size_t size);
void *hak_aligned_alloc(size_t align, size_t size);
int hak_posix_memalign(void **out, size_t align, size_t size);
size_t hak_usable_size(const void *ptr);
int hak_owns(const void *ptr);
size_t hak_trim(void);
void hak_shutdown(void);
const char *hak_version(void);
uint32_t hak_abi_version(void);
typedef struct hak_arena hak_arena;
typedef uint64_t hak_arena_id;
enum hak_arena_kind { HAK_ARENA_SHARED = 0, HAK_ARENA_PRIVATE = 1 };
typedef struct hak_arena_config { const char *name; int kind; size_t soft; size_t hard; void (*on_soft)(hak_arena *arena, size_t charged, void *ud); void *ud; size_t l25_initial_shards, l25_max_shards; size_t bigcache_initial_buckets, bigcache_max_buckets, bigcache_max_bytes; uintptr_t reserved[11]; } hak_arena_config;
hak_arena *hak_arena_create(const hak_arena_config *config);
void *hak_arena_alloc(hak_arena *arena, size_t size);
void *hak_arena_calloc(hak_arena *arena, size_t count, size_t size);
void *hak_arena_calloc_site(hak_arena *arena, size_t count, size_t size, uintptr_t site);
void *hak_arena_realloc(hak_arena *arena, void *ptr, size_t size);
void *hak_arena_aligned_alloc(hak_arena *arena, size_t align, size_t size);
void hak_arena_free(hak_arena *arena, void *ptr);
void hak_arena_free_sized(hak_arena *arena, void *ptr, size_t size);
int hak_arena_set_limit(hak_arena *arena, size_t soft, size_t hard);
void hak_arena_limit(hak_arena *arena, size_t *soft, size_t *hard);
int hak_arena_reset(hak_arena *arena);
int hak_arena_snapshot(hak_arena *arena);
int hak_arena_restore(hak_arena *arena);
int hak_arena_trim(hak_arena *arena);
int hak_arena_destroy(hak_arena *arena);
int hak_arena_handover(hak_arena *arena);
int hak_arena_pin(hak_arena *arena);
int hak_arena_unpin(hak_arena *arena);
hak_arena_id hak_arena_get_id(hak_arena *arena);
hak_arena *hak_arena_from_id(hak_arena_id id);
hak_arena *hak_arena_default(void);
const char *hak_arena_name(hak_arena *arena);
int hak_arena_kind_of(hak_arena *arena);
uint64_t hak_arena_refusals(hak_arena *arena);
hak_arena *hak_arena_of(const void *ptr);
int hak_arena_walk(int (*visit)(hak_arena *arena, void *ud), void *ud);
void *hak_lua_alloc(void *arena, void *ptr, size_t osize, size_t nsize);
typedef struct hak_lua_binding { void *L; const void *id; int collects; int passes; void (*pace)(struct hak_lua_binding *binding, int percent); void (*raise)(struct hak_lua_binding *binding, int error); int saved[8]; void (*hook)(void); void *(*former)(void *ud, void *ptr, size_t osize, size_t nsize); void *former_ud; const void *last; size_t last_size; void (*ended)(void *ud); void *ended_ud; } hak_lua_binding;
int hak_lua_bind(hak_arena *arena, const hak_lua_binding *binding);
hak_lua_binding *hak_lua_bound(hak_arena *arena);
void hak_lua_note_foreign(hak_arena *arena, size_t bytes);
int hak_lua_unbind(hak_arena *arena);
int hak_arena_is_live(const void *ud);
int hak_configure(const char *const *names, const char *const *values, size_t n, char *err, size_t err_size);
int hak_arena_configure(hak_arena *arena, const char *const *names, const char *const *values, size_t n, char *err, size_t err_size);
typedef struct hak_knob_info { const char *name; const char *type; const char *env; const char *words; uint64_t def, min, max; int live; int per_arena; const char *unit; const char *help; } hak_knob_info;
size_t hak_knob_count(void);
const hak_knob_info *hak_knob_info_at(size_t index);
int hak_knob_find(const char *name);
uint64_t hak_knob_value(size_t index);
typedef struct hak_stat_info { const char *name; const char *kind; const char *unit; int process; int per_arena; const char *help; } hak_stat_info;
size_t hak_stat_count(void);
const hak_stat_info *hak_stat_info_at(size_t index);
int hak_stat_find(const char *name);
size_t hak_stats_read(hak_arena *arena, uint64_t *values, size_t n);
typedef struct hak_class_stat { size_t size; size_t blocks; size_t slabs; size_t active; } hak_class_stat;
void hak_class_stats(hak_arena *arena, void (*visit)(const hak_class_stat *, void *), void *ud);
typedef struct hak_l25_class_stat { size_t size; size_t blocks; size_t cached; uint64_t ops; } hak_l25_class_stat;
void hak_l25_class_stats(hak_arena *arena, void (*visit)(const hak_l25_class_stat *, void *), void *ud);
int hak_report(const char *format, void (*write)(const char *text, size_t size, void *ud), void *ud);
void hak_log_set_sink(void (*sink)(int level, const char *line, void *ud), void *ud);
const char *hak_strerror(int error);
const char *hak_errname(int error);
]=],
  -- The type of a pointer to each function.
  pointers = {
    hak_abi_version = "uint32_t (*)(void)",
    hak_aligned_alloc = "void *(*)(size_t align, size_t size)",
    hak_arena_aligned_alloc = "void *(*)(hak_arena *arena, size_t align, size_t size)",
    hak_arena_alloc = "void *(*)(hak_arena *arena, size_t size)",
    hak_arena_calloc = "void *(*)(hak_arena *arena, size_t count, size_t size)",
    hak_arena_calloc_site = "void *(*)(hak_arena *arena, size_t count, size_t size, uintptr_t site)",
    hak_arena_configure = "int (*)(hak_arena *arena, const char *const *names, const char *const *values, size_t n, char *err, size_t err_size)",
    hak_arena_create = "hak_arena *(*)(const hak_arena_config *config)",
    hak_arena_default = "hak_arena *(*)(void)",
    hak_arena_destroy = "int (*)(hak_arena *arena)",
    hak_arena_free = "void (*)(hak_arena *arena, void *ptr)",
    hak_arena_free_sized = "void (*)(hak_arena *arena, void *ptr, size_t size)",
    hak_arena_from_id = "hak_arena *(*)(hak_arena_id id)",
    hak_arena_get_id = "hak_arena_id (*)(hak_arena *arena)",
    hak_arena_handover = "int (*)(hak_arena *arena)",
    hak_arena_is_live = "int (*)(const void *ud)",
    hak_arena_kind_of = "int (*)(hak_arena *arena)",
    hak_arena_limit = "void (*)(hak_arena *arena, size_t *soft, size_t *hard)",
    hak_arena_name = "const char *(*)(hak_arena *arena)",
    hak_arena_of = "hak_arena *(*)(const void *ptr)",
    hak_arena_pin = "int (*)(hak_arena *arena)",
    hak_arena_realloc = "void *(*)(hak_arena *arena, void *ptr, size_t size)",
    hak_arena_refusals = "uint64_t (*)(hak_arena *arena)",
    hak_arena_reset = "int (*)(hak_arena *arena)",
    hak_arena_restore = "int (*)(hak_arena *arena)",
    hak_arena_set_limit = "int (*)(hak_arena *arena, size_t soft, size_t hard)",
    hak_arena_snapshot = "int (*)(hak_arena *arena)",
    hak_arena_trim = "int (*)(hak_arena *arena)",
    hak_arena_unpin = "int (*)(hak_arena *arena)",
    hak_arena_walk = "int (*)(int (*visit)(hak_arena *arena, void *ud), void *ud)",
    hak_calloc = "void *(*)(size_t count, size_t size)",
    hak_class_stats = "void (*)(hak_arena *arena, void (*visit)(const hak_class_stat *, void *), void *ud)",
    hak_configure = "int (*)(const char *const *names, const char *const *values, size_t n, char *err, size_t err_size)",
    hak_errname = "const char *(*)(int error)",
    hak_free = "void (*)(void *ptr)",
    hak_free_sized = "void (*)(void *ptr, size_t size)",
    hak_knob_count = "size_t (*)(void)",
    hak_knob_find = "int (*)(const char *name)",
    hak_knob_info_at = "const hak_knob_info *(*)(size_t index)",
    hak_knob_value = "uint64_t (*)(size_t index)",
    hak_l25_class_stats = "void (*)(hak_arena *arena, void (*visit)(const hak_l25_class_stat *, void *), void *ud)",
    hak_log_set_sink = "void (*)(void (*sink)(int level, const char *line, void *ud), void *ud)",
    hak_lua_alloc = "void *(*)(void *arena, void *ptr, size_t osize, size_t nsize)",
    hak_lua_bind = "int (*)(hak_arena *arena, const hak_lua_binding *binding)",
    hak_lua_bound = "hak_lua_binding *(*)(hak_arena *arena)",
    hak_lua_note_foreign = "void (*)(hak_arena *arena, size_t bytes)",
    hak_lua_unbind = "int (*)(hak_arena *arena)",
    hak_malloc = "void *(*)(size_t size)",
    hak_malloc_site = "void *(*)(size_t size, uintptr_t site)",
    hak_owns = "int (*)(const void *ptr)",
    hak_posix_memalign = "int (*)(void **out, size_t align, size_t size)",
    hak_realloc = "void *(*)(void *ptr, size_t size)",
    hak_report = "int (*)(const char *format, void (*write)(const char *text, size_t size, void *ud), void *ud)",
    hak_shutdown = "void (*)(void)",
    hak_stat_count = "size_t (*)(void)",
    hak_stat_find = "int (*)(const char *name)",
    hak_stat_info_at = "const hak_stat_info *(*)(size_t index)",
    hak_stats_read = "size_t (*)(hak_arena *arena, uint64_t *values, size_t n)",
    hak_strerror = "const char *(*)(int error)",
    hak_trim = "size_t (*)(void)",
    hak_usable_size = "size_t (*)(const void *ptr)",
    hak_version = "const char *(*)(void)",
  },
}
