-- A node by the hash of a key: the same key meets the same node for as long as the nodes are the same. Stands in for
-- the module of lua-resty-balancer, which Debian does not have. That one moves fewer keys when nodes change.
local Hash = {}
Hash.__index = Hash

function Hash.new(_, nodes)
  local hash = setmetatable({}, Hash)
  hash:reinit(nodes)
  return hash
end

function Hash:reinit(nodes)
  self.nodes = nodes
  self.order = {}
  for node in pairs(nodes) do
    table.insert(self.order, node)
  end
  table.sort(self.order)
end

function Hash:find(key)
  if #self.order == 0 then
    return nil
  end
  local index = ngx.crc32_short(tostring(key)) % #self.order + 1
  return self.order[index], index
end

function Hash:next(index)
  local following = index % #self.order + 1
  return self.order[following], following
end

return Hash
