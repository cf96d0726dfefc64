--- A small XMPP client: one stream over TCP, log-in with SASL PLAIN, stanzas as text.
local socket = require "socket"
local mime = require "mime"

local xmpp = {}
local Client = {}
Client.__index = Client
local TIMEOUT = 60 -- seconds for one answer

-- The end of the element that starts at `at`, or nil when it has not arrived as a whole.
local function element_end(text, at)
  local depth = 0
  while true do
    local first, last = text:find("<[^>]*>", at)
    if not first then return nil end
    local tag = text:sub(first, last)
    if tag:find "^</" then
      depth = depth - 1
    elseif not tag:find "/>$" then
      depth = depth + 1
    end
    if depth == 0 then return last end
    at = last + 1
  end
end

--- The next element of the stream, as text.
function Client:receive()
  local deadline = socket.gettime() + TIMEOUT
  while true do
    local header = self.buffer:match "^%s*<%?xml.-%?>%s*()" or self.buffer:match "^%s*()"
    header = self.buffer:match("^<stream:stream[^>]*>()", header) or header
    local last = element_end(self.buffer, header)
    if last then
      local element = self.buffer:sub(header, last)
      self.buffer = self.buffer:sub(last + 1)
      return element
    end
    assert(socket.gettime() < deadline, "no answer")
    socket.select({ self.socket }, nil, 1)
    self.socket:settimeout(0) -- what is there
    local chunk, why, part = self.socket:receive(65536)
    assert(chunk or why == "timeout", why)
    self.buffer = self.buffer .. (chunk or part)
  end
end

function Client:send(text)
  self.socket:settimeout(TIMEOUT)
  assert(self.socket:send(text))
end

function Client:expect(pattern)
  local element = self:receive()
  assert(element:find(pattern), element)
  return element
end

function Client:open_stream()
  self.buffer = ""
  self:send(("<?xml version='1.0'?><stream:stream to='%s' version='1.0' xmlns='jabber:client' "
    .. "xmlns:stream='http://etherx.jabber.org/streams'>"):format(self.domain))
  self:expect "^<stream:features"
end

--- Connects a user and registers it first, when `register` is true.
function xmpp.connect(address, port, domain, user, register)
  local self = setmetatable({ domain = domain, user = user, buffer = "" }, Client)
  self.socket = assert(socket.connect(address, port))
  self.socket:setoption("tcp-nodelay", true)
  self:open_stream()
  if register then
    self:send(("<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>%s</username>"
      .. "<password>secret of %s</password></query></iq>"):format(user, user))
    self:expect "type='result'"
  end
  self:send(("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>"):format(
    (mime.b64(("\0%s\0secret of %s"):format(user, user)))))
  self:expect "^<success"
  self:open_stream()
  self:send "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>spec</resource></bind></iq>"
  self.jid = self:expect "type='result'":match "<jid>(.-)</jid>"
  self:send "<presence/>"
  self:expect "^<presence"
  return self
end

function Client:message(to, body, id)
  self:send(("<message type='chat' to='%s' id='%s'><body>%s</body></message>"):format(to, id, body))
end

--- Ends the stream in good order.
function Client:close()
  self:send "</stream:stream>"
  self.socket:close()
end

return xmpp
