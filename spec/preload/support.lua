--- What the specs of programs under the preload share.
local lua_support = require "spec.lua_support"
local support = { quoted = lua_support.quoted, shell = lua_support.shell, short = lua_support.short }

support.library = lua_support.build .. "/libhakmem-preload.so"

local folder -- of this run; one for all

--- The path of a file in a private folder.
function support.path(name)
  if not folder then
    folder = support.shell("mktemp -d /tmp/hakmem-preload-XXXXXX"):match "%S+"
    support.shell("chmod 755 " .. folder)
  end
  return folder .. "/" .. name
end

function support.clean()
  if folder then support.shell("rm -rf " .. support.quoted(folder)) end
  folder = nil
end

function support.write(name, text)
  local file = assert(io.open(support.path(name), "wb"))
  file:write(text)
  file:close()
  return support.path(name)
end

function support.read(path)
  local file = io.open(path, "rb")
  local text = file and file:read "*a" or ""
  if file then file:close() end
  return text
end

--- The words that put a command onto hakmem, or onto the C library's malloc.
function support.env(preloaded)
  return preloaded and "env LD_PRELOAD=" .. support.quoted(support.library) .. " " or "env "
end

--- Runs a command in a folder of its own; returns what it prints and its status.
function support.run(command, preloaded)
  local env = support.env(preloaded)
  local _, absent = support.shell(env .. "grep -q libhakmem-preload /proc/self/maps")
  assert(preloaded == (absent == 0), "the library is not there, or is")
  local place, errors = support.path(preloaded and "with" or "without"), support.path "errors"
  local text, status = support.shell(("rm -rf %s; mkdir %s; cd %s; %s timeout 120 %s 2>%s")
    :format(place, place, place, env, command, errors))
  if status ~= 0 then text = ("%s%s(status %d)"):format(text, support.read(errors), status) end
  return text, status
end

--- Fails unless a command prints the same, and ends well, with and without the preload.
function support.same(command)
  local want, good = support.run(command, false)
  local text, status = support.run(command, true)
  assert(good == 0, want)
  assert(status == 0, text)
  assert(text == want, ("without:\n%s\nwith:\n%s"):format(want, text))
  assert(#text > 0)
  return text
end

--- A port on loopback that nobody has now.
function support.free_port()
  return (support.shell [[/usr/bin/python3 -c '
import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])']]):match "%d+"
end

--- Starts a server that stays in the foreground; stop{} ends it. It is gone after `seconds` at most.
function support.start(command, preloaded, log)
  local pid = support.shell(("%s timeout --foreground -k 5 100 %s >%s 2>&1 </dev/null & echo $!")
    :format(support.env(preloaded), command, support.quoted(log))):match "%d+"
  return { pid = pid, log = log }
end

--- Until a command succeeds, ten seconds at most.
function support.wait_for(command)
  local loop = "for i in $(seq 200); do %s >/dev/null 2>&1 && exit 0; sleep 0.05; done; exit 1"
  local _, status = support.shell("sh -c " .. support.quoted(loop:format(command)))
  return status == 0
end

--- Tells it to end, by its own number, and waits until it has.
function support.stop(server, signal)
  support.shell(("kill -s %s %s"):format(signal or "TERM", server.pid))
  local ended = support.wait_for("! kill -0 " .. server.pid)
  if not ended then support.shell("kill -s KILL " .. server.pid) end
  return ended
end

--- Is the library in the server?
function support.is_preloaded(server)
  local pids = support.read(("/proc/%s/task/%s/children"):format(server.pid, server.pid))
  local seen = 0
  for pid in pids:gmatch "%d+" do
    if not support.read("/proc/" .. pid .. "/maps"):find("libhakmem-preload", 1, true) then return false end
    seen = seen + 1
  end
  return seen > 0
end

return support
