-- programs_rows.lua - programs of others, whole, each with malloc replaced.

local rows = {}

local section = { id = "programs", title = "Real programs", time = "time, ms" }
rows.sections = { section }

local given = {
  { "sqlite3", "sqlite3, a database in memory", "sh", "-c",
    "sqlite3 -batch :memory: < csrc/bench/programs/sales.sql" },
  { "python3", "python3, objects and JSON", "/usr/bin/python3", "csrc/bench/programs/objects.py" },
  { "python3-malloc", "… without its own pools", "env", "PYTHONMALLOC=malloc", "/usr/bin/python3",
    "csrc/bench/programs/objects.py" },
  { "lua-json", "lua5.4, json", "lua5.4", "csrc/bench/lua/json.lua", "800" },
  { "lua-trees", "lua5.4, trees", "lua5.4", "csrc/bench/lua/trees.lua", "13" },
  { "lua-cache", "lua5.4, cache", "lua5.4", "csrc/bench/lua/cache.lua", "90000" },
  { "redis", "redis-server and redis-benchmark", "csrc/bench/programs/redis.sh" },
  { "gcc", "gcc -O2, a file of hakmem", "gcc", "-std=gnu11", "-O2", "-Icsrc", "-c", "csrc/pool/bigcache.c", "-o",
    "/dev/null" },
}

rows.all = {}
for i, list in ipairs(given) do
  local words = table.move(list, 3, #list, 1, {})
  rows.all[i] = {
    id = list[1], title = list[2], section = section, program = "launch", arguments = function() return words end,
  }
end
section.rows = rows.all

return rows
