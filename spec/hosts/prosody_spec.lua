-- Prosody: Lua 5.4, hakmem required in a coroutine by a module, real accounts and messages.
local hosts = dofile "spec/hosts/support.lua"
local xmpp = dofile "spec/hosts/xmpp.lua"

local KB, MB = 1024, 1024 * 1024

describe("prosody", function()
  local prosody, alice, bob

  local function connect(register)
    alice = xmpp.connect(prosody.address, prosody.port, "localhost", "alice", register)
    bob = xmpp.connect(prosody.address, prosody.port, "localhost", "bob", register)
  end

  setup(function() prosody = hosts.start "prosody" end)
  teardown(function() if prosody then prosody:finish() end end)

  -- Sends n messages to and fro, fifty at a time, and checks each that arrives.
  local function talk(n)
    for first = 1, n, 50 do
      for i = first, first + 49 do
        alice:message(bob.jid, ("message *%s*3 and %d"):format("ab", i), i)
      end
      for i = first, first + 49 do
        local stanza = bob:receive()
        assert.equal(tostring(i), stanza:match "id='(%d+)'", stanza)
        assert.equal(("message ab1 ab2 ab3 and %d"):format(i), stanza:match "<body>(.-)</body>")
        bob:message(alice.jid, "got " .. i, i)
      end
      for i = first, first + 49 do
        assert.equal("got " .. i, alice:receive():match "<body>(.-)</body>")
      end
    end
  end

  local function of_arena(metric)
    local values = hosts.values(prosody:metrics(prosody.http_port), metric, { arena = "prosody" })
    assert.equal(1, #values)
    return values[1]
  end

  it("registers users and logs them in", function()
    connect(true)
    assert.equal("alice@localhost/spec", alice.jid)
    assert.equal(64 * MB, of_arena "hakmem_arena_hard_bytes")
  end)

  it("carries messages, all of them filtered under a limit", function()
    talk(2000)
    assert.truthy(of_arena "hakmem_arena_allocated_bytes" > 100 * KB)
    assert.truthy(of_arena "hakmem_arena_peak_bytes" < 16 * MB)
  end)

  it("refuses the message whose filter wants too much, and that one alone", function()
    for i = 1, 20 do
      alice:message(bob.jid, "*word*100000", i)
      local stanza = alice:expect "type='error'"
      assert.truthy(stanza:find "resource%-constraint" and stanza:find "memory limit reached", stanza)
    end
    talk(50)
  end)

  it("goes on through a reload of its configuration", function()
    talk(100)
    prosody:signal "HUP"
    talk(500)
    hosts.await("the reload", function() return prosody:output():find("Reloading configuration file", 1, true) end)
    assert.equal(64 * MB, of_arena "hakmem_arena_hard_bytes")
  end)

  it("stops when told so, starts again, and knows its users", function()
    alice:close()
    bob:close()
    assert.equal(0, prosody:stop "TERM")
    prosody = hosts.start("prosody", prosody.env)
    connect(false)
    talk(100)
    alice:close()
    bob:close()
    assert.equal(0, prosody:stop "TERM")
    assert.truthy(prosody:output():find("Shutdown complete", 1, true))
    assert.falsy(prosody:output():find "hakmem:" or prosody:output():find "error", prosody:output())
  end)
end)
