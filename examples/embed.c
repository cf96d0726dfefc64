/* embed.c - a server that gives each client a Lua VM of its own, of at most 128 KiB. When the client
 * hangs up, its arena goes at once, however much is in it. A connection is a socketpair here. */
#include <hakmem_lua.h>
#include <lauxlib.h>
#include <lualib.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_libraries(lua_State *L) { /* none that leaves files open when it is dropped */
  luaL_requiref(L, "_G", luaopen_base, 1);
  luaL_requiref(L, "string", luaopen_string, 1);
  return 0;
}

static int run(lua_State *L) {
  if (luaL_loadstring(L, lua_touserdata(L, 1)) != LUA_OK) return lua_error(L);
  lua_call(L, 0, 1);
  luaL_tolstring(L, -1, NULL);
  return 1;
}

static lua_State *new_vm(void) {
  hak_arena_config config = {.kind = HAK_ARENA_PRIVATE, .hard = 128 << 10};
  hak_arena *arena = hak_arena_create(&config);
  lua_State *L = arena != NULL ? hak_lua_newstate(arena) : NULL;
  if (L == NULL) return NULL;
  lua_pushcfunction(L, open_libraries); /* protected, as the limit holds from the start */
  return lua_pcall(L, 0, 0, 0) == LUA_OK ? L : NULL;
}

static void serve(int fd, lua_State *L) { /* a chunk comes in, its result or error goes out */
  char chunk[512] = "";
  if (read(fd, chunk, sizeof chunk - 1) <= 0) return;
  lua_pushcfunction(L, run);
  lua_pushlightuserdata(L, chunk);
  lua_pcall(L, 1, 1, 0);
  dprintf(fd, "%s", lua_isstring(L, -1) ? lua_tostring(L, -1) : "error");
  lua_settop(L, 0);
}

int main(void) {
  static const char *const said[] = {"s = 'hello' return s", "s = s:rep(1e6) return #s",
                                     "return s .. ', still here'"};
  int fd[2][2]; /* client, end */
  lua_State *vm[2];
  for (int i = 0; i < 2; i++)
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd[i]) != 0 || !(vm[i] = new_vm())) return 1;
  for (int k = 0; k < 3; k++)
    for (int i = k == 1; i < 2; i++) { /* only the second client is greedy */
      char answer[128] = "";
      dprintf(fd[i][1], "%s", said[k]);
      serve(fd[i][0], vm[i]);
      if (read(fd[i][1], answer, sizeof answer - 1) <= 0) return 1;
      printf("%d> %-28s %s\n", i, said[k], answer);
    }
  for (int i = 0; i < 2; i++) /* they hang up */
    if (close(fd[i][1]) | hak_arena_destroy(hak_lua_close(vm[i], HAK_LUA_DROP))) return 1;
  return 0;
}
