-- json: documents encoded and decoded by a small codec of our own; every kind of value, long and
-- short strings, deep and wide tables.
local records = tonumber((...)) or 1500

local encode_value

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t" }
local function encode_string(s) return '"' .. s:gsub('["\\\n\t]', escapes) .. '"' end

local function encode_table(t, out)
  if #t > 0 or next(t) == nil then
    out[#out + 1] = "["
    for i = 1, #t do
      if i > 1 then out[#out + 1] = "," end
      encode_value(t[i], out)
    end
    out[#out + 1] = "]"
    return
  end
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys) -- the same text whatever the order of the hash
  out[#out + 1] = "{"
  for i = 1, #keys do
    if i > 1 then out[#out + 1] = "," end
    out[#out + 1] = encode_string(keys[i])
    out[#out + 1] = ":"
    encode_value(t[keys[i]], out)
  end
  out[#out + 1] = "}"
end

function encode_value(v, out)
  local kind = type(v)
  if kind == "table" then
    encode_table(v, out)
  elseif kind == "string" then
    out[#out + 1] = encode_string(v)
  elseif kind == "number" then
    out[#out + 1] = string.format("%.14g", v)
  else
    out[#out + 1] = tostring(v)
  end
end

local function encode(v)
  local out = {}
  encode_value(v, out)
  return table.concat(out)
end

local decode_value

local unescapes = { n = "\n", t = "\t", ['"'] = '"', ["\\"] = "\\" }
local function decode_string(text, at) -- `at` is behind the opening quote
  local stop = text:find('"', at, true)
  if not text:find("\\", at, true) or text:find("\\", at, true) > stop then
    return text:sub(at, stop - 1), stop + 1
  end
  local pieces = {}
  while true do
    local from, to, plain, mark = text:find('^([^"\\]*)(["\\])', at)
    assert(from, "unfinished string")
    pieces[#pieces + 1] = plain
    at = to + 1
    if mark == '"' then return table.concat(pieces), at end
    pieces[#pieces + 1] = unescapes[text:sub(at, at)]
    at = at + 1
  end
end

local function decode_array(text, at)
  local array = {}
  if text:byte(at) == 93 then return array, at + 1 end -- ]
  while true do
    array[#array + 1], at = decode_value(text, at)
    local c = text:byte(at)
    at = at + 1
    if c == 93 then return array, at end
  end
end

local function decode_object(text, at)
  local object = {}
  if text:byte(at) == 125 then return object, at + 1 end -- }
  while true do
    local key, value
    key, at = decode_string(text, at + 1)
    value, at = decode_value(text, at + 1)
    object[key] = value
    local c = text:byte(at)
    at = at + 1
    if c == 125 then return object, at end
  end
end

function decode_value(text, at)
  local c = text:byte(at)
  if c == 123 then return decode_object(text, at + 1) end
  if c == 91 then return decode_array(text, at + 1) end
  if c == 34 then return decode_string(text, at + 1) end
  if c == 116 then return true, at + 4 end
  if c == 102 then return false, at + 5 end
  local from, to = text:find("^[-+%d.eE]+", at)
  return tonumber(text:sub(from, to)), to + 1
end

local seed = 11
local function random(n)
  seed = seed * 16807 % 2147483647
  return seed % n + 1
end

local function make_record(i)
  local tags, history = {}, {}
  for t = 1, random(5) do tags[t] = "tag" .. random(500) end
  for h = 1, random(4) do
    history[h] = { at = 1600000000 + random(1000000), by = "user" .. random(99), ok = h % 2 == 0 }
  end
  return {
    id = i,
    name = "record number " .. i,
    note = ("a \"quoted\" line\n"):rep(random(3)),
    price = random(100000) / 100,
    active = i % 3 == 0,
    tags = tags,
    history = history,
    place = { lat = random(180) - 90, lon = random(360) - 180, path = { "a", "b", { "c" } } },
  }
end

local document = {}
for i = 1, records do document[i] = make_record(i) end

local text = encode(document)
for _ = 1, 3 do
  local copy = decode_value(text, 1)
  local again = encode(copy)
  assert(again == text, "round trip changed the document")
  text = again
end

local sum = #text
for i = 1, #text, 13 do sum = (sum * 31 + text:byte(i)) % 1000000007 end
print(string.format("checksum %d", sum))
