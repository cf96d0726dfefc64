-- tables.lua - one description of a table, written as text for the terminal or as Markdown.
--
-- A table: { title =, notes = { ... }, head = { ... }, rows = { { ... } | "-" } }; "-" is a rule.
-- The first column holds names, the others figures.

local tables = {}

local function width_of(text) return utf8.len(text) or #text end

local function pad(text, width, right)
  local space = (" "):rep(width - width_of(text))
  return right and space .. text or text .. space
end

local function widths(t)
  local w = {}
  for _, row in ipairs { t.head, table.unpack(t.rows) } do
    if row ~= "-" then
      for i, cell in ipairs(row) do w[i] = math.max(w[i] or 0, width_of(cell)) end
    end
  end
  return w
end

local function row_text(row, w)
  local cells = {}
  for i, cell in ipairs(row) do cells[i] = pad(cell, w[i], i > 1) end
  return "  " .. table.concat(cells, "   "):gsub("%s+$", "")
end

function tables.text(t)
  local w = widths(t)
  local total = 3 * (#w - 1)
  for _, n in ipairs(w) do total = total + n end
  local rule = "  " .. ("─"):rep(total)
  local out = { "", t.title, rule, row_text(t.head, w), rule }
  for _, row in ipairs(t.rows) do out[#out + 1] = row == "-" and rule or row_text(row, w) end
  out[#out + 1] = rule
  for _, note in ipairs(t.notes or {}) do out[#out + 1] = "  " .. note end
  return table.concat(out, "\n") .. "\n"
end

function tables.markdown(t, level)
  local out = {}
  if level then
    out[1] = ("#"):rep(level) .. " " .. t.title
    out[2] = ""
  end
  out[#out + 1] = "| " .. table.concat(t.head, " | ") .. " |"
  out[#out + 1] = "|---|" .. ("---:|"):rep(#t.head - 1)
  for _, row in ipairs(t.rows) do
    if row ~= "-" then out[#out + 1] = "| " .. table.concat(row, " | ") .. " |" end
  end
  out[#out + 1] = ""
  if t.notes and level then
    out[#out + 1] = table.concat(t.notes, " ")
    out[#out + 1] = ""
  end
  return table.concat(out, "\n")
end

return tables
