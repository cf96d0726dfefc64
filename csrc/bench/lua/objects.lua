-- objects: classes with inheritance and methods; a small world of bodies whose every step makes
-- new vectors, as numeric code in Lua tends to.
local steps = tonumber((...)) or 250

local function class(parent)
  local c = setmetatable({}, { __index = parent })
  c.__index = c
  c.new = function(...)
    local object = setmetatable({}, c)
    object:init(...)
    return object
  end
  return c
end

local Vector = {}
Vector.__index = Vector
local function vector(x, y) return setmetatable({ x = x, y = y }, Vector) end
Vector.__add = function(a, b) return vector(a.x + b.x, a.y + b.y) end
Vector.__sub = function(a, b) return vector(a.x - b.x, a.y - b.y) end
Vector.__mul = function(a, k) return vector(a.x * k, a.y * k) end
function Vector:length2() return self.x * self.x + self.y * self.y end

local Body = class()
function Body:init(id, place, speed)
  self.id, self.place, self.speed = id, place, speed
  self.log = {}
end
function Body.force(_) return vector(0, 0) end
function Body:step()
  self.speed = self.speed + self:force() * 0.125
  self.place = self.place + self.speed * 0.125
  self:bounce()
end
function Body:bounce()
  local place, speed = self.place, self.speed
  local hit = false
  if place.x < 0 or place.x > 1024 then speed, hit = vector(-speed.x, speed.y), true end
  if place.y < 0 or place.y > 1024 then speed, hit = vector(speed.x, -speed.y), true end
  if hit then
    self.speed = speed
    self:note("bounce")
  end
end
function Body:note(what)
  local log = self.log
  log[#log + 1] = { what = what, place = self.place }
  if #log > 8 then self.log = { log[#log] } end
end

local Falling = class(Body)
function Falling.force(_) return vector(0, 0.5) end

local Pulled = class(Body)
function Pulled:init(id, place, speed, centre)
  Body.init(self, id, place, speed)
  self.centre = centre
end
function Pulled:force()
  local towards = self.centre - self.place
  return towards * (1 / (256 + towards:length2() / 1024))
end

local Splitting = class(Falling)
function Splitting:init(id, place, speed, world)
  Falling.init(self, id, place, speed)
  self.world, self.age = world, 0
end
function Splitting:step()
  Falling.step(self)
  self.age = self.age + 1
  if self.age % 16 == 0 then
    self.world:add(Falling.new(self.id, self.place, vector(self.speed.y, self.speed.x)))
  end
end

local World = class()
function World:init() self.bodies = {} end
function World:add(body)
  local bodies = self.bodies
  bodies[#bodies + 1] = body
  if #bodies > 400 then table.remove(bodies, 101) end
end
function World:step()
  for i = 1, #self.bodies do self.bodies[i]:step() end
end

local world = World.new()
for i = 1, 100 do
  local place = vector(i * 37 % 1024, i * 91 % 1024)
  local speed = vector(i % 11 - 5, i % 7 - 3)
  if i % 3 == 0 then
    world:add(Falling.new(i, place, speed))
  elseif i % 3 == 1 then
    world:add(Pulled.new(i, place, speed, vector(512, 512)))
  else
    world:add(Splitting.new(i, place, speed, world))
  end
end
for _ = 1, steps do world:step() end

local sum = #world.bodies
for _, body in ipairs(world.bodies) do
  local x, y = math.floor(body.place.x * 8), math.floor(body.place.y * 8)
  sum = (sum * 31 + x + y + #body.log) % 1000000007
end
print(string.format("checksum %d", sum))
