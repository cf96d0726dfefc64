--- hakmem: arenas, buffers and child VMs for Lua, and what the memory does.
-- Picks the backend: the C module everywhere; on LuaJIT the FFI takes over what a JIT compiler
-- can then inline (buffers' bytes and numbers, statistics). Annotations: hakmem/types.lua.

local core = require "hakmem.core"
local limit = require "hakmem.limit"

local hakmem = {
  _VERSION = core._VERSION,
  arena = core.arena,
  vm = core.vm,
  vm_pool = core.vm_pool,
  install = core.install,
  current = core.current,
  with_limit = limit.with_limit(core.internals.scopes),
  stats = core.stats,
  config = core.config,
  configure = core.configure,
  report = core.report,
  trim = core.trim,
  log = core.log,
  backend = "c",
}

if rawget(_G, "jit") then
  local ok, ffi_layer = pcall(require, "hakmem.ffi")
  local took, why
  if ok then
    took, why = ffi_layer.enable(core, hakmem)
  else
    why = ffi_layer
  end
  hakmem.backend = took and "ffi" or "c"
  hakmem.backend_reason = why
end

return hakmem
