/* embed.c - a server that runs Lua for strangers: each line that a client sends is run in a VM of the
 * client's own, of at most 256 KiB, for at most 0.1 s, and answered by a line; /stats tells about memory.
 * When the client hangs up, its VM goes at once, however much is in it.
 *   embed 4000     serves port 4000 of this machine, until SIGTERM, or a line or the end on its input
 *   embed          tries itself */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <hakmem_lua.h>
#include <lauxlib.h>
#include <lualib.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS = 64, LINE = 1024, LIMIT = 256 << 10 };

static struct client {
  int fd; /* 0: nobody */
  lua_State *L;
  size_t got; /* bytes in `line` that have come and were not run */
  char line[LINE], answer[LINE];
} clients[CLIENTS];

/* What else there is may run for long in C, where no hook looks, hold more than memory, or get around the
 * hook (finalizers, coroutines, error handlers). So a VM is bounded, and may be dropped as it is. */
static const char only_these[] =
    "local function only(t, names)"
    "  local kept = {}"
    "  for name in names:gmatch '%S+' do kept[name] = t[name] end"
    "  for name in pairs(t) do t[name] = kept[name] end "
    "end "
    "only(_G, '_G assert error ipairs next pairs pcall select string tonumber tostring type')"
    "only(string, 'byte char format len lower reverse sub upper')";

static int set_up(lua_State *L) {
  lua_pushcfunction(L, luaopen_base);
  lua_call(L, 0, 0);
  lua_pushcfunction(L, luaopen_string);
  lua_call(L, 0, 1);
  lua_setglobal(L, "string");
  hak_lua_restrain(L);
  if (luaL_loadstring(L, only_these) != 0) return lua_error(L);
  lua_call(L, 0, 0);
  return 0;
}

static clock_t deadline; /* processor time, for the line that runs */

static void look_at_time(lua_State *L, lua_Debug *ar) {
  (void)ar;
  if (clock() < deadline) return;
  lua_sethook(L, look_at_time, LUA_MASKCOUNT, 1); /* so that no pcall helps */
  luaL_error(L, "too slow");
}

static int run(lua_State *L) { /* an expression or statements */
  struct client *c = lua_touserdata(L, 1);
  if (c->line[0] == LUA_SIGNATURE[0]) return luaL_error(L, "no byte code");
  const char *expression = lua_pushfstring(L, "return %s", c->line);
  if (luaL_loadbuffer(L, expression, strlen(expression), "=line") != 0 &&
      luaL_loadbuffer(L, c->line, strlen(c->line), "=line") != 0)
    return lua_error(L);
  lua_call(L, 0, 1);
  const char *text = lua_tostring(L, -1); /* of a number: may want memory */
  if (lua_isboolean(L, -1)) text = lua_toboolean(L, -1) ? "true" : "false";
  snprintf(c->answer, LINE, "%s", text != NULL ? text : luaL_typename(L, -1));
  return 0;
}

static int call(lua_State *L, lua_CFunction f, void *ud) {
#if LUA_VERSION_NUM == 501 /* where a C function is a block of memory */
  return lua_cpcall(L, f, ud);
#else
  lua_pushcfunction(L, f);
  lua_pushlightuserdata(L, ud);
  return lua_pcall(L, 1, 0, 0);
#endif
}

static void run_line(struct client *c) {
  deadline = clock() + CLOCKS_PER_SEC / 10;
  lua_sethook(c->L, look_at_time, LUA_MASKCOUNT, 1000);
  if (call(c->L, run, c) == 0) return;
  bool text = lua_type(c->L, -1) == LUA_TSTRING; /* unprotected: nothing here may want memory */
  snprintf(c->answer, LINE, "error: %s", text ? lua_tostring(c->L, -1) : "not a text");
  lua_settop(c->L, 0);
  lua_gc(c->L, LUA_GCCOLLECT, 0); /* 5.1 and LuaJIT do not by themselves */
}

static unsigned long long stat(hak_arena *arena, const char *name) {
  uint64_t values[256];
  hak_stats_read(arena, values, 256);
  return values[hak_stat_find(name)];
}

static void tell_stats(struct client *c) {
  hak_arena *a = hak_lua_arena(c->L);
  snprintf(c->answer, LINE, "charged %llu, peak %llu of %d, refusals %llu; arenas %llu",
           stat(a, "charged"), stat(a, "peak"), LIMIT, stat(a, "refusals"),
           stat(NULL, "arena.live"));
}

static char *end_of_line(struct client *c) { return memchr(c->line, '\n', c->got); }

/* Reads, or runs one line: the next one when the others had their turn. False: it is over. */
static bool step(struct client *c) {
  if (end_of_line(c) == NULL) {
    ssize_t n = recv(c->fd, c->line + c->got, LINE - c->got, MSG_DONTWAIT);
    if (n <= 0) return n < 0 && errno == EAGAIN && c->got < LINE;
    c->got += (size_t)n;
  }
  char *end = end_of_line(c);
  if (end == NULL) return true;
  *end = 0;
  strcmp(c->line, "/stats") == 0 ? tell_stats(c) : run_line(c);
  c->got -= (size_t)(end + 1 - c->line);
  memmove(c->line, end + 1, c->got);
  size_t n = strlen(c->answer);
  for (size_t i = 0; i < n; i++)
    if ((unsigned char)c->answer[i] < ' ') c->answer[i] = ' ';
  c->answer[n++] = '\n'; /* who does not read the answers is dropped, too */
  return send(c->fd, c->answer, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n;
}

static bool welcome(struct client *c, int fd) {
  hak_arena_config config = {.name = "client", .kind = HAK_ARENA_PRIVATE, .hard = LIMIT};
  hak_arena *arena = hak_arena_create(&config);
  *c = (struct client){.fd = fd, .L = arena != NULL ? hak_lua_newstate(arena) : NULL};
  if (c->L == NULL && arena != NULL) hak_arena_destroy(arena);
  return c->L != NULL && call(c->L, set_up, NULL) == 0;
}

static void drop(struct client *c) {
  if (c->L != NULL && hak_arena_destroy(hak_lua_close(c->L, HAK_LUA_DROP)) != 0) abort();
  if (c->fd != 0) close(c->fd);
  *c = (struct client){0};
}

static volatile sig_atomic_t ended;
static void end_it(int signal) { ended = signal; }

static int serve(int listener) {
  sigset_t sigterm, before;
  sigemptyset(&sigterm);
  sigaddset(&sigterm, SIGTERM);
  sigprocmask(SIG_BLOCK, &sigterm, &before); /* it comes while the server waits, else not */
  sigaction(SIGTERM, &(struct sigaction){.sa_handler = end_it}, NULL);
  while (!ended) {
    struct pollfd p[CLIENTS + 2] = {{.fd = 0, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    struct timespec none = {0}, *wait = NULL;
    for (int i = 0; i < CLIENTS; i++) {
      p[i + 2] = (struct pollfd){clients[i].fd != 0 ? clients[i].fd : -1, POLLIN, 0};
      if (clients[i].fd == 0) p[1].fd = listener; /* room for one more */
      if (end_of_line(&clients[i]) != NULL) wait = &none;
    }
    if (ppoll(p, CLIENTS + 2, wait, &before) < 0) continue;
    if (p[0].revents != 0) break;
    for (int i = 0; i < CLIENTS; i++) {
      struct client *c = &clients[i];
      if (c->fd != 0 && (p[i + 2].revents != 0 || wait != NULL) && !step(c)) drop(c);
      if (c->fd != 0 || p[1].revents == 0) continue;
      int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
      p[1].revents = 0;
      if (fd > 0 && !welcome(c, fd)) drop(c);
    }
  }
  for (int i = 0; i < CLIENTS; i++) drop(&clients[i]);
  return 0;
}

/* ---- the try ---------------------------------------------------------------------------------- */

static int connected(struct sockaddr_in *to) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  return connect(fd, (struct sockaddr *)to, sizeof *to) == 0 ? fd : -1;
}

static bool ask(int fd, const char *line, const char *wanted) {
  char got[LINE] = "";
  dprintf(fd, "%s\n", line);
  for (size_t n = 0; n < LINE - 1 && read(fd, got + n, 1) == 1; n++)
    if (got[n] == '\n') break;
  printf("%d> %-30s %s", fd, line, got);
  return strstr(got, wanted) != NULL;
}

static bool try_it(struct sockaddr_in *to) {
  int modest = connected(to), greedy = connected(to), rude = connected(to);
  if (!ask(rude, "t = {}", "nil")) return false;
  dprintf(rude, "for i = 1, 1000 do t[i] = {} end\nt = "); /* and hangs up */
  close(rude);
  return ask(modest, "s = 'hello'", "nil") && ask(greedy, "s = 'x'", "nil") &&
         ask(greedy, "while true do s = s .. s end", "not enough memory") &&
         ask(greedy, "while true do pcall(error) end", "too slow") &&
         ask(greedy, "s:sub(1, 3)", "xxx") && ask(greedy, "/stats", "arenas 3") &&
         ask(modest, "s .. ', still here'", "hello, still here");
}

int main(int argc, char **argv) {
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof here;
  int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1, input[2], status = 1;
  if (argc == 2) here.sin_port = htons((uint16_t)atoi(argv[1]));
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr *)&here, size) != 0 || listen(listener, CLIENTS) != 0)
    return perror("embed"), 1;
  getsockname(listener, (struct sockaddr *)&here, &size);
  fprintf(stderr, "port %d\n", ntohs(here.sin_port));
  if (argc == 2) return serve(listener);
  if (pipe(input) != 0) return 1;
  pid_t server = fork();
  if (server == 0) return dup2(input[0], 0), close(input[1]), serve(listener);
  bool good = try_it(&here);
  close(input[1]); /* the server's input ends */
  return waitpid(server, &status, 0) == server && status == 0 && good ? 0 : 1;
}
