# hakmem: `make help` lists what can be asked for.
#
# FLAVOR  default | audit | asan | tsan | hardened | coverage: how it is built, and into which folder
# CC      the compiler           WERROR=1     warnings are errors
# LUA     lua5.4 | luajit        TEST_SHORT=1 fewer rounds in the tests
# PREFIX  DESTDIR                where `make install` puts things
# V=1     show the commands

VERSION := $(shell sed -n 's/^\#define HAK_VERSION "\(.*\)"/\1/p' csrc/include/hakmem.h)
ifeq ($(origin CC),default)
CC := gcc
endif
FLAVOR ?= default
B ?= $(if $(filter default,$(FLAVOR)),build,build/$(FLAVOR))
LUA ?= lua5.4
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
SHELL := /bin/bash
comma := ,
.DEFAULT_GOAL := all

# ---- flavours ------------------------------------------------------------------------------------

FLAGS_default := -O2 -g
FLAGS_audit := -O2 -g -DHAK_AUDIT_BUILD=1
FLAGS_hardened := -O2 -g -DHAK_HARDENED=1
# A sanitizer guesses where a module's dynamic TLS lies, wrongly when malloc() put it 16 bytes into a
# page: gcc 12's leak check then reads address 0x80 and dies. Static TLS is not guessed.
SANITIZED := -O1 -g -fno-omit-frame-pointer -ftls-model=initial-exec -DHAK_DEBUG=1
FLAGS_asan := $(SANITIZED) -fsanitize=address,undefined -fno-sanitize-recover=all
FLAGS_tsan := $(SANITIZED) -fsanitize=thread -DHAK_FAULT=1
FLAGS_coverage := -O0 -g --coverage -DHAK_AUDIT_BUILD=1
ifndef FLAGS_$(FLAVOR)
$(error unknown FLAVOR '$(FLAVOR)')
endif

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wpointer-arith -Wstrict-prototypes -Wundef \
  -Wno-unused-parameter $(if $(WERROR),-Werror)
CFLAGS_ALL := -std=gnu11 $(WARN) -fvisibility=hidden -fPIC -fno-builtin-malloc -pthread -Icsrc \
  -MMD -MP $(FLAGS_$(FLAVOR)) $(CFLAGS)
# Copies of hakmem in one process find each other by a handshake, not by symbol interposition.
# nodelete: exit handlers of threads and late frees may come after dlclose().
SHARED := -shared -pthread $(FLAGS_$(FLAVOR)) -Wl,-z,nodelete -Wl,-Bsymbolic $(LDFLAGS)

SILENT := $(findstring s,$(firstword -$(MAKEFLAGS)))
say = $(if $(V)$(SILENT),,@echo "  $(1)  $@" &&)

# ---- what is built -------------------------------------------------------------------------------

CORE_SRC := $(wildcard csrc/base/*.c csrc/os/*.c csrc/map/*.c csrc/pool/*.c csrc/heap/*.c) \
  $(wildcard csrc/edge/lua_alloc*.c)
MODULE_SRC := $(filter-out $(CORE_SRC),$(wildcard csrc/edge/lua_*.c))
CORE_OBJ := $(CORE_SRC:csrc/%.c=$(B)/obj/%.o)

# The Lua ABIs whose headers are here; 5.1 is LuaJIT's too.
lua_inc = $(firstword $(patsubst %/lua.h,%,$(wildcard $(patsubst -I%,%/lua.h, \
  $(shell pkg-config --cflags-only-I $(1) 2>/dev/null)) /usr/include/$(1)/lua.h)))
LUA_INC_5.1 ?= $(or $(call lua_inc,lua5.1),$(call lua_inc,luajit))
LUA_INC_5.2 ?= $(call lua_inc,lua5.2)
LUA_INC_5.3 ?= $(call lua_inc,lua5.3)
LUA_INC_5.4 ?= $(call lua_inc,lua5.4)
ABIS := $(if $(MODULE_SRC),$(foreach v,5.1 5.2 5.3 5.4,$(if $(LUA_INC_$(v)),$(v))))
MODULES := $(ABIS:%=$(B)/lua/%/hakmem/core.so)

# Programs that embed Lua link the 5.4 library.
EMBED_CFLAGS := $(if $(LUA_INC_5.4),-isystem $(LUA_INC_5.4))
EMBED_LIBS := $(if $(LUA_INC_5.4),$(shell pkg-config --libs lua5.4 2>/dev/null || echo -llua5.4))
# ... but those with luajit in their name.
EMBED_CFLAGS_JIT := $(patsubst %,-isystem %,$(call lua_inc,luajit))
EMBED_LIBS_JIT := $(shell pkg-config --libs luajit 2>/dev/null || echo -lluajit-5.1)
embed_cflags = $(if $(findstring luajit,$1),$(EMBED_CFLAGS_JIT),$(if $(call embeds,$1),$(EMBED_CFLAGS)))
embed_libs = $(if $(findstring luajit,$1),$(EMBED_LIBS_JIT),$(if $(call embeds,$1),$(EMBED_LIBS)))
embeds = $(shell grep -lE 'include [<"](include/hakmem_lua|hakmem_lua|lua|lauxlib)\.h' $(1))

# The drop-in malloc: the core once more, its thread-local pointer at a fixed place. Sanitizers bring a
# malloc of their own.
PRELOAD := $(if $(filter asan tsan,$(FLAVOR)),,$(B)/libhakmem-preload.so)
PRELOAD_OBJ := $(patsubst csrc/%.c,$(B)/obj/preload/%.o,$(CORE_SRC) $(wildcard csrc/edge/preload*.c))

LIBS := $(B)/libhakmem.so $(B)/libhakmem.a $(PRELOAD)
TOOLS := $(B)/tools/reference
# Block benchmarks: on hakmem, and the same source on malloc for the allocators to compare with.
LARSON := $(B)/larson_hakmem
BENCHES := $(LARSON) $(B)/bench/larson-malloc $(B)/bench/blocks-hakmem $(B)/bench/blocks-malloc \
  $(B)/bench/traces-hakmem $(B)/bench/traces-malloc $(B)/bench/launch-malloc
EXAMPLES := $(patsubst examples/%.c,$(B)/examples/%,$(wildcard examples/*.c))
TESTS := $(patsubst %.c,$(B)/%,$(wildcard spec/c/*.c spec/crash/*.c spec/preload/*.c \
  $(if $(filter audit coverage,$(FLAVOR)),spec/c/audit/*.c)))

# Specs of programs that embed Lua, for each Lua that behaves differently.
EMBED_LUAS := lua5.1 lua5.4 luajit
TESTS += $(foreach v,$(EMBED_LUAS),$(patsubst %.c,$(B)/%-$(v),$(wildcard spec/embed/*.c)))

all: libs modules $(LARSON) ## build the libraries, the Lua modules and larson_hakmem into build/
libs: $(LIBS)
modules: $(MODULES)
benches: $(BENCHES) $(PRELOAD)
programs: libs $(TESTS) $(EXAMPLES) $(TOOLS) $(BENCHES)
# What `make test` also runs with faults injected and every check on.
audit-programs: $(PRELOAD) $(filter $(B)/spec/c/audit/% $(B)/spec/crash/% $(B)/spec/preload/%,$(TESTS))

$(B)/obj/%.o: csrc/%.c Makefile
	@mkdir -p $(@D)
	$(call say,CC) $(CC) $(CFLAGS_ALL) -c -o $@ $<

$(B)/libhakmem.so.0: $(CORE_OBJ)
	$(call say,LD) $(CC) $(SHARED) -Wl,-soname,libhakmem.so.0 -o $@ $(CORE_OBJ)

$(B)/libhakmem.so: $(B)/libhakmem.so.0
	@ln -sf libhakmem.so.0 $@

# -fexceptions: those that the C++ library throws pass through operator new.
$(B)/obj/preload/%.o: csrc/%.c Makefile
	@mkdir -p $(@D)
	$(call say,CC) $(CC) $(CFLAGS_ALL) -ftls-model=initial-exec -fno-builtin -fno-plt -fexceptions \
	  -DHAK_PRELOAD=1 -c -o $@ $<

$(B)/libhakmem-preload.so: $(PRELOAD_OBJ) csrc/edge/preload.list
	$(call say,LD) $(CC) $(filter-out -Wl$(comma)-Bsymbolic,$(SHARED)) -Wl,-z,now \
	  -Wl,--dynamic-list=csrc/edge/preload.list -Wl,-soname,$(@F) -o $@ $(PRELOAD_OBJ) -ldl

$(B)/libhakmem.a: $(CORE_OBJ)
	@rm -f $@
	$(call say,AR) ar rcs $@ $(CORE_OBJ)

# One C source for every Lua. Symbols of Lua resolve late: LuaJIT's FFI loads a module by itself.
define module_rules
$(B)/obj/lua$(1)/%.o: csrc/%.c Makefile
	@mkdir -p $$(@D)
	$$(call say,CC) $$(CC) $$(CFLAGS_ALL) -isystem $$(LUA_INC_$(1)) -c -o $$@ $$<
$(B)/lua/$(1)/hakmem/core.so: $(MODULE_SRC:csrc/%.c=$(B)/obj/lua$(1)/%.o) $(CORE_OBJ)
	@mkdir -p $$(@D)
	$$(call say,LD) $$(CC) $$(SHARED) -Wl,-z,lazy -o $$@ $$^
endef
$(foreach v,$(ABIS),$(eval $(call module_rules,$(v))))

$(B)/spec/%: spec/%.c $(B)/libhakmem.a Makefile
	@mkdir -p $(@D)
	$(call say,CC) $(CC) $(CFLAGS_ALL) $(call embed_cflags,$<) -o $@ $< $(B)/libhakmem.a \
	  $(LDFLAGS) $(call embed_libs,$<) -ldl -lm

define embed_rule
$(B)/spec/embed/%-$(1): spec/embed/%.c $(B)/libhakmem.a $(wildcard csrc/include/*.h spec/embed/*.h) Makefile
	@mkdir -p $$(@D)
	$$(call say,CC) $$(CC) $$(CFLAGS_ALL) $$(subst -I,-isystem ,$$(shell pkg-config --cflags $(1))) -o $$@ $$< \
	  $(B)/libhakmem.a $$(LDFLAGS) $$(shell pkg-config --libs $(1)) -ldl -lm
endef
$(foreach v,$(EMBED_LUAS),$(eval $(call embed_rule,$(v))))

$(B)/examples/%: examples/%.c $(B)/libhakmem.a Makefile
	@mkdir -p $(@D)
	$(call say,CC) $(CC) $(CFLAGS_ALL) -Icsrc/include $(EMBED_CFLAGS) -o $@ $< $(B)/libhakmem.a \
	  $(LDFLAGS) $(EMBED_LIBS) -ldl -lm

$(B)/tools/%: csrc/tools/%.c $(filter $(B)/obj/base/%,$(CORE_OBJ)) Makefile
	@mkdir -p $(@D)
	$(call say,CC) $(CC) $(CFLAGS_ALL) -o $@ $< $(filter $(B)/obj/base/%,$(CORE_OBJ)) $(LDFLAGS)

BENCH_H := $(wildcard csrc/bench/*.h) csrc/base/port.h csrc/include/hakmem.h
BLOCKS_C := $(wildcard csrc/bench/blocks*.c)
TRACES_C := $(wildcard csrc/bench/traces*.c)
bench_cc = $(CC) $(filter-out -MMD -MP,$(CFLAGS_ALL)) -o $@ $(filter %.c,$^) $(filter %.a,$^) $(LDFLAGS)

$(LARSON): csrc/bench/larson_hakmem.c $(B)/libhakmem.a $(BENCH_H) Makefile
	$(call say,CC) $(bench_cc) -ldl -lm

$(B)/bench/blocks-hakmem: $(BLOCKS_C)
$(B)/bench/traces-hakmem: $(TRACES_C)
$(B)/bench/blocks-hakmem $(B)/bench/traces-hakmem: $(B)/libhakmem.a $(BENCH_H) Makefile
	@mkdir -p $(@D)
	$(call say,CC) $(bench_cc) -ldl -lm

$(B)/bench/larson-malloc: csrc/bench/larson_hakmem.c $(BENCH_H) Makefile
	@mkdir -p $(@D)
	$(call say,CC) $(bench_cc) -DUSE_MALLOC

$(B)/bench/launch-malloc: csrc/bench/launch.c Makefile
	@mkdir -p $(@D)
	$(call say,CC) $(bench_cc)

$(B)/bench/blocks-malloc: $(BLOCKS_C)
$(B)/bench/traces-malloc: $(TRACES_C)
$(B)/bench/blocks-malloc $(B)/bench/traces-malloc: $(BENCH_H) Makefile
	@mkdir -p $(@D)
	$(call say,CC) $(bench_cc) -DUSE_MALLOC -lm

-include $(shell find $(addprefix $(B)/,obj spec examples tools) -name '*.d' 2>/dev/null)

# ---- packages ------------------------------------------------------------------------------------

# dkjson and iso-codes: what the quick start reads. One interpreter and one set of headers per Lua ABI.
# From g++ on: what runs under the drop-in malloc. The rest: what the tests and checks call.
PACKAGES := gcc make libc6-dev binutils pkg-config spin \
  lua5.1 lua5.2 lua5.3 lua5.4 luajit \
  liblua5.1-0-dev liblua5.2-dev liblua5.3-dev liblua5.4-dev libluajit-5.1-dev \
  iso-codes lua-cjson lua-dkjson lua-busted luarocks \
  g++ bash perl python3 libpython3.11-testsuite git sqlite3 redis-server redis-tools nginx curl
# Real hosts for examples/hosts, their clients, promtool. The Lua module of nginx would replace LuaJIT:
# those packages are unpacked in a folder of their own.
PACKAGES_HOSTS := haproxy prosody lighttpd lighttpd-modules-lua knot-resolver tshark \
  apache2-utils knot-dnsutils lua-socket prometheus
PACKAGES_NGINX := libnginx-mod-http-lua libnginx-mod-http-ndk lua-resty-core lua-resty-lrucache \
  libluajit2-5.1-2 libluajit2-5.1-common
PACKAGES_CHECK := clang clang-format lua-check musl-tools gcovr
PACKAGES_BENCH := libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4 valgrind gnuplot-nox

deps: ## install the Debian packages that building and testing need (nothing when all are there)
	@csrc/tools/deps $(PACKAGES)
deps-hosts:
	@csrc/tools/deps $(PACKAGES) $(PACKAGES_HOSTS)
	@csrc/tools/unpack $(abspath $(B))/hosts/nginx $(PACKAGES_NGINX)
deps-check:
	@csrc/tools/deps $(PACKAGES) $(PACKAGES_CHECK)
deps-bench:
	@csrc/tools/deps $(PACKAGES) $(PACKAGES_BENCH)

# ---- running -------------------------------------------------------------------------------------

LUA_ABI = $(if $(filter luajit%,$(LUA)),5.1,$(patsubst lua%,%,$(LUA)))

run: deps ## install what is missing, build, and run the quick start
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	@eval "$$($(MAKE) -s --no-print-directory env)" && $(LUA) examples/quickstart.lua

env: ## print the exports that make the built tree usable in place: eval "$(make -s env)"
	@echo 'export LUA_PATH="$(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;;"'
	@echo 'export LUA_CPATH="$(abspath $(B))/lua/$(LUA_ABI)/?.so;;"'
	@echo 'export LD_LIBRARY_PATH="$(abspath $(B))$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}"'

hosts: deps-hosts ## build, with what examples/hosts needs: nginx, HAProxy, Prosody, ...
	@$(MAKE) --no-print-directory -s -j$(JOBS) all

BENCH_PARTS := blocks programs shards traces
bench: deps-bench ## compare speed and memory with other allocators
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@csrc/bench/run $(BENCH)
	$(if $(filter-out --quick --save,$(BENCH)),,@for part in $(BENCH_PARTS); do \
	  csrc/bench/run --$$part $(filter --quick,$(BENCH)) || exit 1; done)

# ---- testing -------------------------------------------------------------------------------------

RUN_SPECS = BUILD=$(abspath $(B)) FLAVOR=$(FLAVOR) TEST_SHORT=$(TEST_SHORT) spec/run

test: deps-hosts ## install what is missing, build, run every test on every interpreter
	@$(MAKE) --no-print-directory -j$(JOBS) all programs
	@$(MAKE) --no-print-directory -j$(JOBS) FLAVOR=audit audit-programs
	@$(RUN_SPECS)

# The tests of one flavour: `make flavour-test FLAVOR=audit`.
flavour-test:
	@$(MAKE) --no-print-directory -s -j$(JOBS) all programs
	@$(RUN_SPECS) $(KINDS)

asan: deps-check ## tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory flavour-test FLAVOR=asan KINDS="c crash lua"
tsan: deps-check ## C tests under ThreadSanitizer
	@$(MAKE) --no-print-directory flavour-test FLAVOR=tsan KINDS="c"
audit: deps ## C tests with every internal check, fault injection and seeded schedules
	@$(MAKE) --no-print-directory flavour-test FLAVOR=audit KINDS="c crash preload"

models: deps ## check the models of the lock-free protocols with Spin (a minute or two)
	@BUILD=$(CURDIR)/build spec/models/run

# The modules are left out: one source at different lines in each ABI.
COVERED := $(sort $(dir $(CORE_OBJ:$(B)/%=%)))
coverage: deps-check ## C tests with coverage; report in build/coverage/report
	-@$(MAKE) --no-print-directory flavour-test FLAVOR=coverage KINDS="c crash"
	@mkdir -p build/coverage/report
	cd build/coverage && gcovr -r ../.. --filter ../../csrc/ --object-directory . --delete \
	  --html-details report/index.html --txt report/report.txt $(COVERED)
	@tail -n 4 build/coverage/report/report.txt

# ---- checking ------------------------------------------------------------------------------------

C_FILES = $(shell find csrc spec examples -name '*.[ch]')

check: deps-check ## warnings of two compilers, lint, layers, generated docs
	@$(MAKE) --no-print-directory -s -j$(JOBS) B=build/check-gcc CC=gcc WERROR=1 all programs
	@$(MAKE) --no-print-directory -s -j$(JOBS) B=build/check-clang CC=clang WERROR=1 all programs
	@$(MAKE) --no-print-directory -s -j$(JOBS) B=build/check-audit CC=gcc FLAVOR=audit WERROR=1 all programs
	@$(MAKE) --no-print-directory -s -j$(JOBS) B=build/check-musl CC=musl-gcc WERROR=1 libs
	@$(MAKE) --no-print-directory -s lint
	@lua5.4 /usr/bin/busted --output=plainTerminal spec/layers_spec.lua
	@$(MAKE) --no-print-directory -s docs-fresh
	@echo "check: all good"

lint: ## clang-format and luacheck
	@clang-format --dry-run -Werror $(C_FILES)
	@luacheck -q lua spec examples csrc

docs: $(B)/tools/reference ## write csrc/REFERENCE.md from the .def files
	@$(B)/tools/reference > csrc/REFERENCE.md

docs-fresh: $(B)/tools/reference
	@$(B)/tools/reference | diff -u csrc/REFERENCE.md - || \
	  { echo "csrc/REFERENCE.md is stale: run make docs"; exit 1; }

# ---- installing ----------------------------------------------------------------------------------

define PC
prefix=$(PREFIX)
libdir=$(LIBDIR)
includedir=$${prefix}/include

Name: hakmem
Description: embeddable arena allocator
Version: $(VERSION)
Libs: -L$${libdir} -lhakmem
Libs.private: -pthread -ldl
Cflags: -I$${includedir}
endef
export PC

install: all ## install into PREFIX (below DESTDIR)
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 644 csrc/include/*.h $(DESTDIR)$(PREFIX)/include
	install -m 644 $(B)/libhakmem.a $(DESTDIR)$(LIBDIR)
	install -m 755 $(B)/libhakmem.so.0 $(PRELOAD) $(DESTDIR)$(LIBDIR)
	ln -sf libhakmem.so.0 $(DESTDIR)$(LIBDIR)/libhakmem.so
	echo "$$PC" > $(DESTDIR)$(LIBDIR)/pkgconfig/hakmem.pc
	for v in $(ABIS); do \
	  install -d $(DESTDIR)$(PREFIX)/share/lua/$$v/hakmem $(DESTDIR)$(LIBDIR)/lua/$$v/hakmem && \
	  install -m 644 lua/hakmem/*.lua $(DESTDIR)$(PREFIX)/share/lua/$$v/hakmem && \
	  install -m 755 $(B)/lua/$$v/hakmem/core.so $(DESTDIR)$(LIBDIR)/lua/$$v/hakmem || exit 1; \
	done

clean: ## remove build/
	rm -rf build

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14

.PHONY: all libs modules benches programs audit-programs deps deps-check deps-hosts deps-bench run env hosts bench test flavour-test asan tsan audit models \
  coverage check lint docs docs-fresh install clean help
