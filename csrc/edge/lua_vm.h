/* lua_vm.h - child VMs: what their files share.
 * Why:   making, calling, watching and ending a child are four ideas, and four files.
 * Owns:  struct lua_vm.
 * Locks: none: a child belongs to the host's state. The child that runs is known per thread: its
 *        hook and the functions that are watched must find it whatever a script has done to the
 *        registry.
 * Start: haki_vm_new(), haki_vm_call(), haki_vm_end(). */
#ifndef HAK_LUA_VM_H
#define HAK_LUA_VM_H

#include "edge/lua_arena.h"
#include "edge/lua_copy.h"

/* What a call may use (lua_budget.c). */
struct haki_budget {
  uint64_t instructions, nanoseconds; /* of each call; 0: any */
  bool on;                            /* hooks are set: its own, or those of the VM around it */
  uint64_t left, had, deadline;       /* of the call that runs; had: at its start */
  const char *why;                    /* it has expired: what to say */
  char where[LUA_IDSIZE + 16];        /* and where it was: "chunk:line: " */
};

struct lua_vm {
  lua_State *L; /* NULL: ended */
  struct lua_arena *arena;
  bool own_arena;
  bool limited;
  bool throw_away;      /* LuaJIT: its compiler is off, and stays off */
  bool mute;            /* results of the call that runs do not matter */
  bool quiet;           /* the error that is raised wants no traceback */
  bool loose;           /* a finalizer may be waiting: close the state, do not drop it */
  int handler, run, gc; /* references to the child's three functions */
  int files, gc_name;   /* references to the metatable of files and to "__gc"; 0: no io library */
  lua_CFunction file_gc;
  int randomseed; /* reference to math.randomseed; 0: none, or its state is not the child's */
  uint64_t libs;  /* bit per entry of the table in lua_libs.c */
  struct haki_budget budget;
  struct lua_vm *outer; /* the child that runs around this one */
  struct vm_pool *pool; /* whose it is; NULL: nobody's */
  struct lua_vm *next;  /* idle in the pool */
  bool imaged;          /* its arena has a snapshot to go back to */
  const char *code;     /* of the call that runs */
  size_t code_size;
  struct haki_copy *copy; /* likewise */
  char chunk[40];         /* "=name" */
};

/* The child that runs in this thread; NULL: none. */
HAK_HIDDEN extern __thread struct lua_vm *haki_vm_running;

/* ---- lua_vm.c ---- */
struct haki_vm_options {
  hak_arena_config config;
  uint64_t libs;
  struct haki_budget budget;
  bool throw_away;
};
/* The options in the table at index 1, or raises; keys in `more` are the caller's. */
void haki_vm_options(lua_State *L, const char *func, const char *const *more,
                     struct haki_vm_options *o);
/* A child; `arena`: NULL, one of its own. fails: NULL and *error, an errno value. */
struct lua_vm *haki_vm_new(const struct haki_vm_options *o, struct lua_arena *arena, int *error);
void haki_vm_end(struct lua_vm *vm);
/* For a method call(code, ...): packs the arguments behind the code, which stays at index 2; the copy
 * is at index 3. Raises. */
struct haki_copy *haki_vm_pack(lua_State *L);
struct haki_copy *haki_vm_push_copy(lua_State *L); /* an empty one; it goes with the userdata */
struct lua_vm **haki_vm_push_handle(lua_State *L); /* what scripts hold; closed as yet */

/* ---- lua_vm_call.c ---- */
/* Libraries and functions; false: no memory. */
bool haki_vm_set_up(struct lua_vm *vm);
void haki_vm_collect(struct lua_vm *vm); /* all of its garbage, at once */
/* 5.4: math.random goes on from somewhere else; before, the process or LuaJIT itself decides. */
void haki_vm_reseed(struct lua_vm *vm);
struct haki_code {
  const char *text;
  size_t size;
};
/* Runs the code with what is packed in *copy, raises nothing in the host. The results are in *copy then;
 * or false, and the message is, and *code is its short name, or NULL. */
bool haki_vm_run(lua_State *host, struct lua_vm *vm, struct haki_code code, struct haki_copy *copy,
                 const char **short_name);
/* Pushes what came of it: true and results, or false, message, short name. Returns how many. */
int haki_vm_push_results(lua_State *L, bool good, struct haki_copy *copy, const char *short_name);

/* ---- lua_pool.c ---- */
void haki_pool_give(struct lua_vm *vm); /* back to its pool: as new, or to its end */

/* ---- lua_libs.c ---- */
uint64_t haki_libs_check(lua_State *L, int index, const char *func);
/* Opens the libraries and watches what could leave a finalizer. Runs protected, in the child. */
void haki_libs_open(lua_State *L, struct lua_vm *vm);
/* No finalizer can be waiting: the state may be dropped. Raises nothing, allocates nothing. */
bool haki_libs_can_drop(struct lua_vm *vm);
/* Puts `f` in the place of the function `name` in the table on top of the stack, if there is one; NULL:
 * takes it away. The original becomes the first upvalue of `f`. */
void haki_libs_stand_in(lua_State *L, const char *name, lua_CFunction f);
/* In such a function: calls the original with the same arguments. Where it may do so in this very
 * frame, errors name the caller as if nobody had stood in. Returns how many results there are. */
int haki_libs_forward(lua_State *L);

/* ---- lua_guard.c ---- */
/* Puts the stand-ins in place. `per_coroutine`: coroutines count by themselves. */
void haki_guard_budget(lua_State *L, bool per_coroutine);

/* ---- lua_budget.c ---- */
/* LuaJIT: the hook by which a limit raises must not hold up the budget's. pre: the state is new. */
void haki_budget_bind(struct lua_vm *vm);
void haki_budget_start(struct lua_vm *vm);
/* `host`: the coroutine that called; it may itself be in a child. */
void haki_budget_end(struct lua_vm *vm, lua_State *host);
/* A coroutine of the running child is new. */
void haki_budget_adopt(lua_State *co);
/* The hook has raised in it, and nothing has run in it since. */
bool haki_budget_has_killed(lua_State *co);

#endif
