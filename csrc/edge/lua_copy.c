/* lua_copy.c - values on their way from one Lua state to another.
 * Why:   see lua_copy.h. Tables and long strings that occur twice are written once and referred
 *        to: a child of a few MiB could otherwise make gigabytes of itself in its host.
 * Owns:  the format: a tag, then what the tag needs; nothing outlives one call.
 * Not:   metatables: tables cross without.
 * Locks: none.
 * Start: haki_copy_pack(). */
#include "edge/lua_copy.h"

#include <stdio.h>
#include <string.h>

#include "include/hakmem.h"

enum tag { NIL, NO, YES, INTEGER, NUMBER, STRING, LONG, TABLE, TABLE_END, REF };

enum {
  DEPTH_MAX = 100,  /* tables in tables; also bounds the C stack */
  LONG_STRING = 64, /* from here on a string is worth a reference */
  SIZE_HINT = 4096  /* elements that a table is born with, at most: its giver is not trusted */
};

struct packer {
  lua_State *L;
  struct haki_copy *out;
  int memo; /* stack index: object -> id, negative while the object is being written */
  int ids;
};

/* ---- writing -------------------------------------------------------------------------------- */

static bool append(struct haki_copy *c, const void *bytes, size_t n) {
  if (n > c->room - c->size) {
    size_t room = c->size + n > 2 * c->room ? c->size + n + 256 : 2 * c->room;
    unsigned char *data = hak_realloc(c->data, room);
    if (data == NULL) return false;
    c->data = data;
    c->room = room;
  }
  memcpy(c->data + c->size, bytes, n);
  c->size += n;
  return true;
}

static void put(struct packer *p, const void *bytes, size_t n) {
  if (HAK_LIKELY(append(p->out, bytes, n))) return;
  lua_pushliteral(p->L, "not enough memory");
  lua_error(p->L);
}

static void put_tag(struct packer *p, enum tag tag) {
  unsigned char byte = (unsigned char)tag;
  put(p, &byte, 1);
}

static bool refuse(struct packer *p, const char *what) {
  snprintf(p->out->why, sizeof p->out->why, "cannot pass a %s", what);
  return false;
}

/* Writes a reference when the object at index was written before. 1: did; 0: did not, and it has
 * an id now; -1: it is being written: a cycle. */
static int put_ref(struct packer *p, int index) {
  lua_State *L = p->L;
  lua_pushvalue(L, index);
  lua_rawget(L, p->memo);
  int id = (int)lua_tonumber(L, -1);
  lua_pop(L, 1);
  if (id < 0) return -1;
  if (id > 0) {
    p->out->has_refs = true;
    put_tag(p, REF);
    put(p, &id, sizeof id);
    return 1;
  }
  id = ++p->ids;
  lua_pushvalue(L, index);
  lua_pushnumber(L, lua_type(L, index) == LUA_TTABLE ? -id : id);
  lua_rawset(L, p->memo);
  return 0;
}

static void put_string(struct packer *p, int index) {
  size_t n;
  const char *text = lua_tolstring(p->L, index, &n);
  if (n >= LONG_STRING && put_ref(p, index) == 1) return;
  put_tag(p, n >= LONG_STRING ? LONG : STRING);
  put(p, &n, sizeof n);
  put(p, text, n);
}

static bool put_value(struct packer *p, int index, int depth);

static bool put_table(struct packer *p, int index, int depth) {
  lua_State *L = p->L;
  if (depth == DEPTH_MAX) return refuse(p, "table nested deeper than 100 levels");
  luaL_checkstack(L, 6, "table nested too deeply");
  int ref = put_ref(p, index), id = p->ids;
  if (ref < 0) return refuse(p, "table that contains itself");
  if (ref > 0) return true;
  size_t length = lua_rawlen(L, index), pairs = 0;
  put_tag(p, TABLE);
  size_t header = p->out->size;
  put(p, &length, sizeof length);
  put(p, &pairs, sizeof pairs);
  for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
    int top = lua_gettop(L);
    if (!put_value(p, top - 1, depth + 1) || !put_value(p, top, depth + 1)) return false;
    pairs++;
  }
  put_tag(p, TABLE_END);
  if (length > pairs) length = pairs; /* a border need not be a count */
  pairs -= length;
  memcpy(p->out->data + header, &length, sizeof length);
  memcpy(p->out->data + header + sizeof length, &pairs, sizeof pairs);
  lua_pushvalue(L, index);
  lua_pushnumber(L, id);
  lua_rawset(L, p->memo);
  return true;
}

static bool put_value(struct packer *p, int index, int depth) {
  lua_State *L = p->L;
  switch (lua_type(L, index)) {
    case LUA_TNIL: put_tag(p, NIL); return true;
    case LUA_TBOOLEAN: put_tag(p, lua_toboolean(L, index) ? YES : NO); return true;
    case LUA_TNUMBER: {
      if (lua_isinteger(L, index)) {
        lua_Integer i = lua_tointeger(L, index);
        put_tag(p, INTEGER);
        put(p, &i, sizeof i);
      } else {
        lua_Number n = lua_tonumber(L, index);
        put_tag(p, NUMBER);
        put(p, &n, sizeof n);
      }
      return true;
    }
    case LUA_TSTRING: put_string(p, index); return true;
    case LUA_TTABLE: return put_table(p, index, depth);
    default: return refuse(p, luaL_typename(L, index));
  }
}

bool haki_copy_pack(lua_State *L, struct haki_copy *copy, int first) {
  int last = lua_gettop(L);
  struct packer p = {L, copy, last + 1, 0};
  copy->size = 0;
  copy->has_refs = false;
  copy->values = last < first ? 0 : last - first + 1;
  luaL_checkstack(L, 6, NULL);
  lua_newtable(L);
  for (int i = first; i <= last; i++)
    if (!put_value(&p, i, 0)) {
      copy->culprit = i - first + 1;
      return false;
    }
  lua_settop(L, last);
  return true;
}

/* ---- reading -------------------------------------------------------------------------------- */

struct unpacker {
  lua_State *L;
  const unsigned char *at;
  int seen; /* stack index: id -> object; 0: nobody asks */
  int ids;
};

static void get(struct unpacker *u, void *bytes, size_t n) {
  memcpy(bytes, u->at, n);
  u->at += n;
}

/* Gives the object on top of the stack the next id. */
static void remember(struct unpacker *u) {
  u->ids++;
  if (u->seen == 0) return;
  lua_pushvalue(u->L, -1);
  lua_rawseti(u->L, u->seen, u->ids);
}

static bool get_value(struct unpacker *u);

static void get_table(struct unpacker *u) {
  lua_State *L = u->L;
  size_t length, pairs;
  get(u, &length, sizeof length);
  get(u, &pairs, sizeof pairs);
  luaL_checkstack(L, 6, "table nested too deeply");
  lua_createtable(L, length < SIZE_HINT ? (int)length : SIZE_HINT,
                  pairs < SIZE_HINT ? (int)pairs : SIZE_HINT);
  remember(u);
  while (get_value(u)) {
    get_value(u);
    lua_rawset(L, -3);
  }
}

/* Pushes the next value; false: it was the end of a table. */
static bool get_value(struct unpacker *u) {
  lua_State *L = u->L;
  unsigned char tag;
  get(u, &tag, 1);
  switch ((enum tag)tag) {
    case NIL: lua_pushnil(L); return true;
    case NO: lua_pushboolean(L, 0); return true;
    case YES: lua_pushboolean(L, 1); return true;
    case INTEGER: {
      lua_Integer i;
      get(u, &i, sizeof i);
      lua_pushinteger(L, i);
      return true;
    }
    case NUMBER: {
      lua_Number n;
      get(u, &n, sizeof n);
      lua_pushnumber(L, n);
      return true;
    }
    case STRING:
    case LONG: {
      size_t n;
      get(u, &n, sizeof n);
      lua_pushlstring(L, (const char *)u->at, n);
      u->at += n;
      if (tag == LONG) remember(u);
      return true;
    }
    case TABLE: get_table(u); return true;
    case REF: {
      int id;
      get(u, &id, sizeof id);
      lua_rawgeti(L, u->seen, id);
      return true;
    }
    case TABLE_END: break;
  }
  return false;
}

int haki_copy_unpack(lua_State *L, const struct haki_copy *copy) {
  struct unpacker u = {L, copy->data, 0, 0};
  luaL_checkstack(L, copy->values + 6, "too many values");
  if (copy->has_refs) {
    lua_newtable(L);
    u.seen = lua_gettop(L);
  }
  for (int i = 0; i < copy->values; i++) get_value(&u);
  if (copy->has_refs) lua_remove(L, u.seen);
  return copy->values;
}

/* ---- texts ---------------------------------------------------------------------------------- */

void haki_copy_text(struct haki_copy *copy, const char *text, size_t n) {
  copy->size = 0;
  copy->why[0] = 0;
  if (!append(copy, text, n)) snprintf(copy->why, sizeof copy->why, "not enough memory");
}

void haki_copy_pushtext(lua_State *L, const struct haki_copy *copy) {
  if (copy->why[0] != 0)
    lua_pushstring(L, copy->why);
  else
    lua_pushlstring(L, (const char *)copy->data, copy->size);
}

void haki_copy_free(struct haki_copy *copy) {
  hak_free(copy->data);
  copy->data = NULL;
  copy->size = copy->room = 0;
}
