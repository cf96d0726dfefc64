-- shards.lua - the pool of large blocks with a fixed and with a growing number of shards.
--
-- A group is a way to use the pool (call sites, shard key, shards at first); each group is run with
-- the number of shards fixed and with either signal, or both, to make it grow. A column of a group:
-- one variant, named "group/signal".

local m = require "math_stats"
local output = require "output"
local samples = require "samples"
local trials = require "trials"

local shards = {}

local THREADS = { 2, 8, 16, 32 }
local INTERVAL_MS = 25 -- instead of 5 s, and the load that counts as high in proportion
local DEFAULT_LOAD = 10000
local LOAD = DEFAULT_LOAD * INTERVAL_MS // 5000
local WAITS_MOST = 1.0 -- per cent
local SEVERAL_SITES = 64
local ENOUGH_OPS = 256 -- fewer shard operations say nothing about waits

-- What makes the pool grow.
local signals = {
  { name = "fixed", env = { HAKMEM_L25_DYNAMIC = "off" } },
  { name = "load", env = { HAKMEM_L25_WAIT_THRESHOLD = 1000 } },
  { name = "waits", env = { HAKMEM_L25_CONTENTION_THRESHOLD = 1000000000 } },
  { name = "both", env = {} },
}

local groups = {}
for _, sites in ipairs { 1, SEVERAL_SITES } do
  for _, key in ipairs { "site", "thread", "both" } do
    groups[#groups + 1] = {
      name = ("%d/%s"):format(sites, key), key = key, sites = sites, first = 64,
      title = ("%s, by %s"):format(sites == 1 and "one site" or sites .. " sites", key),
    }
  end
end
groups[#groups + 1] = {
  name = "from-1", key = "both", sites = 1, first = 1, title = "one site, by both, from 1 shard",
}

local USUAL = "1/both" -- the group with hakmem's defaults
local DEFAULT = USUAL .. "/both"
local DEFAULT_SITES = ("%d/both/both"):format(SEVERAL_SITES)

local works = {
  { id = "larson", title = "larson, 64 KiB to 1 MiB", program = "larson",
    sites = { "--sites", SEVERAL_SITES },
    arguments = function(threads, ms, round)
      return { ("%.3f"):format(ms / 1000), "64K", "1M", 256, 100, round, threads }
    end },
  { id = "ring", title = "ring hand-over, 64 KiB to 1 MiB", program = "blocks",
    sites = { "--sites=" .. SEVERAL_SITES },
    arguments = function(threads, ms, round)
      return { "ring", "--sizes=64K-1M", "--threads=" .. threads, "--ms=" .. ms, "--seed=" .. round,
        "--stats" }
    end },
}

local function variant_of(work, group, signal)
  local env = {
    HAKMEM_L25_SHARD_BY = group.key, HAKMEM_L25_INITIAL_SHARDS = group.first,
    HAKMEM_L25_CHECK_INTERVAL = INTERVAL_MS .. "ms", HAKMEM_L25_CONTENTION_THRESHOLD = LOAD,
  }
  for name, value in pairs(signal.env) do env[name] = value end
  return {
    name = group.name .. "/" .. signal.name, mode = "hakmem", env = env,
    arguments = group.sites > 1 and work.sites or nil, -- one: the line of the program that calls
  }
end

-- The usual group and the peers first, so that what is compared runs close together.
local function variants_for(work, allocators)
  local list = {}
  local function add(group)
    for _, signal in ipairs(signals) do list[#list + 1] = variant_of(work, group, signal) end
  end
  for _, group in ipairs(groups) do
    if group.name == USUAL then add(group) end
  end
  for _, allocator in ipairs(allocators) do
    if allocator.peer then list[#list + 1] = allocator end
  end
  for _, group in ipairs(groups) do
    if group.name ~= USUAL then add(group) end
  end
  return list
end

local function rows_for(allocators)
  local rows = {}
  for _, work in ipairs(works) do
    local variants = variants_for(work, allocators)
    for _, threads in ipairs(THREADS) do
      rows[#rows + 1] = {
        id = ("%s-%d"):format(work.id, threads), work = work, threads = threads,
        program = work.program, variants = variants,
        arguments = function(ms, round) return work.arguments(threads, ms, round) end,
      }
    end
  end
  return rows
end

-- hakmem leaves out what is 0.
local function figures(values)
  local ops, waits = values["l25.shard_ops"] or 0, values["l25.lock_waits"] or 0
  local kept = { time = values.time, peak = values.peak }
  if not values["l25.shards"] then return kept end
  kept.shards, kept.expansions = values["l25.shards"], values["l25.expansions"] or 0
  kept.ops, kept.lock_waits = ops, waits
  kept.reach = 1000 * ops / values["l25.ops"]
  if ops >= ENOUGH_OPS then kept.waits = 100 * waits / ops end
  return kept
end

-- ---- tables ------------------------------------------------------------------------------------

local function per_cent(x) return x and ("%.2f %%"):format(x) or "–" end

local function waits_cell(row, name)
  local count = samples.most(row, name, "shards")
  if not count then return "failed" end
  return ("%s · %.0f (%.0f)"):format(per_cent(samples.median(row, name, "waits")), count,
    samples.most(row, name, "expansions"))
end

-- One line for each group and number of threads of a work; cell(row, group, signal) and further
-- cells at the end from tail(row, group).
local function groups_table(title, work, rows, result, tail_head, cell, tail)
  local t = { title = work.title .. ": " .. title, head = { "" }, rows = {} }
  for _, signal in ipairs(signals) do table.insert(t.head, signal.name) end
  for _, text in ipairs(tail_head) do table.insert(t.head, text) end
  for i, group in ipairs(groups) do
    if i > 1 then table.insert(t.rows, "-") end
    for _, row in ipairs(rows) do
      if row.work == work then
        local s = result[row.id]
        local cells = { ("%s, %d threads"):format(group.title, row.threads) }
        for _, signal in ipairs(signals) do
          table.insert(cells, cell(s, group.name .. "/" .. signal.name))
        end
        for _, text in ipairs(tail(s, group)) do table.insert(cells, text) end
        table.insert(t.rows, cells)
      end
    end
  end
  return t
end

local function waits_table(work, rows, result)
  local t = groups_table("shard operations that waited · shards reached (expansions)", work, rows,
    result, { "shard ops ‰" }, waits_cell, function(s, group)
      local reach = samples.median(s, group.name .. "/fixed", "reach")
      return { reach and ("%.0f"):format(reach) or "–" }
    end)
  t.notes = {
    "fixed: l25.dynamic=off. load: only a high average load makes the pool grow; waits: only waits.",
    ("The pool is checked every %d ms (default: 5 s); a load above %d, instead of %d, is high.")
      :format(INTERVAL_MS, LOAD, DEFAULT_LOAD),
    "Shard operation: an attempt to lock a shard, as counted at the last check; shards: the most of any",
    "round. ‰: shard operations for 1,000 blocks asked of the pool, number of shards fixed; the other",
    "blocks came from the thread's own cache.",
  }
  return t
end

local function values_table(work, rows, result, allocators)
  local peers = {}
  for _, allocator in ipairs(allocators) do
    if allocator.peer then peers[#peers + 1] = allocator.name end
  end
  local t = groups_table("ns for an allocation and a free / peak RSS, MiB", work, rows, result, peers,
    samples.pair, function(s)
      local cells = {}
      for i, name in ipairs(peers) do cells[i] = samples.pair(s, name) end
      return cells
    end)
  if #peers > 0 then t.notes = { "Peers know no call sites: the same figures in each group." } end
  return t
end

-- The largest median share of waits over `rows`, and the row; nil: none got to the shards enough.
local function worst_waits(rows, result, name)
  local worst, where
  for _, row in ipairs(rows) do
    local value = samples.median(result[row.id], name, "waits")
    if value and (not worst or value > worst) then worst, where = value, row.id end
  end
  return worst, where
end

local function mean_to_fixed(rows, result, group, name, key)
  local list = {}
  for _, row in ipairs(rows) do
    local s, fixed = result[row.id], group.name .. "/fixed"
    if s[name] and s[fixed] then
      list[#list + 1] = m.median(samples.ratios(s, fixed, key, name))
    end
  end
  return #list > 0 and ("%.2f"):format(m.geomean(list)) or "–"
end

local function most_shards(rows, result, name)
  local most
  for _, row in ipairs(rows) do
    local value = samples.most(result[row.id], name, "shards")
    if value then most = math.max(most or 0, value) end
  end
  return most and ("%.0f"):format(most) or "–"
end

local function help_table(rows, result)
  local t = {
    title = "What helps: every key with every signal, all works and numbers of threads",
    head = { "", "most waits", "in", ("≤ %.0f %%"):format(WAITS_MOST), "most shards", "time / fixed",
      "RSS / fixed" },
    rows = {},
    notes = { "Ratios: geometric means over the rows, against the same group with its shards fixed." },
  }
  for i, group in ipairs(groups) do
    if i > 1 then table.insert(t.rows, "-") end
    for _, signal in ipairs(signals) do
      local name = group.name .. "/" .. signal.name
      local worst, where = worst_waits(rows, result, name)
      table.insert(t.rows, {
        ("%s: %s"):format(group.title, signal.name), per_cent(worst), where or "–",
        worst and samples.verdict(worst, WAITS_MOST) or "–", most_shards(rows, result, name),
        mean_to_fixed(rows, result, group, name, "time"),
        mean_to_fixed(rows, result, group, name, "peak"),
      })
    end
  end
  return t
end

-- hakmem's defaults, by number of threads, over the works.
local function bars_table(rows, result, allocators)
  local list = {}
  for _, threads in ipairs(THREADS) do
    local some = {}
    for _, row in ipairs(rows) do
      if row.threads == threads then some[#some + 1] = row end
    end
    local worst, where = worst_waits(some, result, DEFAULT)
    local other, elsewhere = worst_waits(some, result, DEFAULT_SITES)
    if other and (not worst or other > worst) then
      worst, where = other, ("%s, %d sites"):format(elsewhere, SEVERAL_SITES)
    end
    if worst then
      list[#list + 1] = { ("%d threads: shard operations that wait"):format(threads),
        ("%s (%s)"):format(per_cent(worst), where), ("≤ %.2f %%"):format(WAITS_MOST),
        samples.verdict(worst, WAITS_MOST) }
    end
    for _, row in ipairs(some) do
      local s = result[row.id]
      local time, fastest = samples.best_ratio(s, allocators, "time", DEFAULT)
      if time then
        list[#list + 1] = { ("… %s, time against the best peer"):format(row.work.id),
          ("%.2f (%s)"):format(time, fastest), ("≤ %.2f"):format(samples.FASTER),
          samples.verdict(time, samples.FASTER) }
      end
      local peak, smallest = samples.peak_ratio(s, allocators, DEFAULT)
      if peak then
        list[#list + 1] = { ("… %s, RSS against the smallest peer not 20 %% slower"):format(row.work.id),
          ("%.2f (%s)"):format(peak, smallest), ("≤ %.2f"):format(samples.SMALLER),
          samples.verdict(peak, samples.SMALLER) }
      end
    end
  end
  if #list == 0 then return nil end
  return {
    title = "The bars of the shards: by both, both signals", rows = list,
    head = { "", "measured", "goal", "" },
    notes = { "Where there is no line about RSS no peer is within 20 % of our speed." },
  }
end

-- ---- all of it ---------------------------------------------------------------------------------

local COLUMNS = { "time", "peak", "waits", "lock_waits", "ops", "reach", "shards", "expansions" }

-- `only`: rows whose id contains one of these words. Measures and writes shards.txt, shards.md and
-- shards.csv; returns whether every run went well.
function shards.run(options, only, allocators)
  local out = output.open(options, "shards", "work,threads,variant,round," ..
    "ns_per_pair,peak_mib,waits_percent,lock_waits,shard_ops,shard_ops_per_1000,shards,expansions")
  local good
  options.log = function(row, variant, round, values)
    local cells = { row.work.id, row.threads, variant.name, round }
    for _, column in ipairs(COLUMNS) do cells[#cells + 1] = values[column] or "" end
    out:log(table.unpack(cells))
  end
  options.failed, good = output.failures()
  local rows = trials.choose(rows_for(allocators), only)
  local result = trials.measure(options, rows, function(row) return row.variants end, figures)
  options.progress_done()
  for _, work in ipairs(works) do
    out:show(waits_table(work, rows, result))
    out:show(values_table(work, rows, result, allocators))
  end
  out:show(help_table(rows, result))
  out:show(bars_table(rows, result, allocators))
  out:close()
  return good()
end

return shards
