/* lua_info.c - statistics, knobs and reports as Lua values.
 * Why:   see lua_info.h. Nothing here calls Lua from inside a callback of the library: an error
 *        of Lua's would jump over its locks.
 * Owns:  nothing.   Not: names and meaning.
 * Locks: none held while Lua is called.
 * Start: haki_lua_pushstats(). */
#include "edge/lua_info.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "edge/lua_check.h"

/* More than there are; an adopted copy of the library may have more than this one. */
#define STATS_MAX 256

struct stats {
  uint64_t value[STATS_MAX];
  size_t n;
};

static void read_stats(struct stats *s, hak_arena *arena) {
  memset(s, 0, sizeof *s);
  s->n = hak_stats_read(arena, s->value, STATS_MAX);
  if (s->n == 0) s->n = hak_stat_count(); /* an arena that has just died: zeros */
  if (s->n > STATS_MAX) s->n = STATS_MAX;
}

static bool applies(const hak_stat_info *info, hak_arena *arena) {
  return arena != NULL ? info->per_arena : info->process;
}

static void push_value(lua_State *L, const hak_stat_info *info, uint64_t value) {
  if (strcmp(info->kind, "ratio") == 0)
    lua_pushnumber(L, (lua_Number)value / 1e9);
  else
    haki_lua_pushcount(L, value);
}

struct class_list {
  hak_l25_class_stat at[32];
  int n;
};

static void collect_class(const hak_l25_class_stat *c, void *ud) {
  struct class_list *list = ud;
  if (list->n < (int)(sizeof list->at / sizeof list->at[0])) list->at[list->n++] = *c;
}

static void set_count(lua_State *L, const char *name, uint64_t n) {
  haki_lua_pushcount(L, n);
  lua_setfield(L, -2, name);
}

void haki_lua_pushclasses(lua_State *L, hak_arena *arena) {
  struct class_list list = {.n = 0};
  luaL_checkstack(L, 4, NULL);
  hak_l25_class_stats(arena, collect_class, &list);
  lua_createtable(L, list.n, 0);
  for (int i = 0; i < list.n; i++) {
    lua_createtable(L, 0, 4);
    set_count(L, "size", list.at[i].size);
    set_count(L, "blocks", list.at[i].blocks);
    set_count(L, "cached", list.at[i].cached);
    set_count(L, "ops", list.at[i].ops);
    lua_rawseti(L, -2, i + 1);
  }
}

void haki_lua_pushstats(lua_State *L, hak_arena *arena) {
  struct stats s;
  luaL_checkstack(L, 6, NULL);
  read_stats(&s, arena);
  lua_newtable(L);
  for (size_t i = 0; i < s.n; i++) {
    const hak_stat_info *info = hak_stat_info_at(i);
    if (!applies(info, arena)) continue;
    const char *dot = strchr(info->name, '.');
    if (dot == NULL) {
      push_value(L, info, s.value[i]);
      lua_setfield(L, -2, info->name);
      continue;
    }
    lua_pushlstring(L, info->name, (size_t)(dot - info->name));
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);
    if (lua_isnil(L, -1)) {
      lua_pop(L, 1);
      lua_newtable(L);
      lua_pushvalue(L, -2);
      lua_pushvalue(L, -2);
      lua_rawset(L, -5);
    }
    push_value(L, info, s.value[i]);
    lua_setfield(L, -2, dot + 1);
    lua_pop(L, 2);
  }
  lua_getfield(L, -1, "l25");
  haki_lua_pushclasses(L, arena);
  lua_setfield(L, -2, "classes");
  lua_pop(L, 1);
  if (arena == NULL) return;
  lua_pushstring(L, hak_arena_name(arena));
  lua_setfield(L, -2, "name");
  lua_pushstring(L, hak_arena_kind_of(arena) == HAK_ARENA_PRIVATE ? "private" : "shared");
  lua_setfield(L, -2, "kind");
}

struct id_list {
  hak_arena_id *id;
  size_t n, room;
};

static int collect_id(hak_arena *arena, void *ud) {
  struct id_list *list = ud;
  if (list->n < list->room) list->id[list->n] = hak_arena_get_id(arena);
  list->n++;
  return 0;
}

void haki_lua_pusharenas(lua_State *L) {
  struct id_list list = {NULL, 0, 0};
  int at = 0;
  hak_arena_walk(collect_id, &list);
  list.room = list.n + 8; /* a few more may be born before the second walk */
  list.n = 0;
  luaL_checkstack(L, 8, NULL);
  list.id = lua_newuserdatauv(L, list.room * sizeof *list.id, 0);
  hak_arena_walk(collect_id, &list);
  lua_newtable(L);
  for (size_t i = 0; i < list.n && i < list.room; i++) {
    hak_arena *arena = hak_arena_from_id(list.id[i]);
    if (arena == NULL) continue;
    haki_lua_pushstats(L, arena);
    lua_rawseti(L, -2, ++at);
  }
  lua_remove(L, -2);
}

void haki_lua_pushstat(lua_State *L, hak_arena *arena, int index) {
  if (lua_type(L, index) != LUA_TSTRING) haki_lua_typeerror(L, index, 1, "stats", "string");
  const char *name = lua_tostring(L, index);
  int i = hak_stat_find(name);
  if (i < 0) haki_lua_argerror(L, 1, "stats", "unknown statistic '%s'", name);
  if (!applies(hak_stat_info_at((size_t)i), arena))
    haki_lua_argerror(L, 1, "stats",
                      arena != NULL ? "statistic '%s' has no value for one arena"
                                    : "statistic '%s' has no process-wide value",
                      name);
  struct stats s;
  read_stats(&s, arena);
  push_value(L, hak_stat_info_at((size_t)i), s.value[i]);
}

uint64_t haki_lua_stat(hak_arena *arena, const char *name) {
  struct stats s;
  int i = hak_stat_find(name);
  read_stats(&s, arena);
  return i < 0 || (size_t)i >= s.n ? 0 : s.value[i];
}

/* ---- knobs ---------------------------------------------------------------------------------- */

/* Pushes the text of a value for the knob `name`, as the environment would give it. Numbers are
 * written with integers only: a locale may have other ideas of a decimal point. */
static void push_text(lua_State *L, int index, const char *name) {
  char text[64];
  int knob = hak_knob_find(name);
  switch (lua_type(L, index)) {
    case LUA_TSTRING: lua_pushvalue(L, index); return;
    case LUA_TBOOLEAN: lua_pushstring(L, lua_toboolean(L, index) ? "on" : "off"); return;
    case LUA_TNUMBER: {
      lua_Number n = lua_tonumber(L, index);
      const char *unit = "";
      bool is_duration = knob >= 0 && strcmp(hak_knob_info_at((size_t)knob)->type, "duration") == 0;
      if (is_duration && n >= 0) {
        n = floor(n * 1e9 + 0.5);
        unit = "ns";
      }
      if (floor(n) == n && fabs(n) < 0x1p63)
        snprintf(text, sizeof text, "%lld%s", (long long)n, unit);
      else
        snprintf(text, sizeof text, "%g", (double)n); /* the library refuses it, and shows it */
      lua_pushstring(L, text);
      return;
    }
    default:
      luaL_error(L, "knob '%s': string, number or boolean expected, got %s", name,
                 luaL_typename(L, index));
  }
}

struct settings {
  int names, texts; /* stack indexes of two lists */
  int n;
};

/* Adds the knob named on top of the stack (popped) with the value at index. */
static void add_setting(lua_State *L, struct settings *s, int value) {
  push_text(L, value, lua_tostring(L, -1));
  s->n++;
  lua_rawseti(L, s->texts, s->n);
  lua_rawseti(L, s->names, s->n);
}

static bool listed(const char *const *list, const char *name) {
  for (; list != NULL && *list != NULL; list++)
    if (strcmp(*list, name) == 0) return true;
  return false;
}

static void check_key(lua_State *L, int index, const char *func) {
  if (lua_type(L, index) != LUA_TSTRING)
    haki_lua_argerror(L, 1, func, "knob names are strings, got %s", luaL_typename(L, index));
}

static void add_group(lua_State *L, struct settings *s, const char *group, int table,
                      const char *func) {
  for (lua_pushnil(L); lua_next(L, table) != 0; lua_pop(L, 1)) {
    check_key(L, -2, func);
    lua_pushfstring(L, "%s.%s", group, lua_tostring(L, -2));
    add_setting(L, s, lua_gettop(L) - 1);
  }
}

static void apply(lua_State *L, struct settings *s, hak_arena *arena) {
  char why[256] = "";
  if (s->n == 0) return;
  size_t n = (size_t)s->n;
  const char **text = lua_newuserdatauv(L, 2 * n * sizeof *text, 0);
  for (int i = 0; i < s->n; i++) {
    lua_rawgeti(L, s->names, i + 1);
    text[i] = lua_tostring(L, -1); /* kept alive by the lists */
    lua_rawgeti(L, s->texts, i + 1);
    text[n + (size_t)i] = lua_tostring(L, -1);
    lua_pop(L, 2);
  }
  int failed = arena != NULL ? hak_arena_configure(arena, text, text + n, n, why, sizeof why)
                             : hak_configure(text, text + n, n, why, sizeof why);
  if (failed != 0) luaL_error(L, "%s", why[0] != 0 ? why : hak_strerror(failed));
}

void haki_lua_configure(lua_State *L, int index, hak_arena *arena, const char *const *skip,
                        const char *func) {
  struct settings s;
  luaL_checkstack(L, 10, NULL);
  int top = lua_gettop(L);
  lua_newtable(L);
  lua_newtable(L);
  s.names = top + 1;
  s.texts = top + 2;
  s.n = 0;
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    check_key(L, -2, func);
    const char *key = lua_tostring(L, -2);
    if (listed(skip, key)) continue;
    if (lua_istable(L, -1)) {
      add_group(L, &s, key, lua_gettop(L), func);
    } else {
      lua_pushvalue(L, -2);
      add_setting(L, &s, lua_gettop(L) - 1);
    }
  }
  apply(L, &s, arena);
  lua_settop(L, top);
}

static size_t check_knob(lua_State *L, int index) {
  const char *name = lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : NULL;
  if (name == NULL) luaL_error(L, "knob names are strings, got %s", luaL_typename(L, index));
  int i = hak_knob_find(name);
  if (i < 0) luaL_error(L, "unknown knob '%s'", name);
  return (size_t)i;
}

void haki_lua_pushknob(lua_State *L, int index) {
  size_t i = check_knob(L, index);
  const hak_knob_info *info = hak_knob_info_at(i);
  uint64_t value = hak_knob_value(i);
  if (strcmp(info->type, "bool") == 0) {
    lua_pushboolean(L, value != 0);
  } else if (strcmp(info->type, "duration") == 0) {
    lua_pushnumber(L, (lua_Number)value / 1e9);
  } else if (strcmp(info->type, "word") == 0) {
    const char *word = info->words;
    for (; value > 0 && strchr(word, '|') != NULL; value--) word = strchr(word, '|') + 1;
    lua_pushlstring(L, word, strcspn(word, "|"));
  } else {
    haki_lua_pushcount(L, value);
  }
}

void haki_lua_setknob(lua_State *L, int name, int value) {
  check_knob(L, name);
  struct settings s;
  int top = lua_gettop(L);
  luaL_checkstack(L, 8, NULL);
  lua_newtable(L);
  lua_newtable(L);
  s.names = top + 1;
  s.texts = top + 2;
  s.n = 0;
  lua_pushvalue(L, name);
  add_setting(L, &s, value);
  apply(L, &s, NULL);
  lua_settop(L, top);
}

/* ---- reports -------------------------------------------------------------------------------- */

struct sink {
  char *text;
  size_t size, room;
};

static void write_piece(const char *text, size_t size, void *ud) {
  struct sink *s = ud;
  if (size <= s->room && s->size <= s->room - size) memcpy(s->text + s->size, text, size);
  s->size += size;
}

/* Once to learn the length, then into memory of that length, and a bit as numbers may grow. */
bool haki_lua_pushreport(lua_State *L, const char *format) {
  struct sink s = {NULL, 0, 0};
  luaL_checkstack(L, 4, NULL);
  if (hak_report(format, write_piece, &s) != 0) return false;
  do {
    s.room = s.size + s.size / 4 + 256;
    s.size = 0;
    s.text = lua_newuserdatauv(L, s.room, 0);
    hak_report(format, write_piece, &s);
    if (s.size <= s.room) break;
    lua_pop(L, 1);
  } while (true);
  lua_pushlstring(L, s.text, s.size);
  lua_remove(L, -2);
  return true;
}
