-- trees: short-lived and long-lived binary trees; almost nothing but small tables made and dropped.
local depth = tonumber((...)) or 12

local function build(levels)
  if levels == 0 then return { false, false } end
  return { build(levels - 1), build(levels - 1) }
end

local function count(node)
  local left, right = node[1], node[2]
  if not left then return 1 end
  return 1 + count(left) + count(right)
end

local sum = count(build(depth + 1)) -- one large tree, garbage at once
local keeper = build(depth)         -- one that lives through all that follows

for levels = 4, depth, 2 do
  for _ = 1, 2 ^ (depth - levels + 4) do
    sum = sum + count(build(levels))
  end
end

print(string.format("checksum %d", (sum + count(keeper)) % 1000000007))
