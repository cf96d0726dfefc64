-- tshark: Lua 5.2, a tap over a capture that is written here, from a file and through a pipe.
local hosts = dofile "spec/hosts/support.lua"

local PACKETS, HOSTS, EVERY = 20000, 50, 1000 -- every 1000th text wants too much

local function checksum(header)
  local sum = 0
  for i = 1, #header, 2 do sum = sum + string.unpack(">I2", header, i) end
  while sum > 0xffff do sum = (sum & 0xffff) + (sum >> 16) end
  return ~sum & 0xffff
end

local function packet(i, text)
  local udp = string.pack(">I2I2I2I2", 40000, 9, 8 + #text, 0) .. text
  local function ip(sum)
    return string.pack(">I1I1I2I2I2I1I1I2", 0x45, 0, 20 + #udp, i % 65536, 0, 64, 17, sum)
      .. string.char(192, 0, 2, i % HOSTS + 1, 198, 51, 100, 1)
  end
  local frame = ("\2"):rep(12) .. "\8\0" .. ip(checksum(ip(0))) .. udp
  return string.pack("<I4I4I4I4", 1000000000 + i // 1000, i % 1000 * 1000, #frame, #frame) .. frame
end

describe("tshark", function()
  local run, capture
  local bytes = {} -- by host

  setup(function()
    run = hosts.folder()
    capture = run .. "/capture.pcap"
    local file = assert(io.open(capture, "wb"))
    file:write(string.pack("<I4I2I2i4I4I4I4", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
    for i = 1, PACKETS do
      local text = i % EVERY == 0 and "bomb*1000000" or ("x"):rep(i % 100 + 1) .. "*20"
      local record = packet(i, text)
      local host = "192.0.2." .. i % HOSTS + 1
      bytes[host] = (bytes[host] or 0) + #record - 16
      file:write(record)
    end
    file:close()
  end)
  teardown(function() if run then hosts.remove(run) end end)

  local function check(arguments)
    local output, status = hosts.shell(("env BUILD=%s RUN=%s examples/hosts/run tshark %s"):format(
      hosts.quoted(hosts.build), run, arguments))
    assert.equal(0, status, output)
    local seen = 0
    for host, packets, size in output:gmatch "(%S+) (%d+) packets, (%d+) bytes\n" do
      seen = seen + 1
      assert.equal(PACKETS // HOSTS, tonumber(packets))
      assert.equal(bytes[host], tonumber(size), host)
    end
    assert.equal(HOSTS, seen, output)
    local refused = PACKETS // EVERY
    assert.truthy(output:find(("%d words, %d different, %d texts refused\n"):format((PACKETS - refused) * 20,
      100 * 20, refused), 1, true), output)
    assert.falsy(output:find "hakmem:" or output:find "rror", output)

    local samples = hosts.samples(hosts.text(run .. "/tshark.prom"))
    local function of_arena(metric) return hosts.sum(samples, metric, { arena = "tshark" }) end
    assert.equal(64 << 20, of_arena "hakmem_arena_hard_bytes")
    assert.truthy(of_arena "hakmem_arena_small_refills_total" > 1000)
    assert.truthy(of_arena "hakmem_arena_peak_bytes" < 16 << 20)
    assert.truthy(hosts.sum(samples, "hakmem_arena_live") >= 2)
    os.remove(run .. "/tshark.prom")
  end

  it("taps a file", function() check("-r " .. capture) end)
  it("taps a file in two passes", function() check("-2 -r " .. capture) end)
  it("taps a pipe", function() check("-r - <" .. capture) end)
end)
