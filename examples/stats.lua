-- stats.lua - the numbers, as a program reads them and as Prometheus scrapes them.

local hakmem = require "hakmem"

local arena = assert(hakmem.arena { name = "sessions", limit = "32M" })
local sessions = {}
for i = 1, 2000 do sessions[i] = assert(arena:buffer(100 + i % 900)) end
for i = 1, 2000, 2 do sessions[i]:free() end -- every other one has ended

-- One number by its dotted name, of the process or of one arena.
print("live in the process:", hakmem.stats "allocated")
print("live in the arena:  ", arena:stats "allocated")

-- Or all of them, in a plain nested table that is yours.
local s = arena:stats()
print(("%s (%s): %d blocks, %d slabs, %d refills"):format(s.name, s.kind, s.blocks, s.small.slabs,
  s.small.refills))

-- What always holds, for the process and for each arena.
assert(s.allocated + s.waste == s.active)
assert(s.active + s.cached + s.purged + s.reserved + s.metadata == s.mapped)
assert(s.charged <= s.peak and s.peak <= s.hard)
print(("waste: %.1f %% of what is active"):format(100 * s.waste / s.active))

-- All arenas, largest first.
local arenas = hakmem.stats().arenas
table.sort(arenas, function(a, b) return a.charged > b.charged end)
for _, a in ipairs(arenas) do
  print(("%-10s %-8s charged %8d, peak %8d"):format(a.name, a.kind, a.charged, a.peak))
end

-- What an HTTP handler for /metrics returns; here, a few lines of it.
local metrics = hakmem.report "prometheus"
for line in metrics:gmatch "[^\n]+" do
  if line:find "hakmem_arena_charged_bytes" or line:find "^hakmem_resident" then print(line) end
end

-- The same for programs that read JSON (hakmem.report "json") and for people (hakmem.report()).
assert(hakmem.report("json"):find '"name":"sessions"')
arena:close()
