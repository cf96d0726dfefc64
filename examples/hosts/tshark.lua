--- A tap for tshark on an arena: who sends how much, and what texts say, of any capture. Texts come
-- from strangers: reading one may take so much memory and no more.
-- At the end it writes what hakmem counted to $RUN/tshark.prom.
local hakmem = require "hakmem"
assert(hakmem.install { name = "tshark", limit = "64M" })

local payload = Field.new "udp.payload"
local hosts, words, refused = {}, {}, 0

-- "word*N" stands for N words.
local function read(text)
  local list = {}
  for word, n in text:gmatch "(%a+)%*(%d+)" do
    for i = 1, n do list[#list + 1] = word .. i end
  end
  return list
end

local tap = Listener.new("ip", "udp")

function tap.packet(info)
  local source = tostring(info.src)
  local host = hosts[source] or { packets = 0, bytes = 0 }
  hosts[source] = host
  host.packets, host.bytes = host.packets + 1, host.bytes + info.len
  for _, field in ipairs { payload() } do
    local list = hakmem.with_limit({ hard = "256K" }, read, field.range:string())
    if not list then refused = refused + 1 end
    for _, word in ipairs(list or {}) do words[word] = (words[word] or 0) + 1 end
  end
end

function tap.draw()
  local names, n, kinds = {}, 0, 0
  for name in pairs(hosts) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do print(("%s %d packets, %d bytes"):format(name, hosts[name].packets, hosts[name].bytes)) end
  for _, count in pairs(words) do n, kinds = n + count, kinds + 1 end
  print(("%d words, %d different, %d texts refused"):format(n, kinds, refused))
  local file = assert(io.open(os.getenv "RUN" .. "/tshark.prom", "w"))
  file:write(hakmem.report "prometheus")
  file:close()
end
