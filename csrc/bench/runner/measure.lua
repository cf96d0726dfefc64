-- measure.lua - the experiments. Each returns plain tables; none judges or prints tables.

local callgrind = require "callgrind"
local m = require "math_stats"
local suite = require "suite"

local measure = {}

-- Memory to touch before a run, in MiB: what the program took at most so far, and some more.
local function warm(options, vm, need)
  options.host:run(vm, { mode = "malloc" }, { "touch", math.ceil(need / 1024) + 64 })
end

-- The suite on one VM: result[program][allocator] = { wall = {...}, cpu = {...}, peak = {...} },
-- one sample a round. Within a round a program runs under all allocators in turn; who is first
-- rotates.
function measure.wall(options, vm, allocators)
  local result, sums = {}, {}
  for _, program in ipairs(options.programs) do
    result[program.name] = {}
    for _, allocator in ipairs(allocators) do
      result[program.name][allocator.name] = { wall = {}, cpu = {}, peak = {} }
    end
  end
  local need = {}
  for round = 1, options.rounds do
    options.progress("%s, round %d of %d", vm.title, round, options.rounds)
    for _, program in ipairs(options.programs) do
      local size = suite.size(program, vm.size, options.quick)
      for turn = 1, #allocators do
        local allocator = allocators[(turn + round) % #allocators + 1]
        warm(options, vm, need[program.name] or 256 * 1024)
        local arguments = { "run", allocator.mode, program.path, size }
        local values = options.host:run(vm, allocator, arguments)
        local sum = sums[program.name] or values.checksum
        if not values.wall_ns or values.checksum ~= sum then
          error(("%s under %s: wrong checksum"):format(program.name, allocator.name), 0)
        end
        sums[program.name] = sum
        local sample = result[program.name][allocator.name]
        sample.wall[round] = values.wall_ns
        sample.cpu[round] = values.cpu_ns
        sample.peak[round] = values.peak_kib / 1024
        need[program.name] = math.max(round > 1 and need[program.name] or 0, values.peak_kib)
        options.log("run", vm.name, program.name, size, allocator.name, round,
          values.wall_ns, values.cpu_ns, values.peak_kib)
      end
    end
  end
  return result
end

-- Instructions of the suite on Lua 5.4: result[program][allocator] = { total =, functions = }.
function measure.instructions(options, allocators)
  local vm = suite.vms[1]
  local jobs, result = {}, {}
  for _, program in ipairs(options.programs) do
    result[program.name] = {}
    for _, allocator in ipairs(allocators) do
      local size = suite.size(program, "count")
      jobs[#jobs + 1] = { vm = vm, allocator = allocator, program = program, size = size }
    end
  end
  callgrind.count(options.host, jobs, options.out, options.parallel, function(job, counted)
    options.progress("callgrind, %s under %s", job.program.name, job.allocator.name)
    result[job.program.name][job.allocator.name] = counted
    options.log("instructions", vm.name, job.program.name, job.size, job.allocator.name, 1,
      counted.total, 0, 0)
  end)
  return result
end

-- Medians over the rounds of what the host prints in one mode: result[allocator] = { key = value }.
local function medians(options, vm, allocators, rounds, arguments, need)
  local samples = {}
  for round = 1, rounds do
    for turn = 1, #allocators do
      local allocator = allocators[(turn + round) % #allocators + 1]
      warm(options, vm, need)
      local values = options.host:run(vm, allocator, { arguments[1], allocator.mode, arguments[2] })
      local sample = samples[allocator.name] or {}
      samples[allocator.name] = sample
      for key, value in pairs(values) do
        sample[key] = sample[key] or {}
        sample[key][round] = value
      end
    end
  end
  local result = {}
  for name, sample in pairs(samples) do
    result[name] = {}
    for key, list in pairs(sample) do
      result[name][key] = m.median(list)
      options.log(arguments[1], vm.name, key, arguments[2], name, rounds, result[name][key], 0, 0)
    end
  end
  return result
end

-- Idle states: resident and live KiB of each, and ns to make one.
function measure.states(options, vm, allocators)
  options.progress("%s, %d idle states", vm.title, options.states)
  local rounds = math.min(3, options.rounds)
  return medians(options, vm, allocators, rounds, { "states", options.states }, 96 * 1024)
end

-- A state of a million small tables: ns to close it, and with hakmem to reset or destroy its arena.
function measure.teardown(options, vm, allocators)
  options.progress("%s, tear-down of %d tables", vm.title, options.tables)
  local arguments = { "teardown", options.tables }
  return medians(options, vm, allocators, options.rounds, arguments, 192 * 1024)
end

-- A state for each request: ns a request, whole life of the state included, and with hakmem also in an
-- arena that is reset, and in a state that is restored.
function measure.requests(options, vm, allocators)
  options.progress("%s, %d requests", vm.title, options.requests)
  return medians(options, vm, allocators, options.rounds, { "requests", options.requests }, 16 * 1024)
end

return measure
