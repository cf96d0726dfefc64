-- Lua 5.1 to 5.4 and LuaJIT run the same files.
std = "max"
max_line_length = 125
unused_args = false
-- 241: tables that only keep things alive.
files["spec"] = { std = "max+busted", ignore = { "241" } }
-- What hosts give to their scripts. Prosody's configuration is all assignments to globals.
files["examples/hosts"] = {
  globals = { "core", "lighty", "ngx", "Field", "Listener", module = { other_fields = true } },
}
exclude_files = { "examples/hosts/prosody.cfg.lua" }
