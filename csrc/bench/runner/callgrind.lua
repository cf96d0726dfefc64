-- callgrind.lua - exact instruction counts of a run: whole, in the allocator, and by function.
--
-- Lua seeds its string hash from the clock and from addresses, so what the program itself executes
-- differs from run to run, for some programs by more than the allocator costs. What is executed
-- inside the allocator does not: so that is compared, not the whole.

local callgrind = {}

-- Where the host enters an allocator.
local entries = {
  malloc_alloc = true, bump_alloc = true, hak_lua_alloc = true, hak_arena_create = true,
  hak_arena_destroy = true,
}

-- Reads the file that callgrind writes. A line of cost belongs to the last `fn=`, except the one
-- after `calls=`: that is what the callee `cfn=` cost with all that it called.
local function read(path)
  local names, self, vm, total, entered = {}, {}, {}, 0, 0
  local objects, object, current, callee, called = {}, nil, nil, nil, nil
  for line in io.lines(path) do
    local key, id, name = line:match("^(c?[fo][nb])=%((%d+)%) ?(.*)$")
    if key == "ob" or key == "cob" then
      if name ~= "" then objects[id] = name end
      if key == "ob" then object = objects[id] end
    elseif key then
      if name ~= "" then names[id] = name end
      if key == "cfn" then
        callee = names[id]
      else
        current = id
        vm[id] = object ~= nil and object:find("liblua", 1, true) ~= nil
      end
    elseif line:match("^calls=") then
      called = true
    else
      local cost = tonumber(line:match("^[%d+*-]%d* (%d+)$"))
      if cost and called then
        called = false
        if entries[callee] then entered = entered + cost end
      elseif cost and current then
        self[current] = (self[current] or 0) + cost
        total = total + cost
      end
    end
  end
  local functions = {}
  for id, cost in pairs(self) do
    local name = names[id]:gsub("'%d+$", "")
    if not vm[id] then functions[name] = (functions[name] or 0) + cost end
  end
  return { total = total, allocator = entered, functions = functions }
end

-- Counts each job {vm=, allocator=, program=, size=}, as many at once as there are processors;
-- `done(job, result)` gets them in order.
function callgrind.count(host, jobs, out, parallel, done)
  local running = {}
  local function finish()
    local first = table.remove(running, 1)
    first.wait()
    local result = read(first.path)
    os.remove(first.path)
    done(first.job, result)
  end
  for i, job in ipairs(jobs) do
    local file = ("%s/callgrind.%d.out"):format(out, i)
    local wrap = ("valgrind -q --tool=callgrind --callgrind-out-file='%s' --collect-atstart=no "
      .. "--toggle-collect=bench_measured"):format(file)
    local arguments = { "run", job.allocator.mode, job.program.path, job.size }
    running[#running + 1] = {
      job = job,
      path = file,
      wait = host.start(host:command(job.vm, job.allocator, arguments, wrap)),
    }
    if #running >= parallel then finish() end
  end
  while #running > 0 do finish() end
end

-- The functions outside the VM that cost more than under `base`, largest first.
function callgrind.added(result, base)
  local rows = {}
  for name, cost in pairs(result.functions) do
    local more = cost - (base.functions[name] or 0)
    if more > 0 then rows[#rows + 1] = { name = name, cost = more } end
  end
  table.sort(rows, function(a, b)
    if a.cost ~= b.cost then return a.cost > b.cost end
    return a.name < b.name
  end)
  return rows
end

return callgrind
