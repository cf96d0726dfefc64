-- coros: coroutines as generators, pipelines and cooperating tasks; a stack for each.
local rounds = tonumber((...)) or 2500
local yield, wrap = coroutine.yield, coroutine.wrap

local function range(n)
  return wrap(function() for i = 1, n do yield(i) end end)
end

local function filter(test, source)
  return wrap(function() for x in source do if test(x) then yield(x) end end end)
end

local function collect(source)
  local all = {}
  for x in source do all[#all + 1] = x end
  return all
end

-- In-order walk of a tree, a coroutine per node: deep chains of resumes.
local function walk(node)
  return wrap(function()
    if node.left then for key in walk(node.left) do yield(key) end end
    yield(node.key)
    if node.right then for key in walk(node.right) do yield(key) end end
  end)
end

local function balanced(from, to)
  if from > to then return nil end
  local middle = math.floor((from + to) / 2)
  return { key = middle, left = balanced(from, middle - 1), right = balanced(middle + 1, to) }
end

-- Round-robin tasks that pass messages through queues and end at different times.
local function tasks(n)
  local boxes, ready, sum = {}, {}, 0
  for i = 1, n do
    boxes[i] = {}
    ready[i] = coroutine.create(function(id)
      for step = 1, 3 + id % 5 do
        local peer = boxes[(id + step) % n + 1]
        peer[#peer + 1] = { from = id, text = "m" .. step }
        yield()
        for _, message in ipairs(boxes[id]) do sum = sum + message.from * #message.text end
        boxes[id] = {}
      end
    end)
  end
  local alive = n
  while alive > 0 do
    for i = 1, n do
      local task = ready[i]
      if task then
        assert(coroutine.resume(task, i))
        if coroutine.status(task) == "dead" then
          ready[i] = false
          alive = alive - 1
        end
      end
    end
  end
  return sum
end

local tree = balanced(1, 31)
local sum = 0
for round = 1, rounds do
  local odd = collect(filter(function(x) return x % 2 == 1 end, range(20 + round % 10)))
  local third = collect(filter(function(x) return x % 3 == round % 3 end, range(30)))
  sum = sum + #odd * #third
  if round % 10 == 0 then
    for key in walk(tree) do sum = (sum * 3 + key) % 1000000007 end
  end
  if round % 5 == 0 then sum = sum + tasks(20) end
end

print(string.format("checksum %d", sum % 1000000007))
