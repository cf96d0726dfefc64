-- blocks_rows.lua - what the block benchmarks run: rows in sections.
--
-- A row: id (for --only), title, program ("blocks", "larson") and its arguments. larson's begin
-- with the smallest size; seconds and seed are put in between. ops: pairs after which a run ends
-- although there is time left, where an allocator that is fast would otherwise touch more memory
-- than a slow one gets to. A section: every_row: a verdict on each row; same_rss: on time only peers
-- count that need no more memory.

local rows = {}

local LARGE, HUGE = "--sizes=64K-1M", "--sizes=1M-32M"
local SMALL, MEDIUM = "--sizes=8-128", "--sizes=1K-32K"

rows.sections = {
  {
    id = "large", title = "Large blocks, 64 KiB to 1 MiB", every_row = true,
    { "pair", "pair", "pair", LARGE },
    { "random-10000", "random lifetime, 10,000 live", "random", LARGE, "--live=10000", ops = 300000 },
    { "random-256", "random lifetime, 256 live", "random", LARGE, "--live=256", ops = 1000000 },
    { "churn", "churn, 64 live", "churn", LARGE, "--live=64" },
    { "prodcons-2", "producer/consumer, 2 threads", "prodcons", LARGE, "--threads=2" },
    { "prodcons-2-all", "… all pages touched", "prodcons", LARGE, "--threads=2", "--touch=all" },
    { "prodcons-8", "producer/consumer, 8 threads", "prodcons", LARGE, "--threads=8" },
    { "prodcons-8-all", "… all pages touched", "prodcons", LARGE, "--threads=8", "--touch=all" },
    { "ring-2", "ring hand-over, 2 threads", "ring", LARGE, "--threads=2" },
    { "ring-8", "ring hand-over, 8 threads", "ring", LARGE, "--threads=8" },
    { "larson-2", "larson, 1 round, 2 threads", larson = { "64K", "1M", 1024, 1, 2 } },
    { "larson-8", "larson, 100 rounds, 8 threads", larson = { "64K", "1M", 1024, 100, 8 } },
    { "larson-16", "larson, 100 rounds, 16 threads", larson = { "64K", "1M", 256, 100, 16 } },
  },
  {
    id = "huge", title = "Huge blocks, 1 to 32 MiB", every_row = true, same_rss = true,
    { "pair", "pair", "pair", HUGE },
    { "random-512", "random lifetime, 512 live", "random", HUGE, "--live=512", ops = 100000 },
    { "random-64", "random lifetime, 64 live", "random", HUGE, "--live=64", ops = 300000 },
    { "churn-1", "churn, 16 live, 1 thread", "churn", HUGE, "--live=16" },
    { "churn-2", "churn, 16 live, 2 threads", "churn", HUGE, "--live=16", "--threads=2" },
    { "churn-8", "churn, 16 live, 8 threads", "churn", HUGE, "--live=16", "--threads=8" },
    { "churn-1-all", "churn, 1 thread, all pages touched", "churn", HUGE, "--live=16",
      "--touch=all" },
    { "churn-8-all", "churn, 8 threads, all pages touched", "churn", HUGE, "--live=16",
      "--threads=8", "--touch=all" },
    { "random-20-all", "random lifetime, 5 to 25 MiB, 20 live, all pages touched", "random",
      "--sizes=5M-25M", "--live=20", "--touch=all" },
  },
  {
    id = "small", title = "Small and medium blocks",
    { "pair", "pair, 8 to 128 B", "pair", SMALL },
    { "batch", "batch of 64, 8 to 128 B", "batch", SMALL },
    { "random", "random lifetime, 10,000 live, 8 to 128 B", "random", SMALL, "--live=10000" },
    { "random-1K", "random lifetime, 10,000 live, 16 B to 1 KiB", "random", "--sizes=16-1K",
      "--live=10000" },
    { "pair-32K", "pair, 1 to 32 KiB", "pair", MEDIUM },
    { "batch-32K", "batch of 64, 1 to 32 KiB", "batch", MEDIUM },
    { "random-32K", "random lifetime, 2,000 live, 1 to 32 KiB", "random", MEDIUM, "--live=2000" },
    { "larson-2", "larson, 8 to 1000 B, 2 threads", larson = { 8, 1000, 5000, 100, 2 } },
    { "larson-8", "larson, 8 to 1000 B, 8 threads", larson = { 8, 1000, 5000, 100, 8 } },
    { "larson-1-round", "larson, 8 to 128 B, 1 round, 4 threads",
      larson = { 8, 128, 1024, 1, 4 } },
    { "prodcons-2", "producer/consumer, 16 to 512 B, 2 threads", "prodcons", "--sizes=16-512",
      "--threads=2" },
    { "asymmetric", "asymmetric, 16 to 512 B, 8 threads", "asymmetric", "--sizes=16-512",
      "--threads=8" },
    { "mixed", "mixed with hand-over, 16 B to 32 KiB, 8 threads", "mixed", "--sizes=16-1K",
      "--live=1000", "--threads=8" },
    { "threads", "thread churn, 8 to 1000 B", "threads", "--sizes=8-1000", "--live=1000",
      "--threads=2" },
  },
}

-- Flattens what stands above: { id =, section =, title =, program =, arguments = f(ms, seed) }.
local function row_of(section, given)
  local row = { id = section.id .. "-" .. given[1], section = section, title = given[2] }
  if given.larson then
    local l = given.larson
    row.program = "larson"
    row.arguments = function(ms, seed)
      return { ("%.3f"):format(ms / 1000), l[1], l[2], l[3], l[4], seed, l[5] }
    end
  else
    row.program = "blocks"
    row.arguments = function(ms, seed)
      local list = table.move(given, 3, #given, 1, {})
      list[#list + 1] = "--ms=" .. ms
      list[#list + 1] = "--seed=" .. seed
      if given.ops then list[#list + 1] = "--ops=" .. given.ops end
      return list
    end
  end
  return row
end

rows.all = {}
for _, section in ipairs(rows.sections) do
  section.rows = {}
  for _, given in ipairs(section) do
    local row = row_of(section, given)
    table.insert(section.rows, row)
    table.insert(rows.all, row)
  end
end

return rows
