-- trials.lua - runs programs that call malloc, one right after the other, and keeps what they print.
--
-- A variant is an allocator of suite.lua or one made from it: { name =, mode =, preload =, peer =,
-- env = { NAME = value }, arguments = { ... } }; the last two come on top of the row's.

local host = require "host"

local trials = {}

local function environment(variant)
  local words = {}
  for name, value in pairs(variant.env or {}) do words[#words + 1] = ("%s=%s "):format(name, value) end
  table.sort(words)
  if variant.preload then words[#words + 1] = "LD_PRELOAD=" .. variant.preload .. " " end
  return table.concat(words)
end

-- Where the programs are: hakmem's are linked with it, all others run the malloc ones.
function trials.command(options, variant, program, arguments)
  local path
  if program == "larson" and variant.mode == "hakmem" then
    path = options.programs .. "/../larson_hakmem"
  else
    path = ("%s/%s-%s"):format(options.programs, program,
      variant.mode == "hakmem" and "hakmem" or "malloc")
  end
  local words = {}
  for _, list in ipairs { arguments, variant.arguments or {} } do
    for _, argument in ipairs(list) do words[#words + 1] = "'" .. tostring(argument) .. "'" end
  end
  return ("cd '%s' && %stimeout 120 %s %s"):format(options.root, environment(variant), path,
    table.concat(words, " "))
end

local malloc = { name = "malloc", mode = "malloc" }

-- Memory to touch before a run, in KiB; no more than 4 GiB, for that takes time.
local function warm(options, need)
  local mib = math.min(4096, math.ceil(need / 1024) + 64)
  host.start(trials.command(options, malloc, "blocks", { "touch", mib }))()
end

-- What a program printed, and from it `time` (ns for an allocation and a free, or ms), `peak` (MiB).
local function run(options, variant, row, round)
  local arguments = row.arguments(options.ms, round)
  local values = host.values(host.start(trials.command(options, variant, row.program, arguments))())
  values.time = values.ns_per_pair or values.ms or values.mops and 1000 / values.mops
  values.peak = values.peak_kib and values.peak_kib / 1024
  if not values.time or not values.peak then error("no figures", 0) end
  if values.pairs == 0 then error("nothing was counted", 0) end
  return values
end

local function keep(sample, values)
  for key, value in pairs(values) do
    sample[key] = sample[key] or {}
    table.insert(sample[key], value)
  end
end

-- The rows whose id contains one of the comma-separated words; all when there are none.
function trials.choose(rows, words)
  if words == "" then return rows end
  local chosen = {}
  for _, row in ipairs(rows) do
    for word in words:gmatch("[^,]+") do
      if row.id:find(word, 1, true) then
        chosen[#chosen + 1] = row
        break
      end
    end
  end
  return chosen
end

-- result[row.id][variant.name][key] = { ... }, one sample a round. A row is run by all variants in
-- turn; who is first rotates. What fails once is left out of its row. variants_of(row) lists them;
-- figures(values), when given, chooses and computes what is kept.
function trials.measure(options, rows, variants_of, figures)
  local result, need = {}, {}
  for _, row in ipairs(rows) do
    result[row.id] = {}
    for _, v in ipairs(variants_of(row)) do result[row.id][v.name] = { time = {}, peak = {} } end
  end
  for round = 1, options.rounds do
    for _, row in ipairs(rows) do
      options.progress("round %d of %d, %s", round, options.rounds, row.id)
      local variants, most = variants_of(row), 0
      for turn = 1, #variants do
        local variant = variants[(turn + round) % #variants + 1]
        local sample = result[row.id][variant.name]
        if sample then
          warm(options, need[row.id] or 0)
          local ok, values = pcall(run, options, variant, row, round)
          if ok then
            most = math.max(most, values.peak_kib)
            if figures then values = figures(values) end
            keep(sample, values)
            options.log(row, variant, round, values)
          else
            result[row.id][variant.name] = nil
            options.failed(row, variant, values)
          end
        end
      end
      need[row.id] = most
    end
  end
  return result
end

return trials
