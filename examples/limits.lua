-- limits.lua - an arena with limits: what is refused, how one is told, and what stays intact.

local hakmem = require "hakmem"

local arena = assert(hakmem.arena { name = "uploads", soft = "3M", limit = "4M" })

-- Within the limit.
local uploads = {}
for i = 1, 3 do uploads[i] = assert(arena:buffer "1M") end
local soft, hard = arena:limit()
print(("three uploads: %d bytes charged of %d (%d)"):format(arena:stats "charged", hard, soft))

-- The next one is too large. Want of memory is no error: nil, a message and a code.
local refused, message, code = arena:buffer "1.5M"
print("the fourth:", refused, message, code)
assert(refused == nil and code == "QUOTA")
assert(#uploads[3]:fill("x") == 2 ^ 20) -- what was there still is

-- Growing obeys the limit as well. The buffer keeps its size and its bytes.
print("growing:", uploads[1]:resize "3M")
assert(#uploads[1] == 2 ^ 20)

-- A limit can be raised, lowered below what is in use (nothing is taken away), or lifted.
arena:limit { hard = "8M" }
uploads[4] = assert(arena:buffer "1.5M")
arena:limit { soft = 0, hard = "2M" }
print("lowered: charged", arena:stats "charged", "hard", arena:stats "hard")
assert(arena:buffer(1) == nil)

-- What was freed may be used again.
for i = 1, 4 do uploads[i]:free() end
assert(arena:buffer "1M")

-- A wrong argument is an error of the program: it raises.
print(pcall(arena.buffer, arena, -1))
print(pcall(arena.limit, arena, { hard = "lots" }))

local stats = arena:stats()
assert(stats.refusals > 0)
print(("the soft limit was passed %d times"):format(stats.soft_crossings))
arena:close()
