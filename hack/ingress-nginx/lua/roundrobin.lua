-- Round robin by weight. Stands in for the module of lua-resty-balancer, which Debian does not have.
local Balancer = {}
Balancer.__index = Balancer

function Balancer.new(_, weights)
  local balancer = setmetatable({}, Balancer)
  balancer:reinit(weights)
  return balancer
end

function Balancer:reinit(weights)
  self.nodes = weights
  self.turns = {}
  for node, weight in pairs(weights) do
    for _ = 1, tonumber(weight) or 1 do
      table.insert(self.turns, node)
    end
  end
  -- Workers of nginx do not know of each other, so they must not all begin with the same node.
  self.turn = math.random(0, #self.turns)
end

function Balancer:find()
  if #self.turns == 0 then
    return nil
  end
  self.turn = self.turn % #self.turns + 1
  return self.turns[self.turn]
end

Balancer.next = Balancer.find

return Balancer
