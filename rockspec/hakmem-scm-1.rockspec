rockspec_format = "3.0"
package = "hakmem"
version = "scm-1"
source = {
  -- Nothing is fetched: `luarocks make` builds the tree that this file is in.
  url = "git+file://.",
}
description = {
  summary = "Arenas, memory limits, buffers and child VMs for Lua",
  detailed = [[
    hakmem is an arena allocator for Lua in servers: it says where the memory goes, caps one script
    without hurting its host, and gives a whole VM's memory back at once.]],
  license = "MIT",
}
supported_platforms = { "linux" }
dependencies = { "lua >= 5.1, < 5.5" }
build = {
  type = "make",
  makefile = "rockspec/rock.mk",
  build_variables = {
    CC = "$(CC)",
    CFLAGS = "$(CFLAGS)",
    LIBFLAG = "$(LIBFLAG)",
    LUA_INCDIR = "$(LUA_INCDIR)",
  },
  install_pass = false,
  install = {
    lua = {
      ["hakmem.init"] = "lua/hakmem/init.lua",
      ["hakmem.ffi"] = "lua/hakmem/ffi.lua",
      ["hakmem.cdef"] = "lua/hakmem/cdef.lua",
      ["hakmem.limit"] = "lua/hakmem/limit.lua",
      ["hakmem.types"] = "lua/hakmem/types.lua",
    },
    lib = { ["hakmem.core"] = "build/rock/core.so" },
  },
}
test = { type = "command", script = "rockspec/smoke.lua" }
