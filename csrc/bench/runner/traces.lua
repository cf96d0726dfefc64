-- traces.lua - fixed traces of big blocks: hit rates of both schemes of the cache, time and memory
-- beside the peers, what is held against the budget, what stays, the worst call while it grows.

local host = require "host"
local m = require "math_stats"
local output = require "output"
local samples = require "samples"
local trials = require "trials"

local traces = {}

local BUDGET_MIB = 1024
local GROWTH_RUNS, GROWTH_BLOCKS, GROWTH_BUCKETS, GROWTH_MOST_US = 5, 30000, 65536, 100
local DEFAULT, FIXED = "dynamic", "fixed"

-- goal: hits of a hundred look-ups. few: requests when all pages are touched, for that takes time.
local kinds = {
  { name = "sites", goal = 95, few = 5000 },
  { name = "random", goal = 90, few = 5000 },
  { name = "burst", goal = 95 },
}

local function scheme(mode)
  return { name = mode, mode = "hakmem",
    env = { HAKMEM_BIGCACHE_MODE = mode, HAKMEM_BIGCACHE_MAX_BYTES = BUDGET_MIB .. "M" } }
end

local schemes = { scheme(FIXED), scheme(DEFAULT) }

local function row_of(kind, threads, touch, requests, suffix)
  local all = touch == "all"
  requests = requests or all and kind.few
  return {
    id = ("%s-%d%s%s"):format(kind.name, threads, all and "-all" or "", suffix or ""), kind = kind,
    title = ("%s%s, %d thread%s%s"):format(kind.name, suffix and " of " .. requests or "", threads,
      threads > 1 and "s" or "", all and ", all pages touched" or ""),
    program = "traces", goal = not suffix and kind.goal,
    arguments = function(ms)
      local list = { kind.name, "--threads=" .. threads, "--touch=" .. touch, "--ms=" .. ms }
      if requests then list[#list + 1] = "--requests=" .. requests end
      return list
    end,
  }
end

local rows = {}
for _, kind in ipairs(kinds) do
  for _, touch in ipairs { "first", "all" } do
    for _, threads in ipairs { 1, 2, 8 } do rows[#rows + 1] = row_of(kind, threads, touch) end
  end
end
-- 2,000 blocks above 1 MiB are more than the budget; 800 are not.
for _, threads in ipairs { 1, 8 } do
  local row = row_of(kinds[3], threads, "first", 800, "-800")
  row.ours_only = true
  rows[#rows + 1] = row
end

local function peers_of(allocators)
  local list = {}
  for _, allocator in ipairs(allocators) do
    if allocator.peer then list[#list + 1] = allocator end
  end
  return list
end

local COLUMNS = { "time", "peak", "hit_rate", "warm_rate", "hits", "hits_front", "hits_site", "hits_class",
  "hits_purged", "misses", "buckets", "entries", "bytes", "resizes", "evictions" }

local function figures(values)
  local kept = {}
  for _, key in ipairs(COLUMNS) do kept[key] = values[key] end
  return kept
end

-- ---- hit rates, time, memory -------------------------------------------------------------------

local function per_cent(x) return x and ("%.1f %%"):format(100 * x) or "–" end

local function rate(s, name) return samples.median(s, name, "hit_rate") end

-- A part of the look-ups, in per cent.
local function part(s, name, key)
  local value, hits = samples.median(s, name, key), samples.median(s, name, "hits")
  local misses = samples.median(s, name, "misses")
  if not value or not hits or not misses or hits + misses == 0 then return "–" end
  return per_cent(value / (hits + misses))
end

local function count(s, name, key)
  local value = samples.median(s, name, key)
  return value and ("%.0f"):format(value) or "–"
end

local function rates_table(some, result)
  local t = {
    title = ("Hit rate with a budget of %d MiB"):format(BUDGET_MIB),
    head = { "", FIXED, DEFAULT, "warm", "front", "site", "class", "entries", "buckets", "evictions" },
    rows = {},
    notes = {
      "Hits of all look-ups after the first fifth of the requests, or the first burst. Of the dynamic",
      "scheme: warm, hits on blocks that had their memory, without those that were only an address; front,",
      "site, class: where it was found. –: this build has no such statistic.",
    },
  }
  for _, row in ipairs(some) do
    local s, cells = result[row.id], { row.title }
    for _, name in ipairs { FIXED, DEFAULT } do table.insert(cells, per_cent(rate(s, name))) end
    table.insert(cells, per_cent(samples.median(s, DEFAULT, "warm_rate")))
    for _, key in ipairs { "hits_front", "hits_site", "hits_class" } do
      table.insert(cells, part(s, DEFAULT, key))
    end
    for _, key in ipairs { "entries", "buckets", "evictions" } do
      table.insert(cells, count(s, DEFAULT, key))
    end
    table.insert(t.rows, cells)
  end
  return t
end

local function values_table(some, result, allocators)
  local names = { FIXED, DEFAULT }
  for _, peer in ipairs(peers_of(allocators)) do names[#names + 1] = peer.name end
  local t = {
    title = "ns for an allocation and a free / peak RSS, MiB", head = { "" }, rows = {}, notes = {},
  }
  local cached = false
  for _, name in ipairs(names) do table.insert(t.head, name) end
  for _, row in ipairs(some) do
    if not row.ours_only then
      local cells = { row.title }
      cached = cached or rate(result[row.id], DEFAULT) ~= nil
      for _, name in ipairs(names) do table.insert(cells, samples.pair(result[row.id], name)) end
      table.insert(t.rows, cells)
    end
  end
  if not cached then
    t.notes = {
      "This build reports no look-ups in a cache: fixed and dynamic are the same program run twice, and",
      "how far they are apart is how far the machine can be believed.",
    }
  end
  return #t.rows > 0 and t or nil
end

-- ---- what is cached, what stays ----------------------------------------------------------------

local function start(options, variant, arguments)
  return host.start(trials.command(options, variant, "traces", arguments))
end

-- The most bytes that were cached, by trace and scheme; not timed, for a thread watches.
local function measure_budget(options)
  local list = {}
  for _, kind in ipairs(kinds) do
    for _, variant in ipairs(schemes) do
      options.progress("the budget, %s, %s", kind.name, variant.name)
      local values = host.values(start(options, variant,
        { kind.name, "--threads=8", "--ms=" .. options.ms, "--sample" })())
      list[#list + 1] = { kind = kind, scheme = variant.name, bytes = values.most_cached }
      options.log_figure("budget", kind.name, variant.name, values.most_cached)
    end
  end
  return list
end

local function mib(bytes) return bytes / 1048576 end

local function budget_table(list)
  local t = {
    title = ("The most that was cached, MiB, 8 threads, budget %d MiB"):format(BUDGET_MIB),
    head = { "", FIXED, DEFAULT }, rows = {},
    notes = { "bigcache.bytes, read every half millisecond and at the end." },
  }
  local cells
  for _, item in ipairs(list) do
    if item.scheme == FIXED then
      cells = { item.kind.name }
      table.insert(t.rows, cells)
    end
    table.insert(cells, item.bytes and ("%.1f"):format(mib(item.bytes)) or "–")
  end
  return t
end

-- Two seconds after the load, nobody calling: result[trace][allocator] = { live, at_end, after } in
-- MiB. They run side by side, for most of it is waiting and nothing is timed.
local function measure_settled(options, allocators)
  local variants, result = { { name = "hakmem", mode = "hakmem" } }, {}
  for _, peer in ipairs(peers_of(allocators)) do variants[#variants + 1] = peer end
  for _, kind in ipairs(kinds) do
    options.progress("what stays after %s", kind.name)
    local waiting = {}
    for i, variant in ipairs(variants) do
      local arguments = { kind.name, "--threads=2", "--touch=all", "--ms=" .. options.ms, "--settle" }
      if kind.few then table.insert(arguments, "--requests=" .. kind.few) end
      waiting[i] = start(options, variant, arguments)
    end
    result[kind.name] = {}
    for i, variant in ipairs(variants) do
      local values = host.values(waiting[i]())
      result[kind.name][variant.name] = {
        live = values.live_kib / 1024, at_end = values.rss_at_end_kib / 1024,
        after = values.rss_after_kib / 1024,
      }
      options.log_figure("settled", kind.name, variant.name, values.rss_after_kib)
    end
  end
  return result, variants
end

local function settled_table(result, variants)
  local t = {
    title = "RSS two seconds after the load, MiB: default knobs, 2 threads, all pages touched",
    head = { "" }, rows = {},
    notes = { "Where the load ended → two seconds later, in which nobody called (bytes in live blocks)." },
  }
  for _, variant in ipairs(variants) do table.insert(t.head, variant.name) end
  for _, kind in ipairs(kinds) do
    local cells = { kind.name }
    for _, variant in ipairs(variants) do
      local values = result[kind.name][variant.name]
      table.insert(cells, ("%.0f → %.0f (%.0f)"):format(values.at_end, values.after, values.live))
    end
    table.insert(t.rows, cells)
  end
  return t
end

-- ---- growth ------------------------------------------------------------------------------------

-- Nothing is evicted, aged or purged while the table grows: what is timed is the table.
local growth_env = {
  HAKMEM_BIGCACHE_MODE = "dynamic", HAKMEM_BIGCACHE_MAX_BYTES = "1024G",
  HAKMEM_BIGCACHE_MAX_MAPPED = "1024G", HAKMEM_BIGCACHE_DECAY = "3600s",
  HAKMEM_PURGE_MODE = "off", HAKMEM_PURGE_DECAY = "3600s",
}

local function measure_growth(options)
  local list = {}
  for run = 1, GROWTH_RUNS do
    options.progress("growth, run %d of %d", run, GROWTH_RUNS)
    local values = host.values(start(options, { mode = "hakmem", env = growth_env },
      { "growth", "--threads=8", "--requests=" .. GROWTH_BLOCKS })())
    list[run] = values
    for _, what in ipairs { "insert", "lookup" } do
      options.log_figure("growth", what, run, values[what .. "_worst_us"])
    end
  end
  return list
end

local function worst_of(list, what)
  local worst = {}
  for i, values in ipairs(list) do worst[i] = values[what .. "_worst_us"] end
  return worst
end

local function growth_table(list)
  local t = {
    title = ("Growth: 8 threads insert %d blocks; single calls by processor time, %d runs")
      :format(GROWTH_BLOCKS, #list),
    head = { "", "inserts", "look-ups" }, rows = {},
    notes = {
      "An interrupt or a page fault counts in the call that it meets. Nothing is evicted, aged or",
      "purged meanwhile (bigcache.max_bytes, max_mapped, decay, purge.mode=off).",
    },
  }
  local limit, last = 1, 1
  for _, values in ipairs(list) do
    for key in pairs(values) do
      local bound = tonumber(key:match "^%a+_below_(%d+)$")
      if bound then last = math.max(last, bound) end
    end
  end
  while limit <= last do
    local cells = { ("below %d µs"):format(limit) }
    for _, what in ipairs { "insert", "lookup" } do
      local sum = 0
      for _, values in ipairs(list) do sum = sum + (values[("%s_below_%d"):format(what, limit)] or 0) end
      table.insert(cells, ("%d"):format(sum))
    end
    table.insert(t.rows, cells)
    limit = limit * 2
  end
  table.insert(t.rows, "-")
  for _, line in ipairs {
    { "worst, median of the runs, µs", m.median }, { "worst of all, µs", function(worst)
      return math.max(table.unpack(worst))
    end },
  } do
    local cells = { line[1] }
    for _, what in ipairs { "insert", "lookup" } do
      table.insert(cells, ("%.1f"):format(line[2](worst_of(list, what))))
    end
    table.insert(t.rows, cells)
  end
  local first = list[1]
  table.insert(t.rows, { "buckets at the end", first.buckets and ("%d"):format(first.buckets) or "–", "" })
  return t
end

-- ---- the bars ----------------------------------------------------------------------------------

local function rate_bars(list, some, result)
  for _, kind in ipairs(kinds) do
    local worst, where
    for _, row in ipairs(some) do
      local value = row.kind == kind and row.goal and rate(result[row.id], DEFAULT)
      if value and (not worst or value < worst) then worst, where = value, row end
    end
    if worst then
      list[#list + 1] = { ("%s: lowest hit rate (fixed there: %s)"):format(kind.name,
        per_cent(rate(result[where.id], FIXED))), ("%s (%s)"):format(per_cent(worst), where.id),
        ("≥ %d %%"):format(kind.goal), 100 * worst >= kind.goal and "holds" or "falls short" }
    end
  end
end

local function time_bars(list, some, result, allocators)
  for _, kind in ipairs(kinds) do
    local worst, where, against
    for _, row in ipairs(some) do
      if row.kind == kind and not row.ours_only then
        local s = result[row.id]
        local peak = samples.median(s, DEFAULT, "peak")
        local value, peer = samples.best_ratio(s, allocators, "time", DEFAULT, function(name)
          return samples.median(s, name, "peak") <= samples.FASTER * peak
        end)
        if value and (not worst or value > worst) then worst, where, against = value, row, peer end
      end
    end
    if worst then
      list[#list + 1] = { kind.name .. ": slowest row, against the best peer with no more memory",
        ("%.2f (%s, %s)"):format(worst, where.id, against), ("≤ %.2f"):format(samples.FASTER),
        samples.verdict(worst, samples.FASTER) }
    end
  end
end

local function bars_table(some, result, allocators, data)
  local list = {}
  rate_bars(list, some, result)
  time_bars(list, some, result, allocators)
  for _, item in ipairs(data.budget or {}) do
    if item.bytes then
      list[#list + 1] = { ("%s, %s: most MiB cached"):format(item.kind.name, item.scheme),
        ("%.1f"):format(mib(item.bytes)), "≤ " .. BUDGET_MIB,
        samples.verdict(mib(item.bytes), BUDGET_MIB) }
    end
  end
  local growth = data.growth
  if growth and growth[1].buckets then
    local grown = growth[1].buckets >= GROWTH_BUCKETS
    for _, what in ipairs { "insert", "lookup" } do
      local worst = m.median(worst_of(growth, what))
      list[#list + 1] = {
        ("Growth to %d buckets: worst %s, µs"):format(growth[1].buckets, what),
        ("%.1f"):format(worst), ("< %d at %d"):format(GROWTH_MOST_US, GROWTH_BUCKETS),
        grown and worst < GROWTH_MOST_US and "holds" or "falls short",
      }
    end
  end
  if #list == 0 then return nil end
  return {
    title = "The bars of the traces", head = { "", "measured", "goal", "" }, rows = list,
    notes = { "The rows of burst-800 count in no bar." },
  }
end

-- ---- all of it ---------------------------------------------------------------------------------

-- `only`: rows whose id contains one of these words, and "budget", "settled", "growth". Measures and
-- writes traces.txt, traces.md and traces.csv; returns whether every run went well.
function traces.run(options, only, allocators)
  local function wanted(name) return #trials.choose({ { id = name } }, only) > 0 end
  local out = output.open(options, "traces",
    "experiment,row,variant,round," .. table.concat(COLUMNS, ","))
  local good
  options.log = function(row, variant, round, values)
    local cells = { "trace", row.id, variant.name, round }
    for _, column in ipairs(COLUMNS) do cells[#cells + 1] = values[column] or "" end
    out:log(table.unpack(cells))
  end
  options.log_figure = function(experiment, row, variant, value)
    out:log(experiment, row, variant, 1, value or "")
  end
  options.failed, good = output.failures()

  local some = trials.choose(rows, only)
  local with_peers = { table.unpack(schemes) }
  for _, peer in ipairs(peers_of(allocators)) do with_peers[#with_peers + 1] = peer end
  local result = trials.measure(options, some, function(row)
    return row.ours_only and schemes or with_peers
  end, figures)
  local data = {
    budget = wanted "budget" and measure_budget(options) or nil,
    growth = wanted "growth" and measure_growth(options) or nil,
  }
  local settled, variants
  if wanted "settled" then settled, variants = measure_settled(options, allocators) end
  options.progress_done()
  if #some > 0 then
    out:show(rates_table(some, result))
    out:show(values_table(some, result, allocators))
  end
  if data.budget then out:show(budget_table(data.budget)) end
  if settled then out:show(settled_table(settled, variants)) end
  if data.growth then out:show(growth_table(data.growth)) end
  out:show(bars_table(some, result, allocators, data))
  out:close()
  return good()
end

return traces
