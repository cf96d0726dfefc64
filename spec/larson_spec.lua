-- larson_hakmem as a user runs it: what the pools say under real load.
local support = dofile "spec/lua_support.lua"

-- Words after the program's name: seconds smallest largest chunks rounds seed threads.
local LARGE = "65536 1048576 64 10 1"

-- Runs it with knobs from the environment. Returns the pool's lines, in order, and all it wrote.
local function larson(words, env)
  local settings = {}
  for name, value in pairs(env) do settings[#settings + 1] = name .. "=" .. value end
  local output, status = support.shell(("env %s timeout 300 %s/larson_hakmem %s"):format(
    table.concat(settings, " "), support.quoted(support.build), words))
  assert.equal(0, status, output)
  assert.truthy(output:find("operations [1-9]"), output)
  local lines = {}
  for line in output:gmatch "[^\n]+" do
    if line:find("[L2.5_POOL]", 1, true) then lines[#lines + 1] = line end
  end
  return lines, output
end

local function statistic(output, name)
  return tonumber(output:match("%f[%S]" .. name:gsub("%.", "%%.") .. " +(%d+)") or 0)
end

-- The lines after the first: a reason, then a doubling, from `first` shards to `most` at most.
-- Returns what `reason` captures, each as a number, and the shards at the end.
local function doublings(lines, reason, first, most)
  local said, shards = {}, first
  assert.equal(("[L2.5_POOL] Initialized (shards=%d, max=%d)"):format(first, most), lines[1])
  for i = 2, #lines, 2 do
    local value = lines[i]:match("^%[L2%.5_POOL%] " .. reason .. ", expanding$")
    assert.truthy(value, lines[i])
    said[#said + 1] = tonumber(value)
    assert.equal(("[L2.5_POOL] Expanded shards: %d → %d"):format(shards, shards * 2), lines[i + 1])
    shards = shards * 2
  end
  assert.truthy(shards <= most)
  return said, shards
end

describe("larson_hakmem", function()
  it("says how the pool starts", function()
    local lines = larson("1 8 128 1024 1 12345 4", { HAKMEM_LOG = 1 })
    assert.same({ "[L2.5_POOL] Initialized (shards=64, max=1024)" }, lines)
  end)

  it("says nothing unless it is asked", function()
    local _, output = larson("0.2 8 128 1024 1 12345 4", {})
    assert.falsy(output:find("[", 1, true), output)
  end)

  it("makes the pool grow by load", function()
    local lines, output = larson("1 " .. LARGE .. " 16",
      { HAKMEM_LOG = 1, HAKMEM_L25_CHECK_INTERVAL = "20ms", HAKMEM_L25_CONTENTION_THRESHOLD = 10 })
    local loads, shards = doublings(lines, "High load detected %(avg=(%d+)%)", 64, 1024)
    assert.truthy(#loads > 0, output)
    for _, load in ipairs(loads) do assert.truthy(load > 10) end
    assert.equal(#loads, statistic(output, "l25.expansions"))
    assert.equal(shards, statistic(output, "l25.shards"))
  end)

  it("makes the pool grow by lock waits", function()
    local waits, shards, output = {}, nil, nil
    for _ = 1, 10 do -- whether threads meet is chance
      local lines
      lines, output = larson("0.5 " .. LARGE .. " 16", {
        HAKMEM_LOG = 1, HAKMEM_L25_CHECK_INTERVAL = 0, HAKMEM_L25_CONTENTION_THRESHOLD = 1000000000,
        HAKMEM_L25_WAIT_THRESHOLD = 0, HAKMEM_L25_INITIAL_SHARDS = 1, HAKMEM_L25_CACHE_BYTES = 0,
      })
      waits, shards = doublings(lines, "Lock waits detected %((%d+%.%d)%%%)", 1, 1024)
      if #waits > 0 then break end
    end
    assert.truthy(#waits > 0, output)
    for _, percent in ipairs(waits) do assert.truthy(percent > 0 and percent <= 100) end
    assert.equal(#waits, statistic(output, "l25.expansions"))
    assert.equal(shards, statistic(output, "l25.shards"))
    assert.truthy(statistic(output, "l25.lock_waits") > 0)
  end)

  it("leaves the pool as it is with one thread, whatever the load", function()
    local knobs = { HAKMEM_LOG = 1, HAKMEM_L25_CHECK_INTERVAL = 0, HAKMEM_L25_CONTENTION_THRESHOLD = 1,
      HAKMEM_L25_WAIT_THRESHOLD = 0, HAKMEM_L25_CACHE_BYTES = 0 }
    local burst = "0.5 65536 1048576 1 1000000 1 %d --burst 64" -- each thread allocates for itself
    local lines, output = larson(burst:format(1), knobs)
    assert.same({ "[L2.5_POOL] Initialized (shards=64, max=1024)" }, lines)
    assert.equal(64, statistic(output, "l25.shards"))
    assert.equal(0, statistic(output, "l25.expansions"))
    assert.truthy(statistic(output, "l25.shard_ops") > 1000, output)
    local _, crowded = larson(burst:format(16), knobs) -- sixteen of the same kind do not
    assert.truthy(statistic(crowded, "l25.expansions") > 0, crowded)
  end)

  -- Doublings of the table of cached big blocks: the buckets at the end.
  local function resizes(words, env)
    env.HAKMEM_LOG = 1
    local _, output = larson(words, env)
    local buckets = 256
    assert.truthy(output:find("[BigCache] Initial capacity: 256 buckets, max: 65536 buckets\n", 1, true))
    for from, to, entries in output:gmatch "%[BigCache%] Resized: (%d+) → (%d+) buckets %((%d+) entries%)" do
      assert.equal(buckets, tonumber(from))
      assert.equal(buckets * 2, tonumber(to))
      assert.truthy(tonumber(entries) * 4 >= buckets * 3, output)
      buckets = buckets * 2
    end
    assert.equal(buckets, statistic(output, "bigcache.buckets"))
    return buckets, output
  end

  it("makes the table of big blocks grow, with default knobs", function()
    local buckets, output = resizes("0.5 1048577 1310720 1 100 1 2 --burst 300", {})
    assert.truthy(buckets >= 1024, output) -- 256 → 512 → 1024
    assert.truthy(statistic(output, "bigcache.peak") <= 256 * 1024 * 1024, output)
  end)

  it("makes the table of big blocks grow to its limit", function()
    local seconds, buckets, output = 2, 0, nil
    while buckets < 65536 and seconds < 60 do -- until there was time enough
      buckets, output = resizes(seconds .. " 1048577 1048577 1 1 1 1 --burst 26000 --sites 4096",
        { HAKMEM_BIGCACHE_MAX_MAPPED = "1T", HAKMEM_BIGCACHE_DECAY = "1h" })
      seconds = seconds * 3
    end
    assert.equal(65536, buckets, output)
  end)
end)
