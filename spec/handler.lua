--- busted output handler: one line per test, the same words as the C tests use.
-- `ok name`, `not ok name` with the reason in lines that start with `#`, `skip name - reason`.

return function()
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()

  local function write(...)
    io.write(...)
    io.write("\n")
    io.flush()
  end

  local function fail(t)
    local message = t.message == nil and "no reason given" or tostring(t.message)
    if type(t.message) == "table" then message = require "pl.pretty".write(t.message) end
    write("not ok ", t.name)
    local trace = t.element.trace or t.trace
    if trace and trace.short_src then write("# ", trace.short_src, ":", trace.currentline or 0) end
    for line in message:gmatch "[^\n]+" do write("# ", line) end
  end

  function handler.testEnd(_, _, status)
    if status == "success" then
      write("ok ", handler.successes[#handler.successes].name)
    elseif status == "pending" then
      local t = handler.pendings[#handler.pendings]
      write("skip ", t.name, " - ", tostring(t.message or "pending"))
    elseif status == "failure" then
      fail(handler.failures[#handler.failures])
    else
      fail(handler.errors[#handler.errors])
    end
    return nil, true
  end

  -- Errors outside a test: a file that does not load, a broken setup.
  function handler.error(element)
    if element.descriptor ~= "it" then fail(handler.errors[#handler.errors]) end
    return nil, true
  end

  busted.subscribe({ "test", "end" }, handler.testEnd, { predicate = handler.cancelOnPending })
  busted.subscribe({ "error" }, handler.error)
  return handler
end
