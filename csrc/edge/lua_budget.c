/* lua_budget.c - how many instructions and seconds a call of a child may take.
 * Why:   `while true do pcall(f) end` must end, whatever the script catches.
 * Owns:  the hook.   Not: what C functions do: no hook runs inside of them, nor in finalizers,
 *        which a child with a budget therefore cannot have (lua_libs.c).
 * Locks: none.
 * Start: haki_budget_start(), hook().
 *
 * The hook looks every so many instructions; after expiry it raises at every single one. What pcall
 * catches is raised again at the next instruction outside of it, so the call unwinds.
 * In PUC Lua every coroutine counts by itself and inherits the hook of its creator. The hook stays set
 * between calls: so each has it, also one that is as old as the child. A script could do its work in
 * coroutines that end before they have counted to the first look. So each is charged FIRST
 * instructions when it is made and looked at after as many; then the distance doubles, up to STEP.
 * What a coroutine has not counted yet is thus less than what it was charged: with those that it
 * makes, a call never runs more than twice its instructions, and without coroutines it runs exactly
 * those. A coroutine of an earlier call may run STEP more before it counts. LuaJIT counts all
 * coroutines together. */
#include <stdio.h>

#include "edge/lua_vm.h"
#include "include/hakmem_lua.h"
#include "os/os.h"

enum { FIRST = 100, STEP = 1000 };

__thread struct lua_vm *haki_vm_running;

static void hook(lua_State *L, lua_Debug *ar);
/* The same under another name, which tells where it has raised. */
static void raising_hook(lua_State *L, lua_Debug *ar) { hook(L, ar); }

static void set_hook(lua_State *L, uint64_t distance) {
  lua_sethook(L, hook, LUA_MASKCOUNT, (int)distance);
}

static void spend(struct haki_budget *b, uint64_t n) { b->left -= n < b->left ? n : b->left; }

static const char *expired(const struct haki_budget *b) {
  if (b->left == 0) return "instruction budget exceeded";
  if (b->deadline != UINT64_MAX && haki_os_now() >= b->deadline) return "time budget exceeded";
  return NULL;
}

static void note_place(lua_State *L, lua_Debug *ar, struct haki_budget *b) {
  b->where[0] = 0;
  if (lua_getinfo(L, "Sl", ar) != 0 && ar->currentline > 0)
    snprintf(b->where, sizeof b->where, "%s:%d: ", ar->short_src, ar->currentline);
}

static void hook(lua_State *L, lua_Debug *ar) {
  if (haki_vm_running == NULL) return;
  struct haki_budget *b = &haki_vm_running->budget;
  uint64_t distance = (uint64_t)lua_gethookcount(L);
  spend(b, distance);
  if (b->why == NULL) {
    b->why = expired(b);
    if (b->why != NULL) note_place(L, ar, b);
  }
  if (b->why == NULL) {
    uint64_t next = distance < STEP / 2 ? 2 * distance : STEP;
    if (next > b->left) next = b->left;
    if (next != distance || lua_gethook(L) != hook) set_hook(L, next);
    return;
  }
  lua_sethook(L, raising_hook, LUA_MASKCOUNT, 1);
  lua_pushfstring(L, "%s%s", b->where, b->why);
  lua_error(L);
}

#if LUA_VERSION_NUM == 501
/* The limit takes the hook's place until the next instruction. Whatever was on its way to the next look
 * is charged, and the look comes right after: a script that is refused memory again and again would
 * never meet it otherwise. */
static void raise_and_look(hak_lua_binding *binding, int error) {
  hak_lua_raise(binding, error);
  lua_Hook held = (lua_Hook)binding->hook;
  if (haki_vm_running == NULL || (held != hook && held != raising_hook)) return;
  spend(&haki_vm_running->budget, (uint64_t)binding->saved[HAK_LUA_COUNT]);
  binding->saved[HAK_LUA_COUNT] = 1;
}

void haki_budget_bind(struct lua_vm *vm) {
  hak_lua_binding *binding = hak_lua_bound(vm->arena->arena);
  if (binding != NULL && binding->raise != NULL) binding->raise = raise_and_look;
}
#else
void haki_budget_bind(struct lua_vm *vm) { (void)vm; }
#endif

void haki_budget_start(struct lua_vm *vm) {
  struct haki_budget *b = &vm->budget;
  vm->outer = haki_vm_running;
  haki_vm_running = vm;
  b->why = NULL;
  if (!b->on) return;
  b->left = b->instructions != 0 ? b->instructions : UINT64_MAX;
  b->deadline = UINT64_MAX;
  if (b->nanoseconds != 0) {
    uint64_t now = haki_os_now();
    if (b->nanoseconds < UINT64_MAX - now) b->deadline = now + b->nanoseconds;
  }
  if (vm->outer != NULL && vm->outer->budget.on) { /* a child of the child has what is left of it */
    const struct haki_budget *outer = &vm->outer->budget;
    if (outer->left < b->left) b->left = outer->left;
    if (outer->deadline < b->deadline) b->deadline = outer->deadline;
  }
  b->had = b->left;
  set_hook(vm->L, b->left == 0 ? 1 : b->left < STEP ? b->left : STEP);
}

void haki_budget_end(struct lua_vm *vm, lua_State *host) {
  struct lua_vm *outer = vm->outer;
  haki_vm_running = outer;
  vm->outer = NULL;
  if (outer == NULL || !outer->budget.on) return;
  spend(&outer->budget, vm->budget.had - vm->budget.left);
  set_hook(host, 1); /* it may have nothing left */
}

void haki_budget_adopt(lua_State *co) {
  if (haki_vm_running == NULL) return;
  struct haki_budget *b = &haki_vm_running->budget;
  spend(b, FIRST);
  set_hook(co, b->why != NULL || b->left < FIRST ? 1 : FIRST);
}

bool haki_budget_has_killed(lua_State *co) { return lua_gethook(co) == raising_hook; }
