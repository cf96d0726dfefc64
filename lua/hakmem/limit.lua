--- hakmem.with_limit: a function under a limit of its own, inside a VM that others share.
-- The function runs in a coroutine. When it yields, the limit is out of force until it is resumed: so
-- that requests which take turns in one VM are charged for what they do themselves.

local M = {}

local function bad_argument(number, why)
  error(("bad argument #%d to 'with_limit' (%s)"):format(number, why), 3)
end

local function hard_of(options)
  if type(options) ~= "table" then return options end
  local hard
  for key, value in pairs(options) do
    if key ~= "hard" and key ~= "limit" then
      return nil, ("unknown key '%s'"):format(tostring(key))
    end
    if hard ~= nil and value ~= hard then return nil, "limit and hard are the same and differ" end
    hard = value
  end
  return hard
end

--- The public function, over what the C module has for it.
function M.with_limit(scopes)
  local new, thread, enter, yield = scopes.new, scopes.thread, scopes.enter, scopes.yield

  -- ended: true, false for an error, nil for a yield
  local function drive(scope, co, ended, ...)
    if ended then return ... end
    if ended == nil then return drive(scope, co, enter(scope, co, yield(...))) end
    if select("#", ...) == 3 then return ... end -- nil, message, code: the limit
    error((...), 0)
  end

  return function(options, f, ...)
    local hard, why = hard_of(options)
    if why then bad_argument(1, why) end
    if type(f) ~= "function" then bad_argument(2, "function expected, got " .. type(f)) end
    local scope, message, code = new(hard)
    if scope == false then bad_argument(1, message) end
    if not scope then return nil, message, code end
    local co = thread(f)
    return drive(scope, co, enter(scope, co, ...))
  end
end

return M
