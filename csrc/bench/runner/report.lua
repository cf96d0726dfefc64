-- report.lua - measured data into tables.

local m = require "math_stats"

local report = {}

local function number(x, digits) return ("%." .. digits .. "f"):format(x) end
local function add(list, x) list[#list + 1] = x end

-- The fastest (or smallest) peer of one program by `key`.
local function best_peer(samples, allocators, key)
  local best
  for _, allocator in ipairs(allocators) do
    if allocator.peer then
      local value = m.median(samples[allocator.name][key])
      if not best or value < best.value then best = { name = allocator.name, value = value } end
    end
  end
  return best
end

-- Geometric means over the programs: mean[allocator].
function report.means(result, programs, allocators, key)
  local means = {}
  for _, allocator in ipairs(allocators) do
    local list = {}
    for i, program in ipairs(programs) do
      list[i] = m.median(result[program.name][allocator.name][key])
    end
    means[allocator.name] = m.geomean(list)
  end
  return means
end

-- The peer with the smallest geometric mean, and hakmem's mean ratio to it, taken round by round;
-- nil when either was left out.
function report.against_best(result, programs, allocators, key)
  if not result[programs[1].name].hakmem then return nil end
  local means = report.means(result, programs, allocators, key)
  local best
  for _, allocator in ipairs(allocators) do
    local name = allocator.name
    if allocator.peer and (not best or means[name] < means[best]) then best = name end
  end
  if not best then return nil end
  return best, report.ratio_to(result, programs, best, key)
end

-- hakmem's ratio to one allocator: geometric mean, and the worst program with its ratio.
function report.ratio_to(result, programs, base, key)
  local list, worst = {}, nil
  for i, program in ipairs(programs) do
    local samples = result[program.name]
    list[i] = m.median(m.ratios(samples.hakmem[key], samples[base][key]))
    if not worst or list[i] > worst.ratio then worst = { name = program.name, ratio = list[i] } end
  end
  return m.geomean(list), worst
end

-- hakmem's fastest run against the fastest run of any peer: what is left of a ratio when nothing
-- else ran on the machine.
local function minima_ratio(samples, allocators, key)
  local best = math.huge
  for _, allocator in ipairs(allocators) do
    if allocator.peer then best = math.min(best, m.minimum(samples[allocator.name][key])) end
  end
  return m.minimum(samples.hakmem[key]) / best
end

-- The same over all programs against one allocator, as a geometric mean.
function report.minima_to(result, programs, base, key)
  local list = {}
  for i, program in ipairs(programs) do
    local samples = result[program.name]
    list[i] = m.minimum(samples.hakmem[key]) / m.minimum(samples[base][key])
  end
  return m.geomean(list)
end

-- The program in which hakmem loses most to whichever peer is best there.
function report.worst(result, programs, allocators, key)
  local worst
  for _, program in ipairs(programs) do
    local samples = result[program.name]
    local best = best_peer(samples, allocators, key)
    local ratio = m.median(m.ratios(samples.hakmem[key], samples[best.name][key]))
    if not worst or ratio > worst.ratio then
      worst = { name = program.name, ratio = ratio, peer = best.name }
    end
  end
  return worst
end

local function names(allocators)
  local head = {}
  for i, allocator in ipairs(allocators) do head[i] = allocator.name end
  return head
end

local function has_peer(allocators)
  for _, allocator in ipairs(allocators) do
    if allocator.peer then return true end
  end
  return false
end

-- A suite table. key: "wall" or "peak"; scale and digits shape the figures.
function report.suite(result, programs, allocators, key, title, scale, digits)
  local hakmem = result[programs[1].name].hakmem ~= nil
  local compare = hakmem and has_peer(allocators)
  local t = { title = title, head = { "program", table.unpack(names(allocators)) }, rows = {} }
  if compare then
    for _, text in ipairs { "best peer", "hakmem / best", "spread", "of minima" } do
      add(t.head, text)
    end
  end
  for _, program in ipairs(programs) do
    local samples, row = result[program.name], { program.name }
    for _, allocator in ipairs(allocators) do
      add(row, number(m.median(samples[allocator.name][key]) / scale, digits))
    end
    if compare then
      local best = best_peer(samples, allocators, key)
      local ratios = m.ratios(samples.hakmem[key], samples[best.name][key])
      add(row, best.name)
      add(row, number(m.median(ratios), 3))
      add(row, ("± %.1f %%"):format(100 * m.spread(ratios)))
      add(row, number(minima_ratio(samples, allocators, key), 3))
    end
    add(t.rows, row)
  end
  if #programs > 1 then
    local means = report.means(result, programs, allocators, key)
    local row = { "geometric mean" }
    for _, allocator in ipairs(allocators) do
      add(row, number(means[allocator.name] / scale, digits))
    end
    if compare then
      local best, ratio = report.against_best(result, programs, allocators, key)
      add(row, best)
      add(row, number(ratio, 3))
      add(row, "")
      add(row, number(report.minima_to(result, programs, best, key), 3))
    end
    add(t.rows, "-")
    add(t.rows, row)
  end
  return t
end

-- added[program][allocator]: instructions inside the allocator above those inside bump.
function report.added(result, programs, allocators)
  local added = {}
  for _, program in ipairs(programs) do
    added[program.name] = {}
    for _, allocator in ipairs(allocators) do
      local counts = result[program.name]
      added[program.name][allocator.name] = counts[allocator.name].allocator - counts.bump.allocator
    end
  end
  return added
end

-- Geometric mean of the added instructions as a part of another allocator's. Bump copies where
-- others grow in place, so the difference may vanish: it counts as a hundredth of bump's at least.
function report.added_ratio(result, programs, name, base)
  local list = {}
  for i, program in ipairs(programs) do
    local counts = result[program.name]
    local bump = counts.bump.allocator
    list[i] = math.max(counts[name].allocator - bump, bump / 100)
      / math.max(counts[base].allocator - bump, bump / 100)
  end
  return m.geomean(list)
end

function report.instructions(result, programs, allocators)
  local added = report.added(result, programs, allocators)
  local compare = result[programs[1].name].mimalloc ~= nil
  local t = {
    title = "Lua 5.4: instructions added by the allocator, in millions (callgrind)",
    head = { "program", "all, bump", "in bump" },
    rows = {},
    notes = {
      "What is executed inside the allocator above what is executed inside bump, which never frees;",
      "x m: as a part of mimalloc's. all, bump: the whole program under bump.",
    },
  }
  for _, allocator in ipairs(allocators) do
    if allocator.name ~= "bump" then
      add(t.head, allocator.name)
      if compare and allocator.name == "hakmem" then add(t.head, "x m") end
    end
  end
  for _, program in ipairs(programs) do
    local counts = result[program.name]
    local row = { program.name, number(counts.bump.total / 1e6, 1),
      number(counts.bump.allocator / 1e6, 1) }
    for _, allocator in ipairs(allocators) do
      if allocator.name ~= "bump" then
        local more = added[program.name]
        add(row, ("%+.1f"):format(more[allocator.name] / 1e6))
        if compare and allocator.name == "hakmem" then
          add(row, number(more.hakmem / more.mimalloc, 2))
        end
      end
    end
    add(t.rows, row)
  end
  if compare and #programs > 1 then
    local row = { "geometric mean, x mimalloc", "", "" }
    for _, allocator in ipairs(allocators) do
      if allocator.name ~= "bump" then
        local ratio = number(report.added_ratio(result, programs, allocator.name, "mimalloc"), 2)
        add(row, ratio)
        if allocator.name == "hakmem" then add(row, ratio) end
      end
    end
    add(t.rows, "-")
    add(t.rows, row)
  end
  return t
end

function report.states(by_vm, vms, count, allocators)
  local t = {
    title = ("%d idle states with standard libraries: resident KiB of each"):format(count),
    head = { "", table.unpack(names(allocators)) },
    rows = {},
    notes = { "live: what the collector counts. Under hakmem each state has an arena of its own." },
  }
  add(t.head, "live")
  for _, vm in ipairs(vms) do
    local row, live = { vm.title }, nil
    for _, allocator in ipairs(allocators) do
      local values = by_vm[vm.name][allocator.name]
      live = live or values and values.live_kib_per_state
      add(row, values and number(values.rss_kib_per_state, 1) or "")
    end
    add(row, number(live, 1))
    add(t.rows, row)
  end
  return t
end

function report.teardown(by_vm, vms, count, allocators)
  local t = {
    title = ("A state of %d small tables: milliseconds to drop it"):format(count),
    head = { "", table.unpack(names(allocators)) },
    rows = {},
    notes = {},
  }
  for _, vm in ipairs(vms) do
    local row = { vm.title .. ", lua_close" }
    for _, allocator in ipairs(allocators) do
      local values = by_vm[vm.name][allocator.name]
      add(row, values and number(values.close_ns / 1e6, 1) or "")
    end
    add(t.rows, row)
    local values = by_vm[vm.name].hakmem
    if values then
      for _, way in ipairs { "finalize", "reset", "destroy" } do
        row = { vm.title .. (way == "finalize" and ", lua_close without frees" or ", hak_arena_" .. way) }
        local ms = number(values[way .. "_ns"] / 1e6, 4)
        for _, allocator in ipairs(allocators) do
          add(row, allocator.name == "hakmem" and ms or "")
        end
        add(t.rows, row)
      end
      add(t.notes, ("%s under hakmem: filled in %.0f ms, again after the reset in %.0f ms."):format(
        vm.title, values.fill_ns / 1e6, values.refill_ns / 1e6))
    end
  end
  return t
end

-- `fresh` on the allocator that luaL_newstate() has is what hosts do today: ratios are against that.
function report.requests(by_vm, vms, allocators)
  local t = {
    title = "A state for each request: microseconds, its whole life included",
    head = { "", table.unpack(names(allocators)) },
    rows = {},
    notes = {},
  }
  local ways = { { "fresh", "made and closed" }, { "reset", "made in a reset arena" },
    { "template", "restored from a template" } }
  for _, vm in ipairs(vms) do
    local values = by_vm[vm.name]
    local usual = values[vm.name == "luajit" and "own" or "glibc"]
    for _, way in ipairs(ways) do
      local row = { vm.title .. ", " .. way[2] }
      for _, allocator in ipairs(allocators) do
        local ns = values[allocator.name] and values[allocator.name][way[1] .. "_ns"]
        add(row, ns and number(ns / 1e3, 1) or "")
      end
      add(t.rows, row)
    end
    if usual and values.hakmem then
      local function ratio(way) return number(values.hakmem[way .. "_ns"] / usual.fresh_ns, 2) end
      add(t.notes, ("%s, hakmem against luaL_newstate() and lua_close(): made %s, in a reset arena %s, restored %s.")
        :format(vm.title, ratio "fresh", ratio "reset", ratio "template"))
    end
  end
  return t
end

-- One row for each question, for the README: what hakmem is compared with stands in the columns.
function report.summary(data, programs, allocators)
  local t = { title = "Summary", head = { "", table.unpack(names(allocators)) }, rows = {} }
  local function row(name, digits, value)
    local cells, found = { name }, false
    for _, allocator in ipairs(allocators) do
      local x = value(allocator.name)
      found = found or x ~= nil
      add(cells, x and number(x, digits) or "")
    end
    if found then add(t.rows, cells) end
  end
  for _, vm in ipairs(data.vms) do
    local suite = data.suites[vm.name]
    if suite then
      local wall = report.means(suite.result, programs, suite.allocators, "wall")
      local peak = report.means(suite.result, programs, suite.allocators, "peak")
      row(vm.title .. " suite, time, ms", 0, function(name)
        return wall[name] and wall[name] / 1e6
      end)
      row(vm.title .. " suite, peak RSS, MiB", 1, function(name) return peak[name] end)
    end
    local states = data.states[vm.name]
    if states then
      row(vm.title .. ", KiB for an idle state", 1, function(name)
        return states[name] and states[name].rss_kib_per_state
      end)
    end
    local teardown = data.teardown[vm.name]
    if teardown then
      row(vm.title .. ", ms to drop a million small tables", 2, function(name)
        local values = teardown[name]
        return values and (values.reset_ns or values.close_ns) / 1e6
      end)
    end
  end
  local counts = data.instructions
  if counts and counts[programs[1].name].mimalloc then
    row("Lua 5.4 suite, instructions added, mimalloc = 1", 2, function(name)
      return counts[programs[1].name][name]
        and report.added_ratio(counts, programs, name, "mimalloc")
    end)
  end
  return t
end

-- Where the instructions of an allocator are spent, function by function.
function report.functions(program, allocator, rows, total)
  local t = {
    title = ("%s: %.2f million instructions inside %s, by function"):format(program, total / 1e6,
      allocator),
    head = { "function", "millions", "of all" },
    rows = {},
  }
  for i = 1, math.min(16, #rows) do
    local part = rows[i].cost / total
    if part < 0.005 then break end
    add(t.rows, { rows[i].name, number(rows[i].cost / 1e6, 2), ("%.0f %%"):format(100 * part) })
  end
  return t
end

return report
