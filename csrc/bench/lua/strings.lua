-- strings: text assembled piece by piece, rewritten, cut up and joined again.
local rounds = tonumber((...)) or 1500

local seed = 7
local function random(n)
  seed = seed * 16807 % 2147483647
  return seed % n + 1
end

local words = {}
for i = 1, 256 do
  local letters = {}
  for j = 1, 2 + random(9) do letters[j] = string.char(96 + random(26)) end
  words[i] = table.concat(letters)
end

-- Appends to one ever longer string, as beginners do: each step is a new block.
local function append(n)
  local text = ""
  for _ = 1, n do text = text .. words[random(256)] .. " " end
  return text
end

local function format_lines(n)
  local lines = {}
  for i = 1, n do
    lines[#lines + 1] = string.format("%05d %-12s %s=%d", i, words[random(256)],
      words[random(256)]:upper(), random(1000000))
  end
  return table.concat(lines, "\n")
end

local function split(text)
  local parts = {}
  for part in text:gmatch("[^ \n]+") do parts[#parts + 1] = part end
  return parts
end

local function hash(text)
  local h = 0
  for i = 1, #text, 7 do h = (h * 31 + text:byte(i)) % 1000000007 end
  return h
end

local sum = 0
for round = 1, rounds do
  local text = append(60)
  local lines = format_lines(20)
  local parts = split(text .. lines)
  local swapped = lines:gsub("(%w+)=(%d+)", "%2:%1")
  local reversed = {}
  for i = #parts, 1, -1 do reversed[#reversed + 1] = parts[i]:reverse() end
  local all = table.concat(reversed, ",") .. swapped .. ("-"):rep(round % 400)
  sum = (sum * 17 + hash(all) + #all) % 1000000007
end

print(string.format("checksum %d", sum))
