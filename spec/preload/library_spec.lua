-- libhakmem-preload.so itself: its thread-local storage, its names, the environment, C++, Lua in it.
local support = require "spec.preload.support"
local quoted, shell = support.quoted, support.shell

local root = io.popen "pwd":read "l"

describe("the preload library", function()
  teardown(support.clean)

  it("has static thread-local storage of one or two pointers", function()
    local text = shell("readelf -lW " .. quoted(support.library))
    local size = tonumber(text:match "TLS%s+0x%x+%s+0x%x+%s+0x%x+%s+0x%x+%s+0x(%x+)", 16)
    assert.is_true(size > 0 and size <= 16)
    assert.is_truthy(shell("readelf -dW " .. quoted(support.library)):find "STATIC_TLS")
    assert.is_nil(shell("nm -D " .. quoted(support.library)):find "__tls_get_addr")
  end)

  it("keeps the general model elsewhere: a Lua module is loaded late", function()
    local text = shell("readelf -dW " .. quoted(support.library:gsub("libhakmem%-preload", "libhakmem")))
    assert.is_nil(text:find "STATIC_TLS")
  end)

  it("has the whole family, and nothing but it and hakmem's own names", function()
    local family = {}
    for name in ([[malloc calloc realloc reallocarray free cfree memalign aligned_alloc posix_memalign valloc pvalloc
      malloc_usable_size malloc_trim mallinfo mallinfo2 malloc_stats mallopt free_sized free_aligned_sized
      __libc_malloc __libc_calloc __libc_realloc __libc_memalign __libc_valloc __libc_pvalloc __libc_free
      __posix_memalign _Znwm _Znam _ZnwmRKSt9nothrow_t _ZnamRKSt9nothrow_t _ZnwmSt11align_val_t _ZnamSt11align_val_t
      _ZnwmSt11align_val_tRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t _ZdlPv _ZdaPv _ZdlPvm _ZdaPvm
      _ZdlPvRKSt9nothrow_t _ZdaPvRKSt9nothrow_t _ZdlPvSt11align_val_t _ZdaPvSt11align_val_t _ZdlPvmSt11align_val_t
      _ZdaPvmSt11align_val_t _ZdlPvSt11align_val_tRKSt9nothrow_t _ZdaPvSt11align_val_tRKSt9nothrow_t]]):gmatch "%S+" do
      family[name] = true
    end
    for name in shell("nm -D --defined-only " .. quoted(support.library)):gmatch " T (%S+)" do
      assert(family[name] or name:find "^hak_", name)
      family[name] = nil
    end
    assert.is_nil(next(family))
  end)

  it("takes its knobs from the environment", function()
    local function said(variables)
      return (shell(("env %s LD_PRELOAD=%s perl -e 1"):format(variables, quoted(support.library))))
    end
    assert.equal("", said "")
    assert.is_truthy(said("HAKMEM_LOG=1"):find("[L2.5_POOL] Initialized (shards=64, max=1024)", 1, true))
    assert.is_truthy(said("HAKMEM_CONF=log.level:1,l25.max_shards:128"):find("max=128", 1, true))
    local warning = said "HAKMEM_L25_MAX_SHARDS=many"
    assert.is_truthy(warning:find "^hakmem: [^\n]*L25_MAX_SHARDS[^\n]*\n$") -- one line
  end)

  it("caps a program whose limit comes from the environment of the shell", function()
    local code = [[
x = [bytearray(1000) for i in range(1000)]
try:
    y = bytearray(400 << 20)
except MemoryError:
    print("no memory")
print(len(x))]]
    local text = shell(("ulimit -v 300000; LD_PRELOAD=%s /usr/bin/python3 %s"):format(quoted(support.library),
      quoted(support.write("greedy.py", code))))
    assert.equal("no memory\n1000\n", text)
  end)

  it("keeps a limit that the program sets for itself, and leaves it room for threads if told", function()
    local code = support.write("limit.py", [[
import resource, threading
resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
try:
    t = threading.Thread(target=lambda: print("a thread"))
    t.start()
    t.join()
except RuntimeError:
    print("no thread")
n, blocks = 0, []
try:
    while n < 1000: blocks.append(bytearray(10 << 20)); n += 10
except MemoryError:
    print(200 < n < 600)]])
    for region, want in pairs { ["256G"] = "no thread\nTrue\n", ["64M"] = "a thread\nTrue\n" } do
      assert.equal(want, (support.run(("env HAKMEM_OS_REGION=%s /usr/bin/python3 %s"):format(region, code), true)))
    end
  end)

  it("gives C++ every form of new and delete, bad_alloc and the new_handler", function()
    for name, want in pairs { operators = "0 wrong\n", replaced = "4 new 4 delete\n" } do
      local program = support.path(name)
      local text, status = shell(("g++ -std=c++17 -Wall -o %s %s/spec/preload/%s.cc -ldl"):format(quoted(program),
        quoted(root), name))
      assert(status == 0, text)
      assert.equal(want, (support.run(quoted(program), true)))
    end
  end)

  it("says so when operator new has no memory and no C++ library to throw", function()
    local code = [[
import ctypes, resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
new = ctypes.CDLL(None)._Znwm
new.argtypes, new.restype = [ctypes.c_size_t], ctypes.c_void_p
print(new(100) % 16, flush=True)
new(1 << 62)]]
    local text, status = support.run("/usr/bin/python3 -c " .. quoted(code), true)
    assert.is_truthy(text:find("0\nhakmem: fatal: operator new: no memory, and no C++ library", 1, true))
    assert.equal(128 + 6, status)
  end)

  it("shares one state with the Lua module in the process", function()
    local code = [[
      local hakmem = require "hakmem"
      local before = hakmem.stats "blocks"
      local list = {}
      for i = 1, 10000 do list[i] = { i } end
      io.write(hakmem.stats "blocks" - before >= 10000 and "counted" or "apart", " ")
      local vm = hakmem.vm { limit = "4M", libs = { "base", "string" } }
      io.write(tostring(vm:call "return ('x'):rep(1e9)"), " ", tostring(select(2, vm:call "return 6 * 7")), " ")
      local arena = hakmem.arena { limit = "1M" }
      io.write(#arena:buffer(1000), " ", tostring(arena:buffer "2M"))]]
    local text, status = support.run("lua5.4 " .. quoted(support.write("shared.lua", code)), true)
    assert.equal("counted false 42 1000 nil", text)
    assert.equal(0, status)
  end)
end)
