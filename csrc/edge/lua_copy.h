/* lua_copy.h - values on their way from one Lua state to another.
 * Why:   an error while one state is read and the other written would jump over frames of one of
 *        them. So the giver writes flat bytes, inside its own protection; the taker reads them
 *        inside its own.
 * Owns:  the bytes: outside both states, and not charged to the child.
 * Locks: none.
 * Start: haki_copy_pack(), haki_copy_unpack(). */
#ifndef HAK_LUA_COPY_H
#define HAK_LUA_COPY_H

#include "edge/lua_compat.h"

struct haki_copy {
  unsigned char *data;
  size_t size, room;
  int values;    /* at the top level */
  bool has_refs; /* some table or string is there once and named twice */
  char why[64];  /* why the last pack failed */
  int culprit;   /* and at which value, from 1 */
};

/* Packs the values from index `first` to the top. False: one cannot be passed; see why, culprit.
 * Raises in L for want of memory. */
bool haki_copy_pack(lua_State *L, struct haki_copy *copy, int first);
/* Pushes the packed values, returns how many. Raises in L for want of memory. */
int haki_copy_unpack(lua_State *L, const struct haki_copy *copy);
/* A text instead of values. When there is no memory for it, it becomes `not enough memory`. */
void haki_copy_text(struct haki_copy *copy, const char *text, size_t n);
void haki_copy_pushtext(lua_State *L, const struct haki_copy *copy);
void haki_copy_free(struct haki_copy *copy);

#endif
