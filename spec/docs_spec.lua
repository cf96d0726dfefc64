-- The documents say what is true: what can be run in them runs, what they name is there.
local support = dofile "spec/lua_support.lua"
local quoted = support.quoted

local readme = support.text "README.md"

-- The first block of a language.
local function block(language)
  return (assert(readme:match("\n```" .. language .. "\n(.-)\n```\n"), language))
end

describe("README.md", function()
  it("has a tour in Lua that works", function()
    local output, status = support.child(block "lua")
    assert.equal(0, status, output)
    for _, line in ipairs {
      "true\tseen 1\nfalse\tnot enough memory\tQUOTA\nBUDGET\ntrue\tseen 2\n", "\nguest\t", "HAKM\t2026\t0.5\n",
      "true\tyou asked for /b\t1\n1\t2\n", "1000 rows\nnil\tmemory limit reached\tQUOTA\n",
      "false\tbad argument #1 to 'buffer' (size out of range)\n",
    } do
      assert.truthy(output:find(line, 1, true), line .. output)
    end
  end)

  it("has a tour in C that works", function()
    local path = os.tmpname()
    local file = assert(io.open(path .. ".c", "w"))
    file:write(block "c")
    file:close()
    local output, status = support.shell(("gcc -Wall -Werror -Icsrc/include -o %s %s.c %s/libhakmem.a && %s")
      :format(path, path, quoted(support.build), path))
    os.remove(path)
    os.remove(path .. ".c")
    assert.equal(0, status, output)
    assert.truthy(output:find "^limit\npeak %d+\n$", output)
  end)

  it("names files that are there", function()
    for _, document in ipairs { "README.md", "csrc/README.md", "examples/README.md", "spec/README.md",
      "lua/hakmem/README.md", "csrc/bench/README.md", "examples/hosts/README.md" } do
      local folder = document:match "^(.*/)" or ""
      for target in support.text(document):gmatch "%]%(([^)#:]+)%)" do
        local _, status = support.shell("test -e " .. quoted(folder .. target))
        assert.equal(0, status, document .. ": " .. target)
      end
    end
  end)
end)

describe("csrc/README.md", function()
  it("names functions that are there", function()
    local sources = support.shell "cat csrc/*/*.[ch]"
    for name in support.text "csrc/README.md":gmatch "`([%w_]+)%(%)`" do
      assert.truthy(sources:find("%f[%w_]" .. name .. "%("), name)
    end
  end)

  it("names every source file of the library", function()
    local text = support.text "csrc/README.md"
    for path in support.shell("ls csrc/base/* csrc/os/* csrc/map/* csrc/pool/* csrc/heap/* csrc/edge/*"):gmatch "%S+" do
      local name, extension = path:match "([%w_]+)(%.%w+)$"
      assert.truthy(text:find(name .. extension, 1, true) or text:find(name .. ".[ch]", 1, true), path)
    end
  end)
end)
