-- plot.lua - bars drawn by gnuplot as SVG and PNG: the suites relative to glibc; the rows of malloc-like
-- calls relative to hakmem.

local m = require "math_stats"
local samples = require "samples"

local plot = {}

local colours = {
  hakmem = "#c0392b", glibc = "#7f8c8d", jemalloc = "#b8a24a", mimalloc = "#4a86b8",
  tcmalloc = "#6aa56a", own = "#8e6bb0",
}

-- Rows of `program value value ...`, relative to `base`, with the geometric mean last.
local function data_block(name, suite, programs, base)
  local lines, lists = { "$" .. name .. " << EOD" }, {}
  for _, program in ipairs(programs) do
    local taken, cells = suite.result[program.name], { program.name }
    for i, allocator in ipairs(suite.allocators) do
      local ratio = m.median(m.ratios(taken[allocator.name].wall, taken[base].wall))
      lists[i] = lists[i] or {}
      table.insert(lists[i], ratio)
      cells[#cells + 1] = ("%.4f"):format(ratio)
    end
    lines[#lines + 1] = table.concat(cells, " ")
  end
  local means = { "mean" }
  for i = 1, #suite.allocators do means[i + 1] = ("%.4f"):format(m.geomean(lists[i])) end
  lines[#lines + 1] = table.concat(means, " ")
  lines[#lines + 1] = "EOD"
  return table.concat(lines, "\n")
end

local function panel(name, title, suite)
  local series = {}
  for i, allocator in ipairs(suite.allocators) do
    series[i] = ("$%s using %d%s title '%s' linecolor rgb '%s'"):format(name, i + 1,
      i == 1 and ":xtic(1)" or "", allocator.name, colours[allocator.name] or "#bbbbbb")
  end
  return ("set title '%s' offset 0,-0.5\nplot %s, 1 notitle with lines lc rgb '#555555' dt 2\n")
    :format(title, table.concat(series, ", "))
end

local settings = [[
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.9 noborder
set boxwidth 1.0
set yrange [0:*]
set grid ytics lc rgb '#dddddd' lt 1
set border 3 lc rgb '#888888'
set tics nomirror
set key outside right top Left reverse samplen 1
set multiplot layout %d,1
]]

-- Draws `body` after `blocks` of data as NAME.svg and NAME.png in `out`; false when gnuplot fails.
local function render(out, name, blocks, body, width, height)
  local script = assert(io.open(("%s/%s.gp"):format(out, name), "w"))
  script:write(table.concat(blocks, "\n"), "\n")
  for kind, terminal in pairs {
    svg = "svg size %d,%d font 'sans-serif,11' background '#ffffff'", png = "pngcairo size %d,%d font 'sans,9'",
  } do
    script:write("set terminal ", terminal:format(width, height), "\nset output '", out, "/", name, ".", kind,
      "'\n", body)
  end
  script:close()
  return os.execute(("gnuplot '%s/%s.gp' 2>'%s/gnuplot.log'"):format(out, name, out)) == true
end

local row_settings = [[
set logscale y 2
set yrange [*:*]
set xtics rotate by -60 left font ',8'
set bmargin 9
set format y '%gx'
]]

-- A panel for time and one for peak RSS of all rows, each peer relative to hakmem. Writes NAME.gp,
-- NAME.svg and NAME.png into `out`; returns false when gnuplot fails.
function plot.rows(out, name, rows, result, allocators)
  local blocks, panels, peers = {}, {}, {}
  for _, allocator in ipairs(allocators) do
    if allocator.peer then peers[#peers + 1] = allocator end
  end
  for _, part in ipairs { { "time", "time" }, { "peak", "peak RSS" } } do
    local lines = { ("$%s << EOD"):format(part[1]) }
    for _, row in ipairs(rows) do
      local cells, ours = { row.id }, samples.median(result[row.id], "hakmem", part[1])
      for _, peer in ipairs(peers) do
        local theirs = samples.median(result[row.id], peer.name, part[1])
        cells[#cells + 1] = ours and theirs and ("%.4f"):format(theirs / ours) or "?"
      end
      lines[#lines + 1] = table.concat(cells, " ")
    end
    lines[#lines + 1] = "EOD"
    blocks[#blocks + 1] = table.concat(lines, "\n")
    panels[#panels + 1] = panel(part[1], part[2] .. " relative to hakmem, above 1 hakmem is better",
      { allocators = peers })
  end
  local body = settings:format(#panels) .. row_settings .. table.concat(panels) .. "unset multiplot\n"
  return render(out, name, blocks, body, 1200, 760)
end

-- Writes bench.gp, bench.svg and bench.png into `out`; returns false when gnuplot fails.
function plot.draw(out, vms, suites, programs)
  local blocks, panels = {}, {}
  for _, vm in ipairs(vms) do
    local suite = suites[vm.name]
    local base = vm.name == "luajit" and "own" or "glibc"
    if suite and suite.result[programs[1].name][base] then
      local name = "suite" .. #panels + 1
      blocks[#blocks + 1] = data_block(name, suite, programs, base)
      local title = ("%s: time, %s = 1, less is better"):format(vm.title,
        base == "own" and "its own allocator" or base)
      panels[#panels + 1] = panel(name, title, suite)
    end
  end
  if #panels == 0 then return false end
  local height = 60 + 270 * #panels
  local body = settings:format(#panels) .. table.concat(panels) .. "unset multiplot\n"
  return render(out, "bench", blocks, body, 960, height)
end

return plot
