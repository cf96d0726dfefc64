#!/bin/sh
# A server on a free port of loopback, filled and asked by redis-benchmark; ends with the server.
set -e
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no >/dev/null &
server=$!
trap 'kill "$server" 2>/dev/null' EXIT
tries=0
until redis-cli -p "$port" ping >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 200 ]
  sleep 0.02
done
redis-benchmark -p "$port" -q -n 60000 -c 10 -P 16 -d 200 -r 50000 -t set,get,lpush,hset,mset,lrange_100
redis-cli -p "$port" eval "for i = 1, 50000 do redis.call('hset', 'h', i, ('v'):rep(i % 100)) end" 0
redis-cli -p "$port" shutdown nosave || true
wait "$server" || true
trap - EXIT
