-- matrix: dense matrices as tables of rows; one large product, many small ones, none in place.
local size = tonumber((...)) or 60

local function new(rows, columns, f)
  local m = {}
  for i = 1, rows do
    local row = {}
    for j = 1, columns do row[j] = f(i, j) end
    m[i] = row
  end
  return m
end

local function transpose(a)
  return new(#a[1], #a, function(i, j) return a[j][i] end)
end

local function multiply(a, b)
  local columns = transpose(b)
  local product = {}
  for i = 1, #a do
    local row, out = a[i], {}
    for j = 1, #columns do
      local column, sum = columns[j], 0
      for k = 1, #row do sum = sum + row[k] * column[k] end
      out[j] = sum % 65521
    end
    product[i] = out
  end
  return product
end

local function identity(n)
  return new(n, n, function(i, j) return i == j and 1 or 0 end)
end

local function power(a, n)
  local result = identity(#a)
  while n > 0 do
    if n % 2 == 1 then result = multiply(result, a) end
    a = multiply(a, a)
    n = math.floor(n / 2)
  end
  return result
end

local function trace(a)
  local sum = 0
  for i = 1, #a do sum = sum + a[i][i] * i end
  return sum
end

local a = new(size, size, function(i, j) return (i * 7 + j * 13) % 101 end)
local b = new(size, size, function(i, j) return (i * 3 + j * j) % 97 end)
local sum = trace(multiply(multiply(a, b), transpose(a)))

-- Chains of 4 x 4 transformations, as a game or a renderer makes them.
for i = 1, size * 25 do
  local step = new(4, 4, function(r, c) return (r * i + c * 5) % 31 end)
  sum = (sum + trace(power(step, 1 + i % 6))) % 1000000007
end

print(string.format("checksum %d", sum))
