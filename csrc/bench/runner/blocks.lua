-- blocks.lua - the block benchmarks: hakmem and its peers, row by row, into tables.

local m = require "math_stats"
local output = require "output"
local plot = require "plot"
local samples = require "samples"
local trials = require "trials"

local blocks = {}

local median, number, ratios = samples.median, samples.number, samples.ratios

local function compared(row, allocators)
  return row.hakmem and samples.best_peer(row, allocators, "time") ~= nil
end

-- ---- tables ------------------------------------------------------------------------------------

-- One section by `key`: "time" or "peak".
local function section_table(section, rows, result, allocators, key)
  local what = key == "time" and (section.time or "ns for an allocation and a free") or "peak RSS, MiB"
  local t = { title = section.title .. ": " .. what, head = { "" }, rows = {} }
  for _, allocator in ipairs(allocators) do table.insert(t.head, allocator.name) end
  for _, text in ipairs { "best peer", "hakmem / best", "spread" } do table.insert(t.head, text) end
  for _, row in ipairs(rows) do
    local s, cells = result[row.id], { row.title }
    for _, allocator in ipairs(allocators) do
      table.insert(cells, number(median(s, allocator.name, key), key))
    end
    if compared(s, allocators) then
      local best = samples.best_peer(s, allocators, key)
      local list = ratios(s, best, key)
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
    local s = result[row.id]
    if s.hakmem and s[name] then list[#list + 1] = m.median(ratios(s, name, key)) end
  end
  return #list > 0 and m.geomean(list) or nil
end

-- Against the best peer of each row, whichever that is.
local function mean_best(rows, result, allocators, key)
  local list = {}
  for _, row in ipairs(rows) do
    list[#list + 1] = samples.best_ratio(result[row.id], allocators, key)
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

-- What a section is held to, row by row: { what it is called, the most, ratio(s) and its peer }.
local function bars_of(section, allocators)
  local list = {
    { "time against the best peer", samples.FASTER, function(s)
      return samples.best_ratio(s, allocators, "time")
    end },
    { "RSS against the smallest peer that is not 20 % slower", samples.SMALLER, function(s)
      return samples.peak_ratio(s, allocators)
    end },
  }
  if section.same_rss then
    list[1] = { "time against the best peer that needs no more memory", samples.FASTER, function(s)
      local peak = median(s, "hakmem", "peak")
      return samples.best_ratio(s, allocators, "time", nil, function(name)
        return median(s, name, "peak") <= samples.FASTER * peak
      end)
    end }
  end
  return list
end

-- Each row of a section against what it is held to.
local function verdicts_table(section, rows, result, allocators)
  if not section.every_row then return nil end
  local t = { title = section.title .. ": row by row", head = { "" }, rows = {}, notes = {} }
  local list, any = bars_of(section, allocators), false
  for i, bar in ipairs(list) do
    for _, text in ipairs { i == 1 and "time" or "RSS", "against", ("≤ %.2f"):format(bar[2]) } do
      table.insert(t.head, text)
    end
    table.insert(t.notes, (i == 1 and "Time: " or "RSS: ") .. bar[1]:gsub("^%a+ ", "") .. ".")
  end
  table.insert(t.notes, "–: there is no such peer.")
  for _, row in ipairs(rows) do
    local cells = { row.title }
    for _, bar in ipairs(list) do
      local value, peer = bar[3](result[row.id])
      any = any or value ~= nil
      table.insert(cells, value and ("%.2f"):format(value) or "–")
      table.insert(cells, peer or "–")
      table.insert(cells, value and samples.verdict(value, bar[2]) or "–")
    end
    table.insert(t.rows, cells)
  end
  return any and t or nil
end

-- The row with the largest `ratio(s)`; a row without one does not count.
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
    list[#list + 1] = { what, measured, ("≤ %.2f"):format(most), samples.verdict(value, most) }
  end
  local function bar_of_row(what, some, most, ratio)
    local worst = worst_row(some, result, ratio)
    if worst then bar(what, worst.value, most, worst.row.id) end
  end

  for _, section in ipairs(sections) do
    if section.every_row then
      local some = rows_of(section, rows)
      for i, given in ipairs(bars_of(section, allocators)) do
        bar_of_row(i == 1 and ("%s: slowest row, %s"):format(section.title, given[1])
          or "… largest row, " .. given[1], some, given[2], given[3])
      end
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

-- Measures and writes NAME.txt, NAME.md, NAME.csv and a plot; returns whether every run went well.
function blocks.run(options, name, sections, rows, allocators)
  local out = output.open(options, name, "section,row,allocator,round,time,peak_kib")
  local good
  options.log = function(row, allocator, round, values)
    out:log(row.section.id, row.id, allocator.name, round, values.time, values.peak_kib)
  end
  options.failed, good = output.failures()

  local result = trials.measure(options, rows, function() return allocators end)
  options.progress_done()
  for _, section in ipairs(sections) do
    local some = rows_of(section, rows)
    if #some > 0 then
      out:show(section_table(section, some, result, allocators, "time"))
      out:show(section_table(section, some, result, allocators, "peak"))
      out:show(verdicts_table(section, some, result, allocators))
    end
  end
  out:show(means_table(sections, rows, result, allocators))
  out:show(bars_table(sections, rows, result, allocators))
  out:close()
  plot.rows(options.out, name, rows, result, allocators)
  return good()
end

return blocks
