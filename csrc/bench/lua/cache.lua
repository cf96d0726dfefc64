-- cache: a long-lived cache, least recently used out, with values of many sizes; its churn keeps
-- making holes between blocks that stay.
local requests = tonumber((...)) or 120000

local seed = 99
local function random(n)
  seed = seed * 16807 % 2147483647
  return seed % n + 1
end

local Cache = {}
Cache.__index = Cache

function Cache.new(capacity)
  local self = setmetatable({ capacity = capacity, size = 0, map = {}, hits = 0 }, Cache)
  self.newest = {}
  self.oldest = { newer = self.newest }
  self.newest.older = self.oldest
  return self
end

local function unlink(entry)
  entry.older.newer = entry.newer
  entry.newer.older = entry.older
end

function Cache:push(entry)
  local newest = self.newest
  entry.newer, entry.older = newest, newest.older
  newest.older.newer = entry
  newest.older = entry
end

function Cache:get(key)
  local entry = self.map[key]
  if not entry then return nil end
  self.hits = self.hits + 1
  unlink(entry)
  self:push(entry)
  return entry.value
end

function Cache:put(key, value)
  if self.size >= self.capacity then
    local victim = self.oldest.newer
    unlink(victim)
    self.map[victim.key] = nil
    self.size = self.size - 1
  end
  local entry = { key = key, value = value, uses = 0 }
  self.map[key] = entry
  self:push(entry)
  self.size = self.size + 1
end

-- Popular keys are asked for more often, and which are popular drifts slowly.
local function pick(at)
  local r = random(1000)
  local span = r <= 600 and 800 or r <= 900 and 5000 or 40000
  return (random(span) + math.floor(at / 40)) % 60000
end

local function make_value(key)
  local kind = key % 4
  if kind == 0 then
    return ("v" .. key):rep(1 + random(60))
  elseif kind == 1 then
    return { id = key, parts = { key, key * 2, key * 3 }, label = "item " .. key }
  elseif kind == 2 then
    local list = {}
    for i = 1, random(40) do list[i] = key + i end
    return list
  end
  return { name = "k" .. key, body = ("x" .. key .. ";"):rep(random(8)), flags = { key % 2 == 0 } }
end

local cache = Cache.new(4000)
local sum = 0
for at = 1, requests do
  local key = pick(at)
  local name = "key:" .. key
  local value = cache:get(name)
  if value == nil then
    value = make_value(key)
    cache:put(name, value)
  end
  if type(value) == "string" then
    sum = sum + #value
  else
    sum = sum + (value.id or #value)
  end
end

print(string.format("checksum %d", (sum * 31 + cache.hits) % 1000000007))
