-- math_stats.lua - medians, spreads and means of samples.

local m = {}

local function sorted(list)
  local copy = table.move(list, 1, #list, 1, {})
  table.sort(copy)
  return copy
end

-- The value below which the part `q` (0..1) of the samples lies.
function m.quantile(list, q)
  local s = sorted(list)
  local at = 1 + (#s - 1) * q
  local low = math.floor(at)
  local high = math.min(low + 1, #s)
  return s[low] + (s[high] - s[low]) * (at - low)
end

function m.median(list) return m.quantile(list, 0.5) end

function m.minimum(list) return math.min(table.unpack(list)) end

-- Half the distance between the quartiles, as a part of the median.
function m.spread(list)
  return (m.quantile(list, 0.75) - m.quantile(list, 0.25)) / 2 / m.median(list)
end

-- Sample by sample: the two were taken in the same round, one right after the other.
function m.ratios(list, base)
  local out = {}
  for i = 1, #list do out[i] = list[i] / base[i] end
  return out
end

function m.geomean(list)
  local sum = 0
  for _, x in ipairs(list) do sum = sum + math.log(x) end
  return math.exp(sum / #list)
end

return m
