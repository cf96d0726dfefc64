-- closures: functions made at run time, capturing shared and private variables.
local rounds = tonumber((...)) or 30000

local function counter(start, step)
  local value = start
  return function() value = value + step; return value end,
    function(new) value = new end
end

local function compose(f, g)
  return function(x) return g(f(x)) end
end

local function curry3(f)
  return function(a) return function(b) return function(c) return f(a, b, c) end end end
end

local function memoise(f)
  local known = {}
  return function(x)
    local y = known[x]
    if y == nil then
      y = f(x)
      known[x] = y
    end
    return y
  end
end

-- A list as a chain of closures: each cell answers with its value and the rest.
local function cons(head, tail) return function() return head, tail end end

local function map(f, list)
  if not list then return nil end
  local head, tail = list()
  return cons(f(head), map(f, tail))
end

local function fold(f, acc, list)
  while list do
    local head
    head, list = list()
    acc = f(acc, head)
  end
  return acc
end

local function add(a, b) return (a + b) % 1000000007 end
local add3 = curry3(function(a, b, c) return (a * b + c) % 1000000007 end)

local handlers = {} -- a window of closures that live for a while
local sum = 0
for round = 1, rounds do
  local tick, set = counter(round, 3)
  tick()
  set(tick() * 2)

  local pipeline = function(x) return x end
  for i = 1, 4 do pipeline = compose(pipeline, function(x) return x + i * round % 7 end) end

  local list
  for i = 1, 12 do list = cons(i + round % 5, list) end
  local total = fold(add, 0, map(function(x) return x * x + round % 3 end, list))

  local square = memoise(function(x) return x * x % 10007 end)
  local squares = square(round) + square(round) + square(total)

  handlers[round % 512 + 1] = function(x) return x + total % 11 end
  local handler = handlers[round * 7 % 512 + 1]
  sum = add(sum, tick() + pipeline(round) + add3(round)(total)(squares))
  if handler then sum = handler(sum) end
end

print(string.format("checksum %d", sum % 1000000007))
