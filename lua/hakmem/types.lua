---@meta hakmem
-- luacheck: ignore 241
-- Annotations for the Lua language server. Nothing requires this file at run time.
-- Sizes: bytes, or text such as "64K" and "1.5GiB". Positions: 1-based, from the end when negative,
-- as in string.sub. A wrong argument raises; want of memory returns nil, message, code, where code
-- is "QUOTA" (a limit) or "NOMEM" (the machine). Durations: seconds, or text such as "250ms".

---@alias hakmem.size integer|number|string
---@alias hakmem.duration number|string
---@alias hakmem.code "QUOTA"|"NOMEM"|"BUDGET"|"INVALID"|"PERM"|"UNSUPPORTED"|"EXISTS"|"DECLINED"|"NOARENA"

---@class hakmem
---@field _VERSION string "hakmem 0.1.0"
---@field backend "c"|"ffi" who serves buffers and statistics: the C module, or LuaJIT's FFI
---@field backend_reason? string why LuaJIT's FFI was not taken
---@field config hakmem.config
local hakmem = {}

---Knobs by dotted name, for instance hakmem.config["purge.decay"]. Reading an unknown name raises;
---assigning checks, applies, or raises the reason. Durations are seconds, sizes bytes.
---`for name, value in hakmem.config do` visits all; from Lua 5.2 on pairs() does, too.
---@class hakmem.config
---@operator call: string, any
---@field [string] boolean|number|string

---@class hakmem.arena_options
---@field name? string cut at 31 bytes
---@field kind? "private"|"shared" default: private
---@field limit? hakmem.size charged bytes that are never exceeded; 0: none
---@field hard? hakmem.size the same as limit
---@field soft? hakmem.size charged bytes from which the arena is over its soft limit; 0: none
---@field [string] table|boolean|number|string knobs of the arena, as in configure: arena = { retain = "1M" }

---@class hakmem.install_options
---@field name? string of the arena; default: "lua"
---@field limit? hakmem.size charged bytes that are never exceeded; 0: none
---@field hard? hakmem.size the same as limit
---@field soft? hakmem.size charged bytes from which the arena is over its soft limit; 0: none
---@field types? boolean count allocations by type of object, statistics lua.*; from Lua 5.2 on
---@field [string] table|boolean|number|string knobs of the arena, as in configure

---@class hakmem.limits
---@field soft? hakmem.size
---@field hard? hakmem.size
---@field limit? hakmem.size the same as hard

---@class hakmem.vm_options
---@field name? string of its arena, and of the chunks in error messages
---@field limit? hakmem.size of its arena
---@field libs? string[] libraries to open; default: the standard ones without debug and ffi
---@field instructions? number VM instructions that one call may take
---@field seconds? hakmem.duration time that one call may take; see vm:call
---@field arena? hakmem.arena to live in, instead of one of its own; excludes limit

---Blocks of the pool of large blocks of one class; a list of these is `stats.l25.classes`.
---@class hakmem.l25_class
---@field size integer most bytes of a block
---@field blocks integer live
---@field cached integer free, in threads' caches and shards
---@field ops integer blocks handed out so far

---Statistics, nested at the dots of their names: `stats.small.slabs`. Numbers; `l25.classes` lists
---`hakmem.l25_class`; per arena also `name` and `kind`; process-wide also `arenas`, the list of all
---live arenas' statistics.
---@alias hakmem.stats table<string, any>

---A new arena. nil, message, code when memory does not suffice.
---@param options? hakmem.arena_options
---@return hakmem.arena? arena
---@return string? message
---@return hakmem.code? code
function hakmem.arena(options) end

---A Lua state of its own in a private arena of its own.
---@param options? hakmem.vm_options
---@return hakmem.vm? vm
---@return string? message
---@return hakmem.code? code
function hakmem.vm(options) end

---Moves this very VM onto a private arena of its own: from now on it allocates there. What it has
---stays where it is until it is freed or grows, and is the statistic `foreign`, not charged. At any
---time, also in a coroutine. The arena goes with the VM. Declines with a reason: "EXISTS" (the VM lives
---on an arena already), "UNSUPPORTED" (a LuaJIT that is not GC64), "DECLINED" (its host has set
---"hakmem.decline" in the registry). With its first limit, be it given later by arena:limit() or by
---with_limit(), LuaJIT before 2.1.ROLLING gets its compiler switched off: it may crash when memory ends in
---compiled code. In a finalizer that cannot be done: there it declines ("PERM") if it has a limit.
---@param options? hakmem.install_options
---@return hakmem.arena? arena
---@return string? message
---@return hakmem.code? code
function hakmem.install(options) end

---The arena that this VM allocates from: one that install() made, or its host did. nil: none.
---@return hakmem.arena? arena
function hakmem.current() end

---Runs f(...) under a limit of its own, inside a VM that others share; the VM lives on an arena already
---(install). Returns what f returns; nil, message, "QUOTA" when f fails because it overran. Other errors
---are raised as they are. Metered are the bytes that f allocates less those freed while it runs: who owns
---them is not known: when garbage of others goes meanwhile, f may hold more than its limit, the VM no more
---than its own. f runs in a coroutine of its own. While it
---has yielded (then with_limit() yields what it yielded) the limit is out of force. Inside another one the
---innermost is charged; it gets no more than the outer one has left, which is charged what is kept at its end.
---@param options { hard: hakmem.size }|hakmem.size
---@param f function
---@param ... any
---@return any ...
function hakmem.with_limit(options, f, ...) end

---@class hakmem.vm_pool_options: hakmem.vm_options without `arena`
---@field size? integer children that are kept idle, at most; default: 8
---@field template? string source code that each child runs once, when it is made; each use starts from there

---A pool of children that are as new for each use: see hakmem.vm_pool.
---@param options hakmem.vm_pool_options
---@return hakmem.vm_pool? pool
---@return string? message
---@return hakmem.code? code
function hakmem.vm_pool(options) end

---All statistics in a fresh table, or one by its dotted name.
---@return hakmem.stats
---@overload fun(name: string): number
function hakmem.stats() end

---Sets knobs, all or none: { purge = { decay = "250ms" } } or { ["purge.decay"] = 0.25 }.
---@param knobs table<string, table|boolean|number|string>
function hakmem.configure(knobs) end

---@param format? "text"|"json"|"prometheus" default: text
---@return string
function hakmem.report(format) end

---Gives the caches of shared arenas and of this thread back to the system.
---@return integer bytes given back by the default arena
function hakmem.trim() end

---Log lines, as the knob log.level lets them through, go to stderr; after log("keep") the last 128
---are kept for log() to fetch, which returns and forgets them, oldest first. For the whole process.
---@param where? "keep"|"stderr"
---@return string[]? lines without an argument
function hakmem.log(where) end

---@class hakmem.arena
local arena = {}

---Zero-filled bytes. The buffer keeps the arena alive until the arena is closed.
---@param size hakmem.size
---@return hakmem.buffer? buffer
---@return string? message
---@return hakmem.code? code
function arena:buffer(size) end

---LuaJIT with FFI only: a pointer to n zeroed items of a C type. The memory lives as long as this
---very pointer object, and not after reset or close; nothing checks that.
---@param ctype string|ffi.ctype*
---@param n? integer default: 1
---@return ffi.cdata*? pointer
---@return string? message
---@return hakmem.code? code
function arena:new(ctype, n) end

---@return hakmem.stats
---@overload fun(self: hakmem.arena, name: string): number
function arena:stats() end

---Sets limits; what is not named stays, 0 lifts. Without an argument: the soft and the hard limit.
---@param limits hakmem.limits
---@return hakmem.arena self
---@overload fun(self: hakmem.arena): integer, integer
function arena:limit(limits) end

---Sets knobs of this arena, all or none.
---@param knobs table<string, table|boolean|number|string>
---@return hakmem.arena self
function arena:configure(knobs) end

---Every buffer gone at once; the arena stays. Raises while a Lua state lives in it.
---@return hakmem.arena self
function arena:reset() end

---Gives cached memory back to the system.
---@return hakmem.arena self
function arena:trim() end

---Everything given back; any later use raises. Raises while a Lua state lives in it.
function arena:close() end

---Bytes in an arena. `#buffer` is their number. After free, or reset or close of the arena, any
---use raises `attempt to use a freed buffer`. Setters return the buffer.
---@class hakmem.buffer
---@operator len: integer
local buffer = {}

---n bytes from position i; absent: to the end.
---@param i integer
---@param n? integer
---@return string
function buffer:read(i, n) end

---@param i integer
---@param s string
---@return hakmem.buffer self
function buffer:write(i, s) end

---Fills n bytes from i (default: all) with a byte (default: 0).
---@param byte? integer|string
---@param i? integer
---@param n? integer
---@return hakmem.buffer self
function buffer:fill(byte, i, n) end

---Copies n bytes (default: the rest) from position `from` (default: 1) of another buffer, or of this
---one, to position i.
---@param i integer
---@param source hakmem.buffer
---@param from? integer
---@param n? integer
---@return hakmem.buffer self
function buffer:copy(i, source, from, n) end

---A view of n bytes from i on the same memory. It goes with the buffer, when that is freed, and
---when that shrinks below the view's end.
---@param i integer
---@param n? integer
---@return hakmem.buffer
function buffer:slice(i, n) end

---New bytes are zero. Slices cannot be resized.
---@param size hakmem.size
---@return hakmem.buffer? self
---@return string? message
---@return hakmem.code? code
function buffer:resize(size) end

---Frees the memory, also for slices; a slice lets go of its view only.
function buffer:free() end

---The address: light userdata; on LuaJIT with FFI a `uint8_t *`.
---@return lightuserdata|ffi.cdata*
function buffer:pointer() end

---Little-endian numbers at position i: without v read, with v written. 64-bit integers are cdata on
---LuaJIT with FFI, numbers on Lua 5.1 and 5.2, and integers from 5.3 on (u64: negative from 2^63).
---@param i integer
---@return integer
---@overload fun(self: hakmem.buffer, i: integer, v: integer): hakmem.buffer
function buffer:u8(i) end

---@param i integer
---@return integer
---@overload fun(self: hakmem.buffer, i: integer, v: integer): hakmem.buffer
function buffer:i8(i) end

---@param i integer
---@return integer
---@overload fun(self: hakmem.buffer, i: integer, v: integer): hakmem.buffer
function buffer:u16(i) end

---@param i integer
---@return integer
---@overload fun(self: hakmem.buffer, i: integer, v: integer): hakmem.buffer
function buffer:i16(i) end

---@param i integer
---@return integer
---@overload fun(self: hakmem.buffer, i: integer, v: integer): hakmem.buffer
function buffer:u32(i) end

---@param i integer
---@return integer
---@overload fun(self: hakmem.buffer, i: integer, v: integer): hakmem.buffer
function buffer:i32(i) end

---@param i integer
---@return integer|ffi.cdata*
---@overload fun(self: hakmem.buffer, i: integer, v: integer|ffi.cdata*): hakmem.buffer
function buffer:u64(i) end

---@param i integer
---@return integer|ffi.cdata*
---@overload fun(self: hakmem.buffer, i: integer, v: integer|ffi.cdata*): hakmem.buffer
function buffer:i64(i) end

---@param i integer
---@return number
---@overload fun(self: hakmem.buffer, i: integer, v: number): hakmem.buffer
function buffer:f32(i) end

---@param i integer
---@return number
---@overload fun(self: hakmem.buffer, i: integer, v: number): hakmem.buffer
function buffer:f64(i) end

---@class hakmem.vm
local vm = {}

---Compiles and runs source code in the child; `...` in it are the arguments. nil, booleans, numbers,
---strings and tables of these cross, by value and without metatables. After an error, which may be
---`not enough memory`, the child is usable again.
---
---A budget is fresh for each call. When it is used up, an error `instruction budget exceeded` or
---`time budget exceeded` is raised at every instruction, in every coroutine, until the call returns,
---with the code "BUDGET". Instructions are counted exactly; coroutines that the call makes may do
---twice as much in all, one of an earlier call 1,000 more. Time is looked at every 1,000 instructions.
---Neither is looked at inside C functions: a pattern that backtracks, io.read, os.execute.
---A child with a budget has no finalizers (setmetatable() raises at `__gc`; newproxy is not there), the
---debug library without what could take the budget off, and on LuaJIT no compiler.
---@param code string
---@param ... any
---@return boolean ok
---@return any ... results, or the message with a traceback
---@return hakmem.code? code after a message: "BUDGET", or "QUOTA" and "NOMEM" for want of memory
function vm:call(code, ...) end

---@return hakmem.stats # of the child's arena
---@overload fun(self: hakmem.vm, name: string): number
function vm:stats() end

---Closes the child: its finalizers run, then its arena goes. Where none can be waiting, which hakmem
---knows, the state is not walked: the time does not depend on how much it holds.
function vm:close() end

---Children that are made once and brought back, after each use, to the moment when their template had
---run: the memory of the state is copied back. One that has opened a file or loaded a C library since
---(`require "hakmem"` does), or may otherwise have a finalizer waiting, is closed as vm:close() has it, and
---another is made; if the template itself did so, every use gets one that is made for it. On LuaJIT the
---compiler is off.
---What is not the state's own is not brought back: locale, environment, files on disk. Strings hash with
---the same seed in each use of a child.
---@class hakmem.vm_pool
local vm_pool = {}

---One use: takes a child, runs the code as vm:call() does, gives the child back.
---@param code string
---@param ... any
---@return boolean ok
---@return any ... results, or the message
---@return hakmem.code? code after a message
function vm_pool:call(code, ...) end

---A child for several calls; its close(), the end of its scope, or the collector gives it back. More
---than `size` may be out at a time.
---@return hakmem.vm? vm
---@return string? message also that of the template
---@return hakmem.code? code
function vm_pool:take() end

---Counts: size, idle, busy, uses, created (states made), restored (brought back to be used again).
---@return table<string, integer>
function vm_pool:stats() end

---Ends the idle children now, the others when they are given back.
function vm_pool:close() end

return hakmem
