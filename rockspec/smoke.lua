-- Run by `luarocks test` and by spec/rock_spec.lua: is what was installed whole?
local hakmem = require "hakmem"
local a = assert(hakmem.arena { name = "smoke", limit = "1M" })
local b = assert(a:buffer(1000)):write(1, "hello")
assert(b:read(1, 5) == "hello" and b:u8(1) == 104)
assert(select(3, a:buffer "2M") == "QUOTA")
local vm = assert(hakmem.vm { limit = "4M" })
local ok, sum = vm:call("local n = 0 for i = 1, ... do n = n + i end return n", 100)
assert(ok and sum == 5050)
assert(not vm:call "return ('x'):rep(1e9)")
vm:close()
a:close()
assert(hakmem.stats "arena.live" == 1)
print(hakmem._VERSION .. " works on " .. (rawget(_G, "jit") and jit.version or _VERSION) .. " (" .. hakmem.backend .. ")")
