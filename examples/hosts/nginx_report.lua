--- What nginx.conf serves, and the metrics of all workers on one page.
local hakmem = require "hakmem"
local report = {}

local EVERY = 1 -- seconds
local shared = ngx.shared.hakmem

--- n rows of text.
function report.rows(n)
  local rows = {}
  for i = 1, n do rows[i] = ("row %d of %d: %s\n"):format(i, n, ("*"):rep(i % 50)) end
  return table.concat(rows)
end

--- Some kilobytes in a table of different strings.
function report.fill(kb)
  local list = {}
  for i = 1, kb do list[i] = ("%8d"):format(i):rep(127) end
  return list
end

local GUEST = [[
  local n, rows = (...), {}
  for i = 1, n do rows[i] = ("guest row %d of %d\n"):format(i, n) end
  return table.concat(rows)
]]
local guest

--- Rows from a script that is not trusted: in a child VM, one per worker. False and a message when
-- that has not enough memory; the child is usable again.
function report.guest(n)
  guest = guest or assert(hakmem.vm { name = "guest", limit = "1M" })
  local ok, text = guest:call(GUEST, n)
  return ok, ok and text or text:match "[^\n]+" .. "\n"
end

local function publish()
  shared:set(ngx.worker.id(), hakmem.report "prometheus", 5 * EVERY)
end

--- Called in each worker: keeps its numbers in the shared dictionary, as long as it works.
function report.start()
  publish()
  assert(ngx.timer.every(EVERY, function(premature)
    if not premature and not ngx.worker.exiting() then publish() end
  end))
end

--- The pages of all workers as one: a label tells them apart, and what belongs to one metric stands
-- together, as the format demands.
function report.all()
  publish()
  local order, families = {}, {}
  for worker = 0, ngx.worker.count() - 1 do
    local family
    for line in (shared:get(worker) or ""):gmatch "[^\n]+" do
      local kind, metric = line:match "^# (%u+) (%S+)"
      if kind == "HELP" and not families[metric] then
        families[metric] = { line }
        order[#order + 1] = metric
      elseif kind == "TYPE" and #families[metric] == 1 then
        families[metric][2] = line
      end
      if kind then
        family = families[metric]
      else
        local name, labels, value = line:match "^([%w_]+)({?.-}?) (%S+)$"
        labels = labels == "" and "" or "," .. labels:sub(2, -2)
        family[#family + 1] = ('%s{worker="%d"%s} %s'):format(name, worker, labels, value)
      end
    end
  end
  local lines = {}
  for _, metric in ipairs(order) do
    for _, line in ipairs(families[metric]) do lines[#lines + 1] = line end
  end
  return table.concat(lines, "\n") .. "\n"
end

return report
