-- blocks.lua - the block benchmarks: hakmem and its peers, row by row, into tables.

local host = require "host"
local m = require "math_stats"
local tables = require "tables"

local blocks = {}

-- Where the programs are: hakmem's are linked with it, all others run the malloc ones.
local function command(options, allocator, program, arguments)
  local path
  if program == "larson" and not allocator.preload and allocator.name == "hakmem" then
    path = options.programs .. "/../larson_hakmem"
  else
    path = ("%s/%s-%s"):format(options.programs, program,
      allocator.name == "hakmem" and "hakmem" or "malloc")
  end
  local words = {}
  for i, argument in ipairs(arguments) do words[i] = "'" .. tostring(argument) .. "'" end
  return ("cd '%s' && %stimeout 120 %s %s"):format(options.root,
    allocator.preload and "LD_PRELOAD=" .. allocator.preload .. " " or "", path,
    table.concat(words, " "))
end

local malloc = { name = "malloc" }

-- Memory to touch before a run, in KiB; no more than 4 GiB, for that takes time.
local function warm(options, need)
  local mib = math.min(4096, math.ceil(need / 1024) + 64)
  host.start(command(options, malloc, "blocks", { "touch", mib }))()
end

local function run(options, allocator, row, round)
  local arguments = row.arguments(options.ms, round)
  local values = host.values(host.start(command(options, allocator, row.program, arguments))())
  local ns = values.ns_per_pair or values.mops and 1000 / values.mops
  if not ns or not values.peak_kib then error("no figures", 0) end
  return ns, values.peak_kib
end

-- result[row.id][allocator.name] = { time = {...}, peak = {...} }, one sample a round. A row is run
-- by all allocators in turn; who is first rotates. What fails once is left out of its row.
function blocks.measure(options, rows, allocators)
  local result, need = {}, {}
  for _, row in ipairs(rows) do
    result[row.id] = {}
    for _, a in ipairs(allocators) do result[row.id][a.name] = { time = {}, peak = {} } end
  end
  for round = 1, options.rounds do
    for _, row in ipairs(rows) do
      options.progress("round %d of %d, %s", round, options.rounds, row.id)
      local most = 0
      for turn = 1, #allocators do
        local allocator = allocators[(turn + round) % #allocators + 1]
        local sample = result[row.id][allocator.name]
        if sample then
          warm(options, need[row.id] or 0)
          local ok, ns, peak = pcall(run, options, allocator, row, round)
          if ok then
            sample.time[round], sample.peak[round] = ns, peak / 1024
            most = math.max(most, peak)
            options.log(row.section.id, row.id, allocator.name, round, ns, peak)
          else
            result[row.id][allocator.name] = nil
            options.failed(row, allocator, ns)
          end
        end
      end
      need[row.id] = most
    end
  end
  return result
end

-- ---- reading the samples -----------------------------------------------------------------------

local function median(samples, name, key) return samples[name] and m.median(samples[name][key]) end

-- The peer with the smallest median in one row, among those that `fits`.
local function best_peer(samples, allocators, key, fits)
  local best, least
  for _, allocator in ipairs(allocators) do
    local value = allocator.peer and median(samples, allocator.name, key)
    if value and (not least or value < least) and (not fits or fits(allocator.name)) then
      best, least = allocator.name, value
    end
  end
  return best, least
end

local function ratios(samples, name, key)
  return m.ratios(samples.hakmem[key], samples[name][key])
end

local function number(x, key)
  if not x then return "failed" end
  if key == "peak" then return ("%.1f"):format(x) end
  return (x < 100 and "%.1f" or "%.0f"):format(x)
end

local function compared(samples, allocators)
  return samples.hakmem and best_peer(samples, allocators, "time") ~= nil
end

-- One section by `key`: "time" or "peak".
local function section_table(section, rows, result, allocators, key)
  local what = key == "time" and "ns for an allocation and a free" or "peak RSS, MiB"
  local t = { title = section.title .. ": " .. what, head = { "" }, rows = {} }
  for _, allocator in ipairs(allocators) do table.insert(t.head, allocator.name) end
  for _, text in ipairs { "best peer", "hakmem / best", "spread" } do table.insert(t.head, text) end
  for _, row in ipairs(rows) do
    local samples, cells = result[row.id], { row.title }
    for _, allocator in ipairs(allocators) do
      table.insert(cells, number(median(samples, allocator.name, key), key))
    end
    if compared(samples, allocators) then
      local best = best_peer(samples, allocators, key)
      local list = ratios(samples, best, key)
      table.insert(cells, best)
      table.insert(cells, ("%.2f"):format(m.median(list)))
      table.insert(cells, ("± %.0f %%"):format(100 * m.spread(list)))
    end
    table.insert(t.rows, cells)
  end
  return t
end

local function rows_of(section, rows)
  local list = {}
  for _, row in ipairs(rows) do
    if not section or row.section == section then list[#list + 1] = row end
  end
  return list
end

-- hakmem's geometric mean ratio to one peer over the rows that both went through; nil: none.
local function mean_ratio(rows, result, name, key)
  local list = {}
  for _, row in ipairs(rows) do
    local samples = result[row.id]
    if samples.hakmem and samples[name] then
      list[#list + 1] = m.median(ratios(samples, name, key))
    end
  end
  return #list > 0 and m.geomean(list) or nil
end

-- Against the best peer of each row, whichever that is.
local function mean_best(rows, result, allocators, key)
  local list = {}
  for _, row in ipairs(rows) do
    local samples = result[row.id]
    if compared(samples, allocators) then
      list[#list + 1] = m.median(ratios(samples, best_peer(samples, allocators, key), key))
    end
  end
  return #list > 0 and m.geomean(list) or nil
end

-- The peer to which hakmem's mean ratio is largest.
local function hardest_peer(rows, result, allocators, key)
  local name, most
  for _, allocator in ipairs(allocators) do
    local ratio = allocator.peer and mean_ratio(rows, result, allocator.name, key)
    if ratio and (not most or ratio > most) then name, most = allocator.name, ratio end
  end
  return name, most
end

local function means_table(sections, rows, result, allocators)
  local t = {
    title = "hakmem's ratio to each peer: geometric means", head = { "" }, rows = {},
    notes = { "Below 1: hakmem is faster, or smaller. Best: the best peer of each single row." },
  }
  for _, allocator in ipairs(allocators) do
    if allocator.peer then table.insert(t.head, allocator.name) end
  end
  table.insert(t.head, "best")
  local function add(title, list, key)
    local cells = { title .. (key == "time" and ", time" or ", peak RSS") }
    for _, allocator in ipairs(allocators) do
      if allocator.peer then
        local ratio = mean_ratio(list, result, allocator.name, key)
        table.insert(cells, ratio and ("%.3f"):format(ratio) or "–")
      end
    end
    local best = mean_best(list, result, allocators, key)
    table.insert(cells, best and ("%.3f"):format(best) or "–")
    table.insert(t.rows, cells)
  end
  for _, key in ipairs { "time", "peak" } do
    for _, section in ipairs(sections) do
      local list = rows_of(section, rows)
      if #list > 0 then add(section.title, list, key) end
    end
    add("all rows", rows, key)
    if key == "time" then table.insert(t.rows, "-") end
  end
  return t
end

-- ---- the bars ----------------------------------------------------------------------------------

-- The row with the largest `ratio(samples)`; a row without one does not count.
local function worst_row(rows, result, ratio)
  local worst
  for _, row in ipairs(rows) do
    local value = ratio(result[row.id])
    if value and (not worst or value > worst.value) then worst = { value = value, row = row } end
  end
  return worst
end

local function bars_table(sections, rows, result, allocators)
  local list = {}
  local function bar(what, value, most, detail)
    local measured = detail and ("%.2f (%s)"):format(value, detail) or ("%.3f"):format(value)
    list[#list + 1] = { what, measured, ("≤ %.2f"):format(most),
      value <= most and "holds" or "falls short" }
  end
  local function bar_of_row(what, some, most, ratio)
    local worst = worst_row(some, result, ratio)
    if worst then bar(what, worst.value, most, worst.row.id) end
  end

  for _, section in ipairs(sections) do
    if section.id ~= "small" then
      local some = rows_of(section, rows)
      bar_of_row(section.title .. ": slowest row against the best peer", some, 1.03, function(s)
        return compared(s, allocators) and
          m.median(ratios(s, best_peer(s, allocators, "time"), "time"))
      end)
      bar_of_row("… RSS against the smallest peer that is not 20 % slower", some, 1.25,
        function(s)
          if not s.hakmem then return nil end
          local ours = m.median(s.hakmem.time)
          local best = best_peer(s, allocators, "peak", function(name)
            return median(s, name, "time") <= 1.2 * ours
          end)
          return best and m.median(ratios(s, best, "peak"))
        end)
    end
  end
  local hardest, most = hardest_peer(rows, result, allocators, "time")
  if hardest then bar("All rows: time against the best peer, " .. hardest, most, 0.95) end
  bar_of_row("… slowest row against mimalloc", rows, 1.15, function(s)
    return s.hakmem and s.mimalloc and m.median(ratios(s, "mimalloc", "time"))
  end)
  local rss = mean_ratio(rows, result, "mimalloc", "peak")
  if rss then bar("… peak RSS against mimalloc", rss, 1.00) end
  if #list == 0 then return nil end
  return { title = "The bars", head = { "", "measured", "goal", "" }, rows = list }
end

-- ---- all of it ---------------------------------------------------------------------------------

-- Measures and writes blocks.txt, blocks.md and blocks.csv; returns whether every run went well.
function blocks.run(options, sections, rows, allocators)
  local csv = assert(io.open(options.out .. "/blocks.csv", "w"))
  csv:write("section,row,allocator,round,ns_per_pair,peak_kib\n")
  options.log = function(...) csv:write(table.concat({ ... }, ","), "\n") end
  local failures = {}
  options.failed = function(row, allocator, message)
    failures[#failures + 1] = ("%s under %s: %s"):format(row.id, allocator.name, message)
  end

  local result = blocks.measure(options, rows, allocators)
  options.progress_done()
  csv:close()
  local text = assert(io.open(options.out .. "/blocks.txt", "w"))
  local markdown = assert(io.open(options.out .. "/blocks.md", "w"))
  text:write(options.headline)
  markdown:write("# ", options.headline, "\n")
  local function show(t)
    if not t then return end
    local plain = tables.text(t)
    io.write(plain)
    text:write(plain)
    markdown:write(tables.markdown(t, 2), "\n")
  end
  for _, section in ipairs(sections) do
    local some = rows_of(section, rows)
    if #some > 0 then
      show(section_table(section, some, result, allocators, "time"))
      show(section_table(section, some, result, allocators, "peak"))
    end
  end
  show(means_table(sections, rows, result, allocators))
  show(bars_table(sections, rows, result, allocators))
  text:close()
  markdown:close()
  for _, line in ipairs(failures) do print("failed: " .. line) end
  return #failures == 0
end

return blocks
