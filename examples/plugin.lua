-- plugin.lua - plugins from strangers, each in a VM of its own with a cap on its memory and on what a call
-- may take. One behaves, one has a bug, one eats memory, one leaks a little with every event, one loops for
-- ever. None of them can take memory from the host or from each other.

local hakmem = require "hakmem"

local SOURCES = {
  counter = [[local seen = 0
    function on_event(e) seen = seen + 1; return ("%s #%d"):format(e.kind, seen) end]],
  buggy = [[function on_event(e) return e.missing.field end]],
  greedy = [[function on_event(e) return ("x"):rep(2 ^ 30) end]],
  leaky = [[local kept = {}
    function on_event(e) kept[#kept + 1] = e.kind .. (" "):rep(4000) .. #kept; return #kept end]],
  endless = [[function on_event() while true do pcall(error) end end]],
}
local SAFE = { "base", "string", "table", "math" } -- no io, no os, no require

local plugins, order = {}, { "counter", "buggy", "greedy", "leaky", "endless" }
for _, name in ipairs(order) do
  local vm = assert(hakmem.vm { name = name, limit = "512K", instructions = 1e6, libs = SAFE })
  assert(vm:call(SOURCES[name]))
  plugins[name] = { vm = vm, failures = 0 }
end

for i = 1, 200 do
  local event = { kind = i % 2 == 0 and "join" or "leave", user = i }
  for _, name in ipairs(order) do
    local plugin = plugins[name]
    if plugin.vm then
      local ok, answer = plugin.vm:call("return on_event(...)", event)
      plugin.last = ok and answer or answer:match "^[^\n]*"
      if not ok then plugin.failures = plugin.failures + 1 end
      if plugin.failures == 3 then -- enough: the plugin goes, with all of its memory
        plugin.charged, plugin.peak = plugin.vm:stats "charged", plugin.vm:stats "peak"
        plugin.vm:close()
        plugin.vm, plugin.stopped_at = nil, i
      end
    end
  end
end

for _, name in ipairs(order) do
  local plugin = plugins[name]
  local peak = plugin.vm and plugin.vm:stats "peak" or plugin.peak
  print(("%-8s %-17s peak %6d bytes, last answer: %s"):format(name,
    plugin.vm and "runs" or "stopped at " .. plugin.stopped_at, peak, tostring(plugin.last)))
  assert(peak <= 512 * 1024)
  if plugin.vm then plugin.vm:close() end
end
