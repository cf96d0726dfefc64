--- hakmem for Prosody. Settings: hakmem_limit for the VM, hakmem_message_limit for one message.
module:set_global()

local hakmem = require "hakmem"
local st = require "util.stanza"

local limit = module:get_option_string("hakmem_limit", "256M")
local message_limit = module:get_option_string("hakmem_message_limit", "1M")

-- A reload of the module finds the arena of the first time.
local arena = hakmem.current() or assert(hakmem.install { name = "prosody", limit = limit })
arena:limit { hard = limit }

-- What a filter from somebody else does with a text: here, *word*N becomes N words.
local function expand(text)
  return (text:gsub("%*(%w+)%*(%d+)", function(word, n)
    local words = {}
    for i = 1, n do words[i] = word .. i end
    return table.concat(words, " ")
  end))
end

local function filter(event)
  local stanza = event.stanza
  local body = stanza:get_child "body"
  if not body or stanza.attr.type == "error" then return end
  local text, message = hakmem.with_limit({ hard = message_limit }, expand, body:get_text() or "")
  if not text then
    event.origin.send(st.error_reply(stanza, "wait", "resource-constraint", message))
    return true
  end
  body[1] = text
end

function module.add_host(host)
  host:depends "http"
  host:hook("pre-message/full", filter)
  host:hook("pre-message/bare", filter)
  host:provides("http", {
    name = "metrics",
    route = {
      GET = function(event)
        event.response.headers.content_type = "text/plain; version=0.0.4"
        return hakmem.report "prometheus"
      end,
    },
  })
end
