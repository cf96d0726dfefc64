/* lua_log.c - log lines for Lua.
 * Why:   a line may come from any thread and from inside the allocator, where no Lua function can
 *        be called. So the sink keeps the last lines, and Lua fetches them when it likes.
 * Owns:  a ring of lines, one for the process.
 * Locks: a flag that nobody waits for long: fork() may have left it set, then lines are dropped.
 * Start: haki_lua_log(). */
#include <string.h>

#include "edge/lua_arena.h"

enum { LINES = 128, LINE_MAX_BYTES = 240, PATIENCE = 100000 };

static struct {
  atomic_flag busy;
  unsigned first, count; /* the oldest line, how many */
  char line[LINES][LINE_MAX_BYTES];
} ring = {.busy = ATOMIC_FLAG_INIT};

static bool enter(void) {
  for (int i = 0; i < PATIENCE; i++) {
    if (!atomic_flag_test_and_set_explicit(&ring.busy, memory_order_acquire)) return true;
    haki_pause();
  }
  return false;
}

static void leave(void) { /* release: pairs with enter() */
  atomic_flag_clear_explicit(&ring.busy, memory_order_release);
}

static void keep_line(int level, const char *line, void *ud) {
  if (!enter()) return;
  if (ring.count == LINES) {
    ring.first = (ring.first + 1) % LINES;
    ring.count--;
  }
  char *to = ring.line[(ring.first + ring.count++) % LINES];
  size_t n = strlen(line);
  if (n > LINE_MAX_BYTES - 1) n = LINE_MAX_BYTES - 1;
  memcpy(to, line, n);
  to[n] = 0;
  leave();
}

/* The oldest line into `line`; false: there is none. */
static bool take_line(char *line) {
  if (!enter()) return false;
  bool any = ring.count > 0;
  if (any) {
    memcpy(line, ring.line[ring.first], LINE_MAX_BYTES);
    ring.first = (ring.first + 1) % LINES;
    ring.count--;
  }
  leave();
  return any;
}

int haki_lua_log(lua_State *L) {
  char line[LINE_MAX_BYTES];
  if (!lua_isnoneornil(L, 1)) {
    const char *where = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : "";
    if (strcmp(where, "keep") == 0)
      hak_log_set_sink(keep_line, NULL);
    else if (strcmp(where, "stderr") == 0)
      hak_log_set_sink(NULL, NULL);
    else
      haki_lua_argerror(L, 1, "log", "'keep' or 'stderr' expected");
    return 0;
  }
  lua_newtable(L);
  for (int i = 1; i <= LINES && take_line(line); i++) {
    lua_pushstring(L, line);
    lua_rawseti(L, -2, i);
  }
  return 1;
}
