/* embed.h - what the specs of programs that embed Lua share; built once for each Lua (Makefile).
 * Start: new_state(), run_code(). */
#ifndef EMBED_H
#define EMBED_H

#include <lauxlib.h>
#include <lualib.h>
#include "../c/check.h"
#include "include/hakmem_lua.h"

#ifdef LUAJIT_VERSION
#error "include luajit.h nowhere: programs are compiled against lua.h alone"
#endif

/* An allocator of the host's own: what it has out, and a failure to inject. */
struct host_alloc {
  size_t used, calls;
  size_t fail_at; /* the call that fails; 0: none */
  bool for_good;  /* and all after it */
};
UNUSED void *host_alloc(void *ud, void *p, size_t osize, size_t nsize) {
  struct host_alloc *h = ud;
  size_t old = p != NULL ? osize : 0;
  if (nsize > old) {
    h->calls++;
    if (h->fail_at != 0 && (h->calls == h->fail_at || (h->for_good && h->calls > h->fail_at)))
      return NULL;
  }
  h->used += nsize - old;
  if (nsize != 0) return realloc(p, nsize);
  free(p);
  return NULL;
}

UNUSED int open_libraries(lua_State *L) {
  luaL_openlibs(L);
  return 0;
}

struct code {
  const char *text;
};
UNUSED int protected_code(lua_State *L) {
  struct code *code = lua_touserdata(L, 1);
  lua_settop(L, 0);
  if (luaL_loadstring(L, code->text) != 0) return lua_error(L);
  lua_call(L, 0, 0);
  return 0;
}

UNUSED int protect(lua_State *L, lua_CFunction f, void *ud) {
#if LUA_VERSION_NUM == 501
  return lua_cpcall(L, f, ud);
#else
  lua_pushcfunction(L, f);
  lua_pushlightuserdata(L, ud);
  return lua_pcall(L, 1, 0, 0);
#endif
}

/* Status; the message is on the stack when it is not 0. */
UNUSED int run_code(lua_State *L, const char *text) {
  struct code code = {text};
  return protect(L, protected_code, &code);
}

UNUSED void must_run(lua_State *L, const char *text) {
  int status = run_code(L, text);
  if (status != 0) check_end(CHECK_FAILED, "%s", lua_tostring(L, -1));
}

/* On LuaJIT luaL_newstate() has LuaJIT's own allocator. */
UNUSED lua_State *new_state(void) {
  lua_State *L = luaL_newstate();
  CHECK(L != NULL);
  CHECK_EQ(protect(L, open_libraries, NULL), 0);
  return L;
}

#endif
