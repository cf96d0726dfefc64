/* lua_buffer.c - zero-filled, bounds-checked bytes in an arena.
 * Why:   Lua strings are immutable and Lua tables cost 16 bytes a byte.
 * Owns:  the userdata of buffers and slices. A block belongs to all views on it: the last one that
 *        is collected frees it, free() by any but a slice frees it for all.
 * Not:   the arena (lua_arena.c).
 * INV buffer-1: data != NULL: [data, data + size) lies in the live block at base.
 * INV buffer-2: data == NULL: size == 0, so every position is out of bounds and the hot path needs
 *        one test only.
 * Locks: none: a buffer belongs to one Lua state.
 * Start: access_number(), haki_lua_buffer_make(). */
#include <stdio.h>
#include <string.h>

#include "edge/lua_arena.h"

enum { HAK_SITE_MIN = 64 * 1024 };

struct lua_buffer {
  unsigned char *data; /* the first two are read and written by lua/hakmem/ffi.lua, too */
  size_t size;
  unsigned char *base; /* the block; NULL: it is gone */
  struct lua_arena *arena;
  hak_list views; /* ring of all views on the block, no head */
  hak_list all;   /* in arena->buffers */
  bool slice;
};
_Static_assert(offsetof(struct lua_buffer, data) == 0, "lua/hakmem/ffi.lua");
_Static_assert(offsetof(struct lua_buffer, size) == sizeof(void *), "lua/hakmem/ffi.lua");

static void forget(struct lua_buffer *b) {
  b->data = b->base = NULL;
  b->size = 0;
  haki_list_remove(&b->views);
}

void haki_lua_buffers_forget(struct lua_arena *ref) {
  for (hak_list *l = ref->buffers.next; l != &ref->buffers; l = l->next)
    forget(HAK_LIST_OF(l, struct lua_buffer, all));
  ref->held = 0;
  ref->pending = 0;
}

static struct lua_buffer *check_live(lua_State *L, const char *func) {
  struct lua_buffer *b = haki_lua_self(L, HAK_LUA_BUFFER, func);
  if (HAK_UNLIKELY(b->data == NULL)) luaL_error(L, "attempt to use a freed buffer");
  return b;
}

/* ---- life ----------------------------------------------------------------------------------- */

/* Pushes a view that is nothing yet: every step after it may raise. */
static struct lua_buffer *push_view(lua_State *L) {
  struct lua_buffer *b = lua_newuserdatauv(L, sizeof *b, 0);
  memset(b, 0, sizeof *b);
  haki_list_init(&b->views);
  haki_list_init(&b->all);
  lua_pushvalue(L, lua_upvalueindex(HAK_LUA_BUFFER));
  lua_setmetatable(L, -2);
  return b;
}

static void attach(struct lua_buffer *b, struct lua_arena *ref) {
  b->arena = ref;
  ref->refs++;
  haki_list_append(&ref->buffers, &b->all);
}

/* The line of Lua that asks: what a C program's return address is. Only large blocks are kept by
 * call site, and finding the line costs more than a small block. */
static uintptr_t call_site(lua_State *L, size_t size) {
  lua_Debug caller;
  if (size < HAK_SITE_MIN || lua_getstack(L, 1, &caller) == 0) return 0;
  lua_getinfo(L, "Sl", &caller);
  uintptr_t site = (uintptr_t)caller.currentline;
  for (const char *s = caller.short_src; *s != '\0'; s++) site = site * 31 + (unsigned char)*s;
  return site;
}

/* ---- the collector -------------------------------------------------------------------------- */

/* A buffer is a few bytes to the collector: it would let dropped ones pile up. So it is told of their
 * bytes as of its own. From Lua 5.3 on a step takes the bytes as its debt; 5.1, 5.2 and LuaJIT
 * would begin a cycle at each step: there one begins when buffers have grown by as much as
 * everything that is there. */
static void push_collector(lua_State *L, struct lua_arena *ref, size_t size) {
  ref->pending += (int64_t)size;
  if (ref->pending < 1024) return;
  int64_t kb = ref->pending / 1024;
  int step = kb > INT32_MAX / 1024 ? INT32_MAX / 1024 : (int)kb;
#if LUA_VERSION_NUM >= 503
  ref->pending -= kb * 1024;
  if (lua_gc(L, LUA_GCISRUNNING, 0)) lua_gc(L, LUA_GCSTEP, step);
#else
  const int is_running = 9; /* of 5.2 and LuaJIT; 5.1 does not know it */
  if (lua_gc(L, is_running, 0) == 0) return;
  int64_t there = lua_gc(L, LUA_GCCOUNT, 0) + ((int64_t)ref->held - ref->pending) / 1024;
  if (!ref->stepping && kb < there) return;
  ref->stepping = lua_gc(L, LUA_GCSTEP, step) == 0;
  if (!ref->stepping) ref->pending = 0;
#endif
}

/* Want of memory may be for garbage that holds buffers. */
static void *obtain(lua_State *L, struct lua_arena *ref, struct lua_buffer *b, size_t size,
                    int *error) {
  uintptr_t site = call_site(L, size);
  bool had = b->base != NULL;
  void *p = haki_lua_obtain(ref->arena, b->base, size, site, error);
  if (p != NULL || haki_list_empty(&ref->buffers)) return p;
  lua_gc(L, LUA_GCCOLLECT, 0);
  if (ref->arena == NULL) luaL_error(L, "attempt to use a closed arena"); /* by a finalizer */
  if (had && b->base == NULL) luaL_error(L, "attempt to use a freed buffer");
  return haki_lua_obtain(ref->arena, b->base, size, site, error);
}

int haki_lua_buffer_make(lua_State *L) {
  struct lua_arena *ref = *(struct lua_arena **)lua_touserdata(L, 1);
  size_t size = haki_lua_checksize(L, 2, 1, "buffer");
  int error = 0;
  struct lua_buffer *b = push_view(L);
  if (ref->arena != NULL) push_collector(L, ref, size);
  if (ref->arena == NULL) luaL_error(L, "attempt to use a closed arena"); /* by a finalizer */
  b->base = obtain(L, ref, b, size, &error);
  if (b->base == NULL) return haki_lua_failure(L, error);
  b->data = b->base;
  b->size = size;
  ref->held += hak_usable_size(b->base);
  attach(b, ref);
  return 1;
}

static int buffer_slice(lua_State *L) {
  struct lua_buffer *b = check_live(L, "slice");
  size_t offset = haki_lua_checkpos(L, 2, 1, "slice", b->size, 0);
  size_t size = haki_lua_checkcount(L, 3, 2, "slice", b->size - offset);
  struct lua_buffer *s = push_view(L);
  if (b->data == NULL) luaL_error(L, "attempt to use a freed buffer"); /* by a finalizer */
  s->base = b->base;
  s->data = b->data + offset;
  s->size = size;
  s->slice = true;
  haki_list_insert(&b->views, &s->views);
  attach(s, b->arena);
  return 1;
}

/* The block moves or changes its size: every view follows, those that hang over the end die. */
static void follow(struct lua_buffer *b, unsigned char *base, size_t size) {
  unsigned char *old = b->base;
  hak_list *next;
  for (hak_list *l = b->views.next; l != &b->views; l = next) {
    struct lua_buffer *v = HAK_LIST_OF(l, struct lua_buffer, views);
    next = l->next;
    size_t offset = (size_t)(v->data - old);
    if (offset > size || v->size > size - offset) {
      forget(v);
    } else {
      v->base = base;
      v->data = base + offset;
    }
  }
  b->base = b->data = base;
  b->size = size;
}

static int buffer_resize(lua_State *L) {
  struct lua_buffer *b = check_live(L, "resize");
  if (b->slice) luaL_error(L, "attempt to resize a slice");
  size_t size = haki_lua_checksize(L, 2, 1, "resize"), old = b->size;
  int error = 0;
  size_t was = hak_usable_size(b->base);
  unsigned char *base = obtain(L, b->arena, b, size, &error);
  if (base == NULL) return haki_lua_failure(L, error);
  b->arena->held += hak_usable_size(base) - was;
  if (size > old) memset(base + old, 0, size - old);
  follow(b, base, size);
  lua_settop(L, 1);
  return 1;
}

/* A slice lets go of the block, a buffer takes it away from its slices, too. */
static void release(struct lua_buffer *b, bool for_all) {
  unsigned char *base = b->base;
  if (base == NULL) return;
  if (for_all)
    while (!haki_list_empty(&b->views))
      forget(HAK_LIST_OF(b->views.next, struct lua_buffer, views));
  bool last = haki_list_empty(&b->views);
  forget(b);
  if (!last) return;
  b->arena->held -= hak_usable_size(base);
  hak_arena_free(b->arena->arena, base);
}

/* By hand: the collector has nothing to find there. */
static int give_back(struct lua_buffer *b) {
  if (b->base != NULL && !b->slice) b->arena->pending -= (int64_t)b->size;
  release(b, !b->slice);
  return 0;
}

static int buffer_free(lua_State *L) { return give_back(check_live(L, "free")); }
static int buffer_scope_end(lua_State *L) {
  return give_back(haki_lua_self(L, HAK_LUA_BUFFER, "free"));
}

static int buffer_collect(lua_State *L) {
  struct lua_buffer *b = haki_lua_self(L, HAK_LUA_BUFFER, "__gc");
  release(b, false);
  haki_list_remove(&b->all);
  haki_lua_arena_drop(b->arena);
  b->arena = NULL;
  return 0;
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static int buffer_read(lua_State *L) {
  struct lua_buffer *b = check_live(L, "read");
  size_t offset = haki_lua_checkpos(L, 2, 1, "read", b->size, 0);
  size_t n = haki_lua_checkcount(L, 3, 2, "read", b->size - offset);
  lua_pushlstring(L, (const char *)b->data + offset, n);
  return 1;
}

static int buffer_write(lua_State *L) {
  struct lua_buffer *b = check_live(L, "write");
  size_t offset = haki_lua_checkpos(L, 2, 1, "write", b->size, 0), n;
  if (lua_type(L, 3) != LUA_TSTRING) haki_lua_typeerror(L, 3, 2, "write", "string");
  const char *text = lua_tolstring(L, 3, &n);
  if (n > b->size - offset) haki_lua_argerror(L, 2, "write", "string does not fit");
  memcpy(b->data + offset, text, n);
  lua_settop(L, 1);
  return 1;
}

static int buffer_fill(lua_State *L) {
  struct lua_buffer *b = check_live(L, "fill");
  int64_t byte = 0;
  if (lua_type(L, 2) == LUA_TSTRING) {
    if (lua_rawlen(L, 2) != 1) haki_lua_argerror(L, 1, "fill", "string is not one byte");
    byte = (unsigned char)*lua_tostring(L, 2);
  } else if (!lua_isnoneornil(L, 2)) {
    enum haki_lua_number is = haki_lua_toint64(L, 2, &byte);
    if (is == HAK_LUA_NO_NUMBER) haki_lua_typeerror(L, 2, 1, "fill", "number");
    if (is == HAK_LUA_FRACTION) haki_lua_argerror(L, 1, "fill", "value is not an integer");
    if (is == HAK_LUA_RANGE || byte < 0 || byte > 255)
      haki_lua_argerror(L, 1, "fill", "value out of range");
  }
  size_t offset = lua_isnoneornil(L, 3) ? 0 : haki_lua_checkpos(L, 3, 2, "fill", b->size, 0);
  size_t n = haki_lua_checkcount(L, 4, 3, "fill", b->size - offset);
  memset(b->data + offset, (int)byte, n);
  lua_settop(L, 1);
  return 1;
}

static int buffer_copy(lua_State *L) {
  struct lua_buffer *b = check_live(L, "copy");
  size_t offset = haki_lua_checkpos(L, 2, 1, "copy", b->size, 0);
  struct lua_buffer *from = haki_lua_test(L, 3, HAK_LUA_BUFFER);
  if (from == NULL) haki_lua_typeerror(L, 3, 2, "copy", "hakmem.buffer");
  if (from->data == NULL) luaL_error(L, "attempt to use a freed buffer");
  size_t at = lua_isnoneornil(L, 4) ? 0 : haki_lua_checkpos(L, 4, 3, "copy", from->size, 0);
  size_t n = haki_lua_checkcount(L, 5, 4, "copy", from->size - at);
  if (n > b->size - offset) haki_lua_argerror(L, 4, "copy", "count out of range");
  memmove(b->data + offset, from->data + at, n);
  lua_settop(L, 1);
  return 1;
}

static int buffer_length(lua_State *L) {
  haki_lua_pushcount(L, check_live(L, "length")->size);
  return 1;
}

static int buffer_pointer(lua_State *L) {
  lua_pushlightuserdata(L, check_live(L, "pointer")->data);
  return 1;
}

static int buffer_tostring(lua_State *L) {
  struct lua_buffer *b = haki_lua_self(L, HAK_LUA_BUFFER, "tostring");
  char text[64];
  if (b->data == NULL)
    lua_pushliteral(L, "hakmem.buffer (freed)");
  else
    lua_pushlstring(L, text,
                    (size_t)snprintf(text, sizeof text, "hakmem.buffer (%zu bytes)", b->size));
  return 1;
}

/* ---- numbers -------------------------------------------------------------------------------- */

struct number {
  const char *name;
  size_t width;
  enum { UNSIGNED, SIGNED, FLOAT } kind;
};

static uint64_t load(const unsigned char *p, size_t width) {
  uint64_t bits = 0;
  for (size_t i = 0; i < width; i++) bits |= (uint64_t)p[i] << (8 * i);
  return bits;
}

static void store(unsigned char *p, size_t width, uint64_t bits) {
  for (size_t i = 0; i < width; i++) p[i] = (unsigned char)(bits >> (8 * i));
}

static void push_number(lua_State *L, const struct number *n, uint64_t bits) {
  unsigned unused = (unsigned)(64 - 8 * n->width);
  if (n->kind == FLOAT) {
    double d;
    if (n->width == 4) {
      uint32_t half = (uint32_t)bits;
      float f;
      memcpy(&f, &half, sizeof f);
      d = f;
    } else {
      memcpy(&d, &bits, sizeof d);
    }
    lua_pushnumber(L, (lua_Number)d);
    return;
  }
  int64_t value = n->kind == SIGNED ? (int64_t)(bits << unused) >> unused : (int64_t)bits;
#if LUA_VERSION_NUM >= 503
  lua_pushinteger(L,
                  (lua_Integer)value); /* the upper half of u64 is negative, as in string.unpack */
#else
  lua_pushnumber(L, n->kind == SIGNED ? (lua_Number)value : (lua_Number)bits);
#endif
}

static uint64_t check_float(lua_State *L, const struct number *n) {
  if (lua_type(L, 3) != LUA_TNUMBER) haki_lua_typeerror(L, 3, 2, n->name, "number");
  double d = (double)lua_tonumber(L, 3);
  uint64_t bits = 0;
  if (n->width == 4) {
    float f = (float)d;
    uint32_t half;
    memcpy(&half, &f, sizeof half);
    bits = half;
  } else {
    memcpy(&bits, &d, sizeof bits);
  }
  return bits;
}

static uint64_t check_bits(lua_State *L, const struct number *n) {
  if (n->kind == FLOAT) return check_float(L, n);
  int64_t value = 0;
  enum haki_lua_number is = haki_lua_toint64(L, 3, &value);
  if (is == HAK_LUA_NO_NUMBER) haki_lua_typeerror(L, 3, 2, n->name, "number");
  if (is == HAK_LUA_FRACTION) haki_lua_argerror(L, 2, n->name, "value is not an integer");
  bool fits = is == HAK_LUA_IS_INTEGER;
  if (n->width == 8 && n->kind == UNSIGNED) {
    lua_Number d = lua_tonumber(L, 3);
    if (fits) fits = value >= 0 || lua_isinteger(L, 3);
    if (!fits && d >= 0x1p63 && d < 0x1p64) return (uint64_t)d;
  } else if (fits && n->width < 8) {
    int64_t top = (int64_t)1 << (8 * n->width - (n->kind == SIGNED));
    fits = value < top && value >= (n->kind == SIGNED ? -top : 0);
  }
  if (!fits) haki_lua_argerror(L, 2, n->name, "value out of range");
  return (uint64_t)value;
}

static int access_number(lua_State *L, const struct number *n) {
  struct lua_buffer *b = check_live(L, n->name);
  size_t offset = haki_lua_checkpos(L, 2, 1, n->name, b->size, n->width);
  if (lua_isnoneornil(L, 3)) {
    push_number(L, n, load(b->data + offset, n->width));
    return 1;
  }
  store(b->data + offset, n->width, check_bits(L, n));
  lua_settop(L, 1);
  return 1;
}

#define NUMBER(name, width, kind)                             \
  static int buffer_##name(lua_State *L) {                    \
    static const struct number number = {#name, width, kind}; \
    return access_number(L, &number);                         \
  }
NUMBER(u8, 1, UNSIGNED)
NUMBER(i8, 1, SIGNED)
NUMBER(u16, 2, UNSIGNED)
NUMBER(i16, 2, SIGNED)
NUMBER(u32, 4, UNSIGNED)
NUMBER(i32, 4, SIGNED)
NUMBER(u64, 8, UNSIGNED)
NUMBER(i64, 8, SIGNED)
NUMBER(f32, 4, FLOAT)
NUMBER(f64, 8, FLOAT)
#undef NUMBER

void haki_lua_buffer_open(lua_State *L, int first) {
  static const luaL_Reg methods[] = {
      {"read", buffer_read}, {"write", buffer_write},     {"fill", buffer_fill},
      {"copy", buffer_copy}, {"slice", buffer_slice},     {"resize", buffer_resize},
      {"free", buffer_free}, {"pointer", buffer_pointer}, {"u8", buffer_u8},
      {"i8", buffer_i8},     {"u16", buffer_u16},         {"i16", buffer_i16},
      {"u32", buffer_u32},   {"i32", buffer_i32},         {"u64", buffer_u64},
      {"i64", buffer_i64},   {"f32", buffer_f32},         {"f64", buffer_f64},
      {NULL, NULL}};
  static const luaL_Reg meta[] = {{"__len", buffer_length},
                                  {"__gc", buffer_collect},
                                  {"__close", buffer_scope_end},
                                  {"__tostring", buffer_tostring},
                                  {NULL, NULL}};
  haki_lua_register(L, meta, first);
  lua_newtable(L);
  haki_lua_register(L, methods, first);
  lua_setfield(L, -2, "__index");
}
