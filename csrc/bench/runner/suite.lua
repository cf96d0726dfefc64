-- suite.lua - what is measured: the programs with their sizes, the allocators.

local suite = {}

-- Sizes: `lua` and `jit` for wall time (some 0.3 to 0.6 s on Lua 5.4), `count` for instructions.
-- `quick` divides the work of the timed runs by about four.
suite.programs = {
  { name = "trees", lua = 13, jit = 15, count = 12, quick = { lua = 11, jit = 13 } },
  { name = "strings", lua = 1400, jit = 2600, count = 300 },
  { name = "kfreq", lua = 36000, jit = 60000, count = 10000 },
  { name = "json", lua = 1200, jit = 2000, count = 300 },
  { name = "closures", lua = 25000, jit = 30000, count = 6000 },
  { name = "coros", lua = 4000, jit = 9000, count = 1000 },
  { name = "sort", lua = 8000, jit = 16000, count = 2000 },
  { name = "cache", lua = 90000, jit = 150000, count = 25000 },
  { name = "parse", lua = 650, jit = 1000, count = 200 },
  { name = "matrix", lua = 130, jit = 250, count = 50 },
  { name = "objects", lua = 300, jit = 1500, count = 80 },
  { name = "events", lua = 70000, jit = 170000, count = 20000 },
}

function suite.size(program, kind, quick)
  local size = program[kind]
  if not quick or kind == "count" then return size end
  return program.quick and program.quick[kind] or size // 4
end

-- `mode` is the host program's name of it. `peer`: what the bars compare hakmem with.
suite.allocators = {
  { name = "hakmem", mode = "hakmem" },
  { name = "glibc", mode = "malloc", peer = true },
  { name = "jemalloc", mode = "malloc", preload = "libjemalloc.so.2", peer = true },
  { name = "mimalloc", mode = "malloc", preload = "libmimalloc.so.2.0", peer = true },
  { name = "tcmalloc", mode = "malloc", preload = "libtcmalloc_minimal.so.4", peer = true },
  { name = "own", mode = "own", peer = true, jit_only = true },
  { name = "bump", mode = "bump", count_only = true },
}
-- The drop-in malloc: beside hakmem where the programs that run on the peers can run on it.
suite.drop_in = { name = "preload", mode = "malloc", preload = "build/libhakmem-preload.so" }

suite.vms = {
  { name = "lua5.4", title = "Lua 5.4", size = "lua" },
  { name = "luajit", title = "LuaJIT", size = "jit" },
}

function suite.find(list, name)
  for _, item in ipairs(list) do
    if item.name == name then return item end
  end
  return nil
end

return suite
