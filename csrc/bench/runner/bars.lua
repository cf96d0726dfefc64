-- bars.lua - the goals that hakmem has set itself, each with what was measured.

local report = require "report"

local bars = {}

local function bar(list, name, measured, goal, holds)
  list[#list + 1] = { name, measured, goal, holds and "holds" or "falls short" }
end

local function ratio(x) return ("%.3f"):format(x) end

-- With the ratio of the fastest runs beside the median.
local function timed(x, minima) return ("%.3f (minima %.3f)"):format(x, minima) end

local function wall_bars(list, data, programs)
  local lua = data.suites["lua5.4"]
  if lua then
    local result, allocators = lua.result, lua.allocators
    local best, mean = report.against_best(result, programs, allocators, "wall")
    if best then
      local minima = report.minima_to(result, programs, best, "wall")
      bar(list, "Lua 5.4 suite, wall time against " .. best, timed(mean, minima), "≤ 0.900",
        mean <= 0.90)
      local worst = report.worst(result, programs, allocators, "wall")
      bar(list, ("… its slowest program against the best peer there (%s, %s)"):format(worst.name,
        worst.peer), ratio(worst.ratio), "≤ 1.030", worst.ratio <= 1.03)
      best, mean = report.against_best(result, programs, allocators, "peak")
      bar(list, "Lua 5.4 suite, peak RSS against " .. best, ratio(mean), "≤ 1.000", mean <= 1)
    end
  end
  local jit = data.suites.luajit
  local first = jit and jit.result[programs[1].name]
  if first and first.own and first.hakmem then
    local mean, worst = report.ratio_to(jit.result, programs, "own", "wall")
    local minima = report.minima_to(jit.result, programs, "own", "wall")
    bar(list, "LuaJIT suite, wall time against its own allocator", timed(mean, minima), "≤ 0.900",
      mean <= 0.90)
    bar(list, ("… its slowest program (%s)"):format(worst.name), ratio(worst.ratio), "≤ 1.030",
      worst.ratio <= 1.03)
    local best, peak = report.against_best(jit.result, programs, jit.allocators, "peak")
    if best then
      bar(list, "LuaJIT suite, peak RSS against " .. best, ratio(peak), "≤ 1.000", peak <= 1)
    end
  end
end

local function state_bars(list, data)
  local lua, jit = data.states["lua5.4"], data.states.luajit
  if lua and lua.hakmem then
    local kib = lua.hakmem.rss_kib_per_state
    bar(list, "KiB for an idle Lua 5.4 state", ("%.1f"):format(kib), "≤ 24.5", kib <= 24.5)
    bar(list, "… what it is to become", ("%.1f"):format(kib), "≤ 22.0", kib <= 22)
    if lua.glibc then
      local glibc = lua.glibc.rss_kib_per_state
      bar(list, "… against glibc in this run", ("%.1f"):format(kib), ("≤ %.1f"):format(glibc),
        kib <= glibc)
    end
  end
  if jit and jit.hakmem then
    local kib = jit.hakmem.rss_kib_per_state
    bar(list, "KiB for an idle LuaJIT state", ("%.1f"):format(kib), "≤ 44.0", kib <= 44)
  end
end

-- Every bar whose figures were measured, as a table.
function bars.table(data, programs)
  local list = {}
  local counts = data.instructions
  if counts and counts[programs[1].name].mimalloc and counts[programs[1].name].hakmem then
    local added = report.added_ratio(counts, programs, "hakmem", "mimalloc")
    bar(list, "Lua 5.4 suite, added instructions against mimalloc", ("%.2f"):format(added),
      "≤ 0.50", added <= 0.50)
    bar(list, "… what is aimed for", ("%.2f"):format(added), "≤ 0.35", added <= 0.35)
  end
  wall_bars(list, data, programs)
  state_bars(list, data)
  for _, vm in ipairs(data.vms) do
    local values = data.teardown[vm.name] and data.teardown[vm.name].hakmem
    if values then
      local ms = values.reset_ns / 1e6
      bar(list, vm.title .. ": ms to drop a million small tables, chunks reused",
        ("%.4f"):format(ms), "≤ 1", ms <= 1)
    end
  end
  if #list == 0 then return nil end
  return { title = "The bars", head = { "geometric means", "measured", "goal", "" }, rows = list }
end

return bars
