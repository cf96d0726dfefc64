# What `luarocks make rockspec/hakmem-scm-1.rockspec` runs: hakmem/core.so for one Lua, by itself.
# LuaRocks sets CC, CFLAGS, LIBFLAG and LUA_INCDIR. The flags are those of the Makefile above.
CFLAGS ?= -O2 -fPIC
LIBFLAG ?= -shared

SRC := $(wildcard csrc/base/*.c csrc/os/*.c csrc/map/*.c csrc/pool/*.c csrc/heap/*.c) \
  $(wildcard csrc/edge/lua_*.c)
OBJ := $(SRC:csrc/%.c=build/rock/obj/%.o)
HEADERS := $(shell find csrc -name '*.h' -o -name '*.def')

# Another Lua than the last time: everything again.
STAMP := build/rock/lua-incdir
$(shell mkdir -p build/rock && echo '$(LUA_INCDIR)' | cmp -s - $(STAMP) || echo '$(LUA_INCDIR)' > $(STAMP))

build/rock/core.so: $(OBJ)
	$(CC) $(LIBFLAG) -pthread -Wl,-z,nodelete -Wl,-Bsymbolic -Wl,-z,lazy -o $@ $(OBJ) -lm

build/rock/obj/%.o: csrc/%.c $(HEADERS) $(STAMP) rockspec/rock.mk
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(CFLAGS) -fPIC -fvisibility=hidden -fno-builtin-malloc -pthread -Icsrc \
	  -isystem $(LUA_INCDIR) -c -o $@ $<
