-- quickstart.lua - the countries, languages and currencies of the world, in a Lua VM that may use
-- 8 MiB and not a byte more. `make run` runs it; it needs Debian's iso-codes and lua-dkjson.
--
-- 1. A child VM with a limit of its own reads four JSON files and builds an index.
-- 2. It answers queries.
-- 3. One query wants more memory than there is: it fails, and nothing else does.
-- 4. What the memory did: live, peak, waste by size class, and the way from live bytes to RSS.
-- 5. The VM is closed, and its memory goes back to the system.

local hakmem = require "hakmem"

local LIMIT = "8M"
local DATA = "/usr/share/iso-codes/json/iso_%s.json"

-- ---- what runs inside of the child --------------------------------------------------------------

local PROGRAM = [[
local json = require "dkjson"
local countries, subdivisions, languages, currencies = {}, {}, {}, {}
local groups = { ["3166-1"] = countries, ["639-3"] = languages, ["4217"] = currencies }

local function by_name(a, b) return a.name < b.name end

function load_codes(standard, text)
  local entries = assert(json.decode(text))[standard]
  for _, entry in ipairs(entries) do
    if standard == "3166-2" then -- subdivisions are indexed by the country in "CH-ZH"
      local country = entry.code:sub(1, 2)
      subdivisions[country] = subdivisions[country] or {}
      table.insert(subdivisions[country], entry)
    else
      table.insert(groups[standard], entry)
    end
  end
  if groups[standard] then table.sort(groups[standard], by_name) end
  return #entries
end

local function names(list, fits)
  local found = {}
  for _, entry in ipairs(list) do
    if fits(entry) then found[#found + 1] = entry.common_name or entry.name end
  end
  return found
end

local function prefix(text) return function(e) return e.name:sub(1, #text) == text end end
local function part(text) return function(e) return e.name:find(text, 1, true) ~= nil end end

function countries_by_prefix(text) return names(countries, prefix(text)) end
function languages_by_prefix(text) return names(languages, prefix(text)) end
function currencies_with(text) return names(currencies, part(text)) end
function subdivisions_of(code, kind)
  return names(subdivisions[code] or {}, function(e) return e.type == kind end)
end

function every_pair_of_languages() -- sixty-two million strings
  local pairs_of = {}
  for _, a in ipairs(languages) do
    for _, b in ipairs(languages) do pairs_of[#pairs_of + 1] = a.name .. " and " .. b.name end
  end
  return #pairs_of
end]]

-- ---- printing -----------------------------------------------------------------------------------

local function say(...) print(string.format(...)) end

local function title(text) say("\n%s\n%s", text, ("-"):rep(#text)) end

local function bytes(n)
  if n < 1024 then return ("%d B"):format(n) end
  if n < 1024 * 1024 then return ("%.1f KiB"):format(n / 1024) end
  return ("%.1f MiB"):format(n / 1024 / 1024)
end

local function shorten(list, width)
  local line = table.concat(list, ", ")
  if #line <= width then return line end
  return line:sub(1, width):match("^(.*),") .. ", ..."
end

-- ---- 1. load ------------------------------------------------------------------------------------

local function read_file(path)
  local file, why = io.open(path, "rb")
  if not file then
    io.stderr:write("quickstart: ", why, "\ninstall the data: apt-get install iso-codes\n")
    os.exit(1)
  end
  local text = file:read "*a"
  file:close()
  return text
end

local vm = assert(hakmem.vm { name = "iso-codes", limit = LIMIT })
assert(vm:call(PROGRAM))

title("1. A Lua VM of its own, limited to " .. LIMIT)
for _, standard in ipairs { "3166-1", "3166-2", "639-3", "4217" } do
  local text = read_file(DATA:format(standard))
  local start = os.clock()
  local _, count = assert(vm:call("return load_codes(...)", standard, text))
  assert(vm:call "collectgarbage()")
  say("ISO %-7s %5d entries from %9s of JSON in %4.0f ms; the VM holds %9s", standard, count,
    bytes(#text), (os.clock() - start) * 1000, bytes(vm:stats "allocated"))
end

-- ---- 2. ask -------------------------------------------------------------------------------------

local function ask(what, code, ...)
  local start = os.clock()
  local ok, found = vm:call(code, ...)
  assert(ok, found)
  say("%s: %d, in %.1f ms\n    %s", what, #found, (os.clock() - start) * 1000, shorten(found, 90))
end

title "2. Queries"
ask("Countries beginning with \"Ma\"", "return countries_by_prefix(...)", "Ma")
ask("Cantons of Switzerland", "return subdivisions_of(...)", "CH", "Canton")
ask("Languages beginning with \"Esp\"", "return languages_by_prefix(...)", "Esp")
ask("Currencies called Dollar", "return currencies_with(...)", "Dollar")

-- ---- 3. be greedy -------------------------------------------------------------------------------

title "3. A greedy query: every pair of languages"
local ok, message = vm:call "return every_pair_of_languages()"
assert(not ok, "the limit did not hold")
say("It ended with: %s", message:match "^[^\n]*")
say("Highest charge: %s of %s. Requests refused by the limit: %d.", bytes(vm:stats "peak"),
  bytes(vm:stats "hard"), vm:stats "refusals")
ask("The same VM, asked again: countries beginning with \"Z\"", "return countries_by_prefix(...)",
  "Z")

-- ---- 4. look at the memory ----------------------------------------------------------------------

title "4. What the memory did"
local child = vm:stats()
say("The VM: %d live blocks in %s, for which %s are charged; at most %s were.", child.blocks,
  bytes(child.allocated), bytes(child.charged), bytes(child.peak))
say("The process, as hakmem.report() tells it:\n")
print(hakmem.report "text")

-- ---- 5. let go ----------------------------------------------------------------------------------

title "5. The VM is closed"
local function now(when)
  local s = hakmem.stats()
  say("%-22s active %9s   cached %9s   resident %9s", when, bytes(s.active), bytes(s.cached),
    bytes(s.resident))
end
now "before"
vm:close()
now "closed"
hakmem.trim()
now "after hakmem.trim()"
