-- Programs that know nothing of hakmem do the same under libhakmem-preload.so as without.
local support = require "spec.preload.support"
local quoted, same = support.quoted, support.same

local root = io.popen "pwd":read "l"

--- A script for an interpreter, compared.
local function same_script(interpreter, name, text)
  return same(interpreter .. " " .. quoted(support.write(name, text)))
end

describe("under the preload", function()
  teardown(support.clean)

  it("bash", function()
    same_script("bash", "script.sh", [[
      set -e
      declare -A seen
      for i in {1..3000}; do word="w$((i * 7919 % 1000))"; seen[$word]=$((${seen[$word]:-0} + i)); done
      for key in "${!seen[@]}"; do echo "$key ${seen[$key]}"; done | sort | md5sum
      for i in {1..50}; do x=$(echo "$(printf %s "$i" | tr 0-9 a-j)" | rev) && echo "$x"; done
      list=($(seq 5000)); echo "${#list[@]} ${list[@]:4990}"
      cat <(seq 100) <(seq 200 | grep 7) <<< ignored | awk '{ s += $1 } END { print s }'
      text=$(head -c 20000 /dev/zero | tr '\0' x); echo "${#text} ${text//x/yz}" | md5sum
      (exit 3) || echo "status $?"
      wait; echo end]])
  end)

  it("perl", function()
    same_script("perl", "script.pl", [[
      use strict; use warnings;
      my (%count, @lines);
      for my $i (1 .. 100000) { my $k = "k" . ($i * 7919 % 5003); $count{$k} .= chr(65 + $i % 26); }
      push @lines, "$_ $count{$_}" for sort keys %count;
      my $text = join "\n", @lines;
      (my $other = $text) =~ s/([A-M]+)/<$1>/g;
      print length($text), " ", length($other), " ", unpack("%32C*", $other), "\n";
      my @nested = map { { id => $_, list => [ map { $_ x 3 } 1 .. $_ % 50 ] } } 1 .. 3000;
      my $sum = 0; $sum += @{ $_->{list} } for @nested; print "$sum\n";
      for (1 .. 20) {
        my $pid = fork // die;
        if (!$pid) { my @x = (1) x 10000; exit($#x == 9999 ? 0 : 1) }
        waitpid $pid, 0; die if $?;
      }
      print "end\n";]])
  end)

  -- The numbers that the tests print, without the times.
  it("python3 and its own tests", function()
    local tests = "test_json test_list test_threading"
    local command = "sh -c '/usr/bin/python3 -m test -v " .. tests .. [[ >out 2>&1; s=$?
      grep -E "^(Ran|OK|FAILED|Tests result)" out | sed "s/ in .*//"; exit $s']]
    local text = same(command)
    assert.is_truthy(text:find "Ran %d%d+ tests")
    assert.is_truthy(text:find "SUCCESS")
  end)

  it("git", function()
    same_script("bash", "git.sh", [[
      set -e
      export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b.invalid TZ=UTC
      export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b.invalid
      export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
      git init -q -b main repo && cd repo
      for i in $(seq 200); do seq $i $((i * 5)) > f$i; done
      git add . && git commit -q -m first
      for i in $(seq 10); do echo line $i >> f$i; git commit -q -a -m "change $i"; done
      git checkout -q -b side HEAD~5 && echo other > g && git add g && git commit -q -m side
      git checkout -q main && git merge -q -m merged side
      git gc -q && git fsck --full
      git clone -q . ../copy && git -C ../copy log --oneline --stat -p | md5sum
      git grep -c 77 | md5sum; git rev-parse HEAD]])
  end)

  it("gcc on a large file", function()
    local lines = { "#include <stdio.h>" }
    local functions = support.short and 100 or 400
    for i = 1, functions do
      lines[#lines + 1] = ([[
static int f%d(int n, int *v) { int s = %d; for (int i = 0; i < n; i++) { s += v[i] * %d; if (s & %d) s ^= i << %d; }
  switch (s & 7) { case 0: return s; case 1: return s / 3; case 2: return s - n; default: return s + v[n - 1]; } }]])
        :format(i, i, i % 17 + 1, i % 255 + 1, i % 13)
    end
    lines[#lines + 1] = "int main(void) { int v[9] = {1,2,3,4,5,6,7,8,9}; unsigned s = 0;"
    for i = 1, functions do lines[#lines + 1] = ("s = s * 31 + (unsigned)f%d(9, v);"):format(i) end
    lines[#lines + 1] = 'printf("%u\\n", s); return 0; }'
    local file = support.write("large.c", table.concat(lines, "\n"))
    same(("sh -c 'gcc -O2 -fwrapv -o large %s && ./large && md5sum < large'"):format(file))
  end)

  it("sqlite3 on a generated database", function()
    same("sqlite3 -batch data.db < " .. quoted(support.write("make.sql", [[
      create table item(id integer primary key, name text, price real, body blob);
      with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
        insert into item select i, 'name ' || (i * 7919 % 60000), i % 977 / 7.0, zeroblob(i % 300) from n;
      create index by_name on item(name);
      create table sale(item integer, n integer);
      insert into sale select id * 31 % 60000 + 1, id % 13 from item;
      select count(*), sum(n), round(sum(n * price), 3) from sale join item on item.id = sale.item;
      select name, sum(n) s from item join sale on item = id group by name order by s desc, name limit 20;
      select substr(name, 1, 6) p, count(*), max(length(body)) from item group by p order by p limit 20;
      delete from item where id % 3 = 0; vacuum; pragma integrity_check;
      select json_group_array(name) from (select name from item order by name limit 50);]])))
  end)

  for _, lua in ipairs { "lua5.4", "luajit" } do
    it(lua, function()
      local programs = { "json", "strings", "objects", "coros", "cache", "closures", "parse", "sort" }
      for i = 1, support.short and 2 or #programs do
        same(("%s %s/csrc/bench/lua/%s.lua"):format(lua, quoted(root), programs[i]))
      end
    end)
  end

  it("redis-server, redis-benchmark and scripts", function()
    local function session(preloaded)
      local port, folder = support.free_port(), support.path "redis"
      support.shell("rm -rf " .. folder .. "; mkdir " .. folder)
      local server = support.start(("redis-server --port %s --bind 127.0.0.1 --dir %s --save '' --appendonly no")
        :format(port, folder), preloaded, folder .. "/log")
      local cli = "timeout 60 redis-cli -h 127.0.0.1 -p " .. port .. " "
      assert(support.wait_for(cli .. "ping"), support.read(server.log))
      if preloaded then assert.is_true(support.is_preloaded(server)) end
      local _, status = support.shell(("timeout 60 redis-benchmark -h 127.0.0.1 -p %s -q -n %d -c 20 -d 500 -P 8 -r 5000 "
        .. "-t set,get,lpush,lrange_100,hset,mset"):format(port, support.short and 2000 or 10000))
      assert.equal(0, status)
      local script = support.write("redis.lua", [[
        local total = 0
        for i = 1, 20000 do
          redis.call('hset', KEYS[1], 'f' .. i, ('v'):rep(i % 100))
          if i % 3 == 0 then redis.call('hdel', KEYS[1], 'f' .. (i - 1)) end
          total = total + #redis.call('hget', KEYS[1], 'f' .. i)
        end
        return { total, redis.call('hlen', KEYS[1]), cjson.encode({ a = { 1, 2 } }) }]])
      local text = support.shell(cli .. "--eval " .. script .. " key; " .. cli .. "flushall; " .. cli .. "--eval "
        .. script .. " other; " .. cli .. "bgsave; sleep 0.3; " .. cli .. "debug reload; " .. cli .. "hlen other; "
        .. cli .. "memory purge; " .. cli .. "dbsize")
      support.shell(cli .. "shutdown nosave")
      assert.is_true(support.wait_for("! kill -0 " .. server.pid))
      return text
    end
    assert.equal(session(false), session(true))
  end)

  it("nginx with a real client", function()
    local function session(preloaded)
      local port, folder = support.free_port(), support.path "nginx"
      support.shell(("rm -rf %s; mkdir %s %s/www; seq 50000 > %s/www/numbers; echo small > %s/www/small; chmod -R a+rX %s")
        :format(folder, folder, folder, folder, folder, folder))
      local conf = support.write("nginx/conf", ([[
        daemon off; worker_processes 2; pid %s/pid; error_log %s/errors; user root;
        events { worker_connections 64; }
        http {
          access_log %s/access; client_body_temp_path %s/body; proxy_temp_path %s/proxy; fastcgi_temp_path %s/f;
          uwsgi_temp_path %s/u; scgi_temp_path %s/s; gzip on; gzip_types *;
          server { listen 127.0.0.1:%d; root %s/www;
            location /proxy/ { proxy_pass http://127.0.0.1:%d/; }
            location /echo { return 200 "$request_method $args $http_x_long"; } } }
      ]]):gsub("%%s", folder):gsub("%%d", port))
      local server = support.start("nginx -c " .. conf .. " -p " .. folder, preloaded, folder .. "/log")
      local url = "http://127.0.0.1:" .. port
      assert(support.wait_for("curl -fs " .. url .. "/small"), support.read(server.log))
      if preloaded then assert.is_true(support.is_preloaded(server)) end
      local client = ([[
        for i in 1 2; do
          for path in small numbers proxy/numbers 'echo?a=b' missing; do
            curl -s --compressed "@url/$path" | md5sum
          done
          curl -s -H "X-Long: $(head -c 3000 /dev/zero | tr '\0' y)" @url/echo | md5sum
          seq 40 | xargs -P 8 -I% sh -c 'curl -s @url/numbers @url/proxy/small | md5sum' | sort | uniq -c
          kill -s HUP $(cat @folder/pid); sleep 0.3
        done]]):gsub("@(%w+)", { url = url, folder = folder })
      local text = support.shell(client)
      assert.is_true(support.stop(server, "QUIT"))
      return text
    end
    assert.equal(session(false), session(true))
  end)
end)
