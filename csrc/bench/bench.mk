# The benchmark's host programs, one for each VM; csrc/bench/run calls this in the top folder.
CC ?= cc
BENCH_CFLAGS = -std=gnu11 -O2 -g -Wall -Wextra -Icsrc

bench-hosts: build/bench/luahost-lua5.4 build/bench/luahost-luajit

build/libhakmem.a: FORCE
	@$(MAKE) --no-print-directory -s libs

build/bench/luahost-%: csrc/bench/luahost.c csrc/bench/bench.mk build/libhakmem.a
	@mkdir -p build/bench
	$(CC) $(BENCH_CFLAGS) $$(pkg-config --cflags $*) -o $@ $< build/libhakmem.a \
	  $$(pkg-config --libs $*) -pthread -lm

FORCE:
.PHONY: bench-hosts FORCE
