-- In the place of a module that Debian does not have: it loads, and each of its functions says that it is not there.
return setmetatable({}, {
  __index = function(_, name)
    return function()
      return nil, name .. " is not available in the test cluster"
    end
  end,
})
