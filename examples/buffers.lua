-- buffers.lua - bytes outside of the Lua heap: a table of measurements in 16 bytes a row.
-- A Lua table of tables needs about ten times as much, and the collector walks all of it.

local hakmem = require "hakmem"

local ROWS, ROW = 50000, 16 -- u32 time, u16 sensor, i16 status, f64 value
local arena = assert(hakmem.arena { name = "measurements", limit = "4M" })

-- Write. Positions start at 1, as in string.sub; numbers are little-endian.
local rows = assert(arena:buffer(ROWS * ROW))
for i = 0, ROWS - 1 do
  local at = i * ROW + 1
  rows:u32(at, 1700000000 + i)
  rows:u16(at + 4, i % 7)
  rows:i16(at + 6, i % 1000 == 0 and -1 or 0)
  rows:f64(at + 8, math.sin(i / 100))
end

-- Read.
local sum, faults = 0, 0
for at = 1, #rows, ROW do
  sum = sum + rows:f64(at + 8)
  if rows:i16(at + 6) < 0 then faults = faults + 1 end
end
print(("%d rows in %d bytes, mean %.4f, %d faults"):format(ROWS, #rows, sum / ROWS, faults))

-- A slice is a view: it copies nothing, and what is written through it is in the buffer.
local last = rows:slice(-ROW)
last:f64(9, 42)
print("the last value is now", rows:f64(#rows - 7))

-- Bytes and strings.
local header = assert(arena:buffer(32))
header:write(1, "HAKM"):u16(5, 1):u32(7, ROWS)
local function hex(c) return ("\\x%02x"):format(c:byte()) end
print("a header: " .. header:read(1, 10):gsub("[^%w]", hex))
header:copy(17, header, 1, 10) -- within a buffer, too; they may overlap
assert(header:read(17, 4) == "HAKM")

-- It grows with new bytes zero, and shrinks.
assert(rows:resize(#rows + 10 * ROW))
assert(rows:u32(#rows - 3) == 0)

-- Out of bounds is an error, not a crash; so is a buffer that has gone.
print(pcall(rows.u32, rows, #rows))
rows:free()
print(pcall(rows.u32, rows, 1))

-- Closing the arena takes all that is left with it.
arena:close()
