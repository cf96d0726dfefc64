-- samples.lua - from the samples of one row to medians, best peers, ratios and verdicts.
--
-- The samples of a row: samples[name][key] = { one value a round }; see trials.lua. `ours` is the
-- name of the variant of hakmem that is compared, "hakmem" unless given.

local m = require "math_stats"

local samples = {}

-- nil: nothing was measured.
function samples.median(row, name, key)
  local list = row[name] and row[name][key]
  return list and #list > 0 and m.median(list) or nil
end

-- The largest value of any round; nil: nothing was measured.
function samples.most(row, name, key)
  local list = row[name] and row[name][key]
  return list and #list > 0 and math.max(table.unpack(list)) or nil
end

-- The peer with the smallest median, among those that `fits`.
function samples.best_peer(row, allocators, key, fits)
  local best, least
  for _, allocator in ipairs(allocators) do
    local value = allocator.peer and samples.median(row, allocator.name, key)
    if value and (not least or value < least) and (not fits or fits(allocator.name)) then
      best, least = allocator.name, value
    end
  end
  return best, least
end

function samples.ratios(row, name, key, ours)
  return m.ratios(row[ours or "hakmem"][key], row[name][key])
end

-- Median ratio to the best peer, and that peer; nil: nothing to compare.
function samples.best_ratio(row, allocators, key, ours, fits)
  local best = row[ours or "hakmem"] and samples.best_peer(row, allocators, key, fits)
  if not best then return nil end
  return m.median(samples.ratios(row, best, key, ours)), best
end

-- Peak RSS against the smallest peer that is not 20 % slower than we are.
function samples.peak_ratio(row, allocators, ours)
  local time = samples.median(row, ours or "hakmem", "time")
  if not time then return nil end
  return samples.best_ratio(row, allocators, "peak", ours, function(name)
    return samples.median(row, name, "time") <= 1.2 * time
  end)
end

function samples.number(x, key)
  if not x then return "failed" end
  if key == "peak" then return ("%.1f"):format(x) end
  return (x < 100 and "%.1f" or "%.0f"):format(x)
end

-- "time / peak RSS" of one variant.
function samples.pair(row, name)
  local time, peak = samples.median(row, name, "time"), samples.median(row, name, "peak")
  if not time then return "failed" end
  return ("%s / %.0f"):format(samples.number(time, "time"), peak)
end

samples.FASTER, samples.SMALLER = 1.03, 1.25 -- what still counts as not slower, not larger

function samples.verdict(value, most) return value <= most and "holds" or "falls short" end

return samples
