-- sort: records grouped, indexed and sorted in several ways; arrays that grow, rows that move.
local count = tonumber((...)) or 6000

local seed = 5
local function random(n)
  seed = seed * 16807 % 2147483647
  return seed % n + 1
end

local function make_rows(n)
  local rows = {}
  for i = 1, n do
    rows[i] = { id = i, group = random(50), score = random(100000), name = "n" .. random(n) }
  end
  return rows
end

local function by_score(a, b)
  if a.score ~= b.score then return a.score < b.score end
  return a.id < b.id
end

local function by_name(a, b)
  if a.name ~= b.name then return a.name < b.name end
  return a.id < b.id
end

-- Merge sort that makes new arrays at every level instead of working in place.
local function merge_sort(rows, less)
  local n = #rows
  if n <= 1 then return rows end
  local half, left, right = math.floor(n / 2), {}, {}
  for i = 1, half do left[i] = rows[i] end
  for i = half + 1, n do right[#right + 1] = rows[i] end
  left, right = merge_sort(left, less), merge_sort(right, less)
  local out, l, r = {}, 1, 1
  for i = 1, n do
    if r > #right or (l <= #left and not less(right[r], left[l])) then
      out[i] = left[l]
      l = l + 1
    else
      out[i] = right[r]
      r = r + 1
    end
  end
  return out
end

-- Insertion sort on a linked list: one cell a row.
local function list_sort(rows, less)
  local head
  for _, row in ipairs(rows) do
    local cell = { row = row }
    if not head or less(row, head.row) then
      cell.next = head
      head = cell
    else
      local at = head
      while at.next and less(at.next.row, row) do at = at.next end
      cell.next = at.next
      at.next = cell
    end
  end
  return head
end

local sum = 0
local function digest(rows)
  for i = 1, #rows, 3 do sum = (sum * 31 + rows[i].id) % 1000000007 end
end

for _ = 1, 4 do
  local rows = make_rows(count)
  local sorted = merge_sort(rows, by_score)
  digest(sorted)
  table.sort(rows, by_name)
  digest(rows)

  local groups = {}
  for _, row in ipairs(rows) do
    local group = groups[row.group]
    if not group then
      group = {}
      groups[row.group] = group
    end
    group[#group + 1] = row
  end
  for i = 1, 50 do
    local group = groups[i]
    if group then
      table.sort(group, by_score)
      digest(group)
    end
  end
  local few = {}
  for i = 1, 150 do few[i] = sorted[i * 7 % #sorted + 1] end
  local cell = list_sort(few, by_name)
  while cell do
    sum = (sum * 7 + cell.row.score) % 1000000007
    cell = cell.next
  end
end

print(string.format("checksum %d", sum % 1000000007))
