/* lua_check.c - arguments of the Lua module, and the errors about them.
 * Why:   see lua_check.h.
 * Owns:  the wording.   Not: memory.
 * Locks: none.
 * Start: haki_lua_argerror(). */
#include "edge/lua_check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "include/hakmem.h"

static const char *const class_names[] = {"",
                                          "hakmem.arena",
                                          "hakmem.buffer",
                                          "hakmem.vm",
                                          "hakmem.vm_pool",
                                          "hakmem.copy",
                                          "hakmem.scope"};

void haki_lua_register(lua_State *L, const luaL_Reg *functions, int first) {
  for (; functions->name != NULL; functions++) {
    for (int i = 0; i < HAK_LUA_CLASSES; i++) lua_pushvalue(L, first + i);
    lua_pushcclosure(L, functions->func, HAK_LUA_CLASSES);
    lua_setfield(L, -2, functions->name);
  }
}

int haki_lua_argerror(lua_State *L, int arg, const char *func, const char *why, ...) {
  char text[160];
  va_list args;
  va_start(args, why);
  vsnprintf(text, sizeof text, why, args);
  va_end(args);
  return luaL_error(L, "bad argument #%d to '%s' (%s)", arg, func, text);
}

/* Nothing is told from nil: the FFI layer hands both on as nil. */
static const char *type_name(lua_State *L, int index) {
  return lua_isnoneornil(L, index) ? "nil" : luaL_typename(L, index);
}

int haki_lua_typeerror(lua_State *L, int index, int arg, const char *func, const char *what) {
  return haki_lua_argerror(L, arg, func, "%s expected, got %s", what, type_name(L, index));
}

void *haki_lua_test(lua_State *L, int index, enum haki_lua_class class) {
  void *p = lua_type(L, index) == LUA_TUSERDATA ? lua_touserdata(L, index) : NULL;
  if (p == NULL || !lua_getmetatable(L, index)) return NULL;
  int same = lua_rawequal(L, -1, lua_upvalueindex((int)class));
  lua_pop(L, 1);
  return same ? p : NULL;
}

void *haki_lua_self(lua_State *L, enum haki_lua_class class, const char *func) {
  void *p = haki_lua_test(L, 1, class);
  if (HAK_UNLIKELY(p == NULL))
    luaL_error(L, "calling '%s' on bad self (%s expected, got %s)", func, class_names[class],
               type_name(L, 1));
  return p;
}

enum haki_lua_number haki_lua_toint64(lua_State *L, int index, int64_t *out) {
  if (lua_type(L, index) != LUA_TNUMBER) return HAK_LUA_NO_NUMBER;
  if (lua_isinteger(L, index)) {
    *out = (int64_t)lua_tointeger(L, index);
    return HAK_LUA_IS_INTEGER;
  }
  lua_Number n = lua_tonumber(L, index);
  if (isinf(n)) return HAK_LUA_RANGE;
  if (!(floor(n) == n)) return HAK_LUA_FRACTION; /* also NaN */
  if (n < -0x1p63 || n >= 0x1p63) return HAK_LUA_RANGE;
  *out = (int64_t)n;
  return HAK_LUA_IS_INTEGER;
}

/* The exponent of two that a size suffix stands for: "", "B", "K", "KB", "KiB" and so on; -1: it
 * is none. */
static int suffix_shift(const char *s) {
  static const char units[] = "KMGTP";
  int shift = 0;
  for (int i = 0; units[i] != 0; i++)
    if ((*s | 0x20) == (units[i] | 0x20)) {
      shift = 10 * (i + 1);
      s++;
      if (*s == 'i') s++;
      break;
    }
  if (*s == 'B' || *s == 'b') s++;
  return *s == 0 ? shift : -1;
}

/* Digits by hand: strtod() depends on the locale and reads "0x" and "nan". Returns what follows;
 * NULL: there are none. */
static const char *parse_number(const char *s, double *out) {
  double n = 0, scale = 1;
  bool negative = *s == '-', digits = false;
  if (negative) s++;
  for (; *s >= '0' && *s <= '9'; s++, digits = true) n = n * 10 + (*s - '0');
  if (*s == '.')
    for (s++; *s >= '0' && *s <= '9'; s++, digits = true) n += (*s - '0') * (scale /= 10);
  while (*s == ' ') s++;
  *out = negative ? -n : n;
  return digits ? s : NULL;
}

static bool parse_size(const char *s, double *out) {
  double n;
  s = parse_number(s, &n);
  int shift = s != NULL ? suffix_shift(s) : -1;
  if (shift < 0) return false;
  *out = shift > 0 && n > 0 ? floor(ldexp(n, shift)) : ldexp(n, shift);
  return true;
}

static bool parse_duration(const char *s, double *out) {
  static const struct {
    const char *name;
    double ns;
  } units[] = {{"", 1e9},  {"ns", 1},   {"us", 1e3},   {"ms", 1e6},
               {"s", 1e9}, {"m", 6e10}, {"min", 6e10}, {"h", 3.6e12}};
  double n;
  s = parse_number(s, &n);
  for (size_t i = 0; s != NULL && i < HAK_COUNT_OF(units); i++)
    if (strcmp(s, units[i].name) == 0) {
      *out = n * units[i].ns;
      return true;
    }
  return false;
}

/* The text at index, NULL when there is a zero byte in it. */
static const char *plain_text(lua_State *L, int index) {
  size_t length;
  const char *text = lua_tolstring(L, index, &length);
  return strlen(text) == length ? text : NULL;
}

const char *haki_lua_tosize(lua_State *L, int index, size_t *out) {
  double n;
  switch (lua_type(L, index)) {
    case LUA_TNUMBER: n = (double)lua_tonumber(L, index); break;
    case LUA_TSTRING: {
      const char *text = plain_text(L, index);
      if (text == NULL || !parse_size(text, &n))
        return lua_pushfstring(L, "malformed size '%s'", lua_tostring(L, index));
      break;
    }
    default: return lua_pushfstring(L, "size expected, got %s", type_name(L, index));
  }
  if (!isinf(n) && !(floor(n) == n)) return "size is not an integer";
  if (n < 0 || n >= 0x1p63) return "size out of range";
  *out = (size_t)n;
  return NULL;
}

const char *haki_lua_toduration(lua_State *L, int index, uint64_t *out) {
  double n;
  switch (lua_type(L, index)) {
    case LUA_TNUMBER: n = (double)lua_tonumber(L, index) * 1e9; break;
    case LUA_TSTRING: {
      const char *text = plain_text(L, index);
      if (text == NULL || !parse_duration(text, &n))
        return lua_pushfstring(L, "malformed duration '%s'", lua_tostring(L, index));
      break;
    }
    default: return lua_pushfstring(L, "duration expected, got %s", type_name(L, index));
  }
  if (!(n >= 0 && n < 0x1p63)) return "duration out of range"; /* also NaN */
  *out = (uint64_t)ceil(n);
  return NULL;
}

size_t haki_lua_checksize(lua_State *L, int index, int arg, const char *func) {
  size_t size = 0;
  const char *why = haki_lua_tosize(L, index, &size);
  if (HAK_UNLIKELY(why != NULL)) haki_lua_argerror(L, arg, func, "%s", why);
  return size;
}

static int64_t check_integer(lua_State *L, int index, int arg, const char *func, const char *what) {
  int64_t n = 0;
  switch (haki_lua_toint64(L, index, &n)) {
    case HAK_LUA_IS_INTEGER: break;
    case HAK_LUA_NO_NUMBER: haki_lua_typeerror(L, index, arg, func, "number"); break;
    case HAK_LUA_FRACTION: haki_lua_argerror(L, arg, func, "%s is not an integer", what); break;
    case HAK_LUA_RANGE: haki_lua_argerror(L, arg, func, "%s out of range", what); break;
  }
  return n;
}

size_t haki_lua_checkpos(lua_State *L, int index, int arg, const char *func, size_t size,
                         size_t need) {
  int64_t i = check_integer(L, index, arg, func, "position");
  uint64_t offset = i > 0 ? (uint64_t)i - 1 : (uint64_t)size + (uint64_t)i;
  if (HAK_UNLIKELY(i == 0 || (i < 0 && (uint64_t) - (i + 1) >= size) || offset > size ||
                   size - offset < need))
    haki_lua_argerror(L, arg, func, "position out of range");
  return (size_t)offset;
}

size_t haki_lua_checkcount(lua_State *L, int index, int arg, const char *func, size_t max) {
  if (lua_isnoneornil(L, index)) return max;
  int64_t n = check_integer(L, index, arg, func, "count");
  if (HAK_UNLIKELY(n < 0 || (uint64_t)n > max))
    haki_lua_argerror(L, arg, func, "count out of range");
  return (size_t)n;
}

int haki_lua_failure(lua_State *L, int error) {
  lua_pushnil(L);
  lua_pushstring(L, hak_strerror(error));
  lua_pushstring(L, hak_errname(error));
  return 3;
}
