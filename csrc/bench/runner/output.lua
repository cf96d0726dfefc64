-- output.lua - tables go to the terminal, to NAME.txt and to NAME.md; samples to NAME.csv.

local tables = require "tables"

local output = {}
output.__index = output

function output.open(options, name, columns)
  local base = ("%s/%s."):format(options.out, name)
  local self = setmetatable({}, output)
  self.csv = assert(io.open(base .. "csv", "w"))
  self.text = assert(io.open(base .. "txt", "w"))
  self.markdown = assert(io.open(base .. "md", "w"))
  self.csv:write(columns, "\n")
  self.text:write(options.headline)
  self.markdown:write("# ", options.headline, "\n")
  return self
end

function output:log(...) self.csv:write(table.concat({ ... }, ","), "\n") end

-- nil: nothing to show.
function output:show(t)
  if not t then return end
  local plain = tables.text(t)
  io.write(plain)
  self.text:write(plain)
  self.markdown:write(tables.markdown(t, 2), "\n")
end

function output:close()
  self.csv:close()
  self.text:close()
  self.markdown:close()
end

-- Counts what went wrong while measuring: a function for options.failed, and one that prints it
-- and returns whether nothing did.
function output.failures()
  local list = {}
  local function failed(row, variant, message)
    list[#list + 1] = ("%s under %s: %s"):format(row.id, variant.name, message)
  end
  return failed, function()
    for _, line in ipairs(list) do print("failed: " .. line) end
    return #list == 0
  end
end

return output
