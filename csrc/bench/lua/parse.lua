-- parse: a small expression language: scanned, parsed to a syntax tree, simplified, evaluated and
-- printed back.
local programs = tonumber((...)) or 500

local seed = 23
local function random(n)
  seed = seed * 16807 % 2147483647
  return seed % n + 1
end

local names = { "alpha", "b", "count", "delta", "eps" }

local operators = { "+", "-", "*", "%", "+" }

local function make_source(depth)
  local r = random(8)
  if depth == 0 or r == 1 then
    return r <= 4 and tostring(random(999)) or names[random(#names)]
  elseif r == 2 then
    return "-" .. make_source(depth - 1)
  elseif r == 3 then
    return "max(" .. make_source(depth - 1) .. ", " .. make_source(depth - 1) .. ")"
  end
  local op = " " .. operators[r - 3] .. " "
  return "(" .. make_source(depth - 1) .. op .. make_source(depth - 1) .. ")"
end

local function scan(source)
  local tokens, at = {}, 1
  while true do
    at = source:find("%S", at)
    if not at then break end
    local kind, text = "number", source:match("^%d+", at)
    if not text then kind, text = "name", source:match("^%a%w*", at) end
    if not text then kind, text = "mark", source:sub(at, at) end
    tokens[#tokens + 1] = { kind = kind, text = text, at = at }
    at = at + #text
  end
  tokens[#tokens + 1] = { kind = "end", text = "", at = #source + 1 }
  return tokens
end

local Parser = {}
Parser.__index = Parser

function Parser:peek() return self.tokens[self.at].text end

function Parser:take()
  local token = self.tokens[self.at]
  self.at = self.at + 1
  return token
end

function Parser:expect(text)
  local token = self:take()
  assert(token.text == text, "expected " .. text)
end

function Parser:primary()
  local token = self:take()
  if token.kind == "number" then return { op = "number", value = tonumber(token.text) } end
  if token.text == "-" then return { op = "negate", self:primary() } end
  if token.text == "(" then
    local node = self:binary(1)
    self:expect(")")
    return node
  end
  assert(token.kind == "name", "unexpected " .. token.text)
  if self:peek() ~= "(" then return { op = "variable", name = token.text } end
  self:expect("(")
  local call = { op = "call", name = token.text }
  repeat
    call[#call + 1] = self:binary(1)
  until self:take().text == ")"
  return call
end

local strength = { ["+"] = 1, ["-"] = 1, ["*"] = 2, ["%"] = 2 }

function Parser:binary(level)
  local left = self:primary()
  while (strength[self:peek()] or 0) >= level do
    local op = self:take().text
    left = { op = op, left, self:binary(strength[op] + 1) }
  end
  return left
end

local big = 1000003
local apply = {
  ["+"] = function(a, b) return (a + b) % big end,
  ["-"] = function(a, b) return (a - b) % big end,
  ["*"] = function(a, b) return a * b % big end,
  ["%"] = function(a, b) return b == 0 and 0 or a % b end,
  max = function(a, b) return a > b and a or b end,
  negate = function(a) return -a % big end,
}

-- A new tree in which operations on constants are already done.
local function simplify(node)
  local op = node.op
  if op == "number" or op == "variable" then return node end
  local copy = { op = op, name = node.name }
  local constant = true
  for i = 1, #node do
    copy[i] = simplify(node[i])
    constant = constant and copy[i].op == "number"
  end
  if not constant then return copy end
  local f = apply[node.name or op]
  return { op = "number", value = f(copy[1].value, copy[2] and copy[2].value) }
end

local function evaluate(node, env)
  local op = node.op
  if op == "number" then return node.value end
  if op == "variable" then return env[node.name] end
  return apply[node.name or op](evaluate(node[1], env), node[2] and evaluate(node[2], env))
end

local function show(node)
  local op = node.op
  if op == "number" then return string.format("%d", node.value) end
  if op == "variable" then return node.name end
  if op == "negate" then return "-" .. show(node[1]) end
  if op == "call" then return node.name .. "(" .. show(node[1]) .. ", " .. show(node[2]) .. ")" end
  return "(" .. show(node[1]) .. " " .. op .. " " .. show(node[2]) .. ")"
end

local sum = 0
for i = 1, programs do
  local source = make_source(7)
  local tree = setmetatable({ tokens = scan(source), at = 1 }, Parser):binary(1)
  local simple = simplify(tree)
  local env = { alpha = i, b = 2, count = 3 * i, delta = 5, eps = 7 }
  local value = evaluate(simple, env)
  assert(value == evaluate(tree, env), "simplifying changed the value")
  sum = (sum * 31 + value + #show(simple)) % 1000000007
end

print(string.format("checksum %d", sum))
