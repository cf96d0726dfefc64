-- hakmem in Prosody: one arena for the server's VM; the module hakmem installs it, caps what
-- a message may cost, and serves /metrics. Started by examples/hosts/run, which sets ENV_*.
-- Plain passwords without encryption: for a demonstration on loopback, and for nothing else.

run_as_root = true
pidfile = ENV_RUN .. "/prosody.pid"
data_path = ENV_RUN .. "/data"
certificates = ENV_RUN
plugin_paths = { ENV_HAKMEM .. "/examples/hosts/prosody" }
log = { { levels = { min = "info" }, to = "console" } }

interfaces = { ENV_ADDRESS }
c2s_ports = { ENV_PORT }
http_ports = { ENV_HTTP_PORT }
http_interfaces = { ENV_ADDRESS }
http_default_host = "localhost"
https_ports = {}
s2s_ports = {}

modules_enabled = {
  "disco", "hakmem", "http", "posix", "register", "roster", "saslauth",
}
modules_disabled = { "s2s", "tls" }
hakmem_limit = "64M"          -- the whole server
hakmem_message_limit = "256K" -- what the filter may use for one message

authentication = "internal_plain"
allow_registration = true
c2s_require_encryption = false
allow_unencrypted_plain_auth = true

VirtualHost "localhost"
