#!/bin/sh
# every second: the local server's role follows the address
failed=0
while true; do
  if redis-cli -h 127.0.0.1 -p 6379 ping | grep -q PONG; then failed=0; else failed=$((failed + 1)); fi
  [ $failed -ge 2 ] && systemctl stop keepalived
  if ip addr | grep -q 192.168.1.220; then
    redis-cli -h 127.0.0.1 slaveof no one
    redis-cli -h 192.168.1.219 slaveof 192.168.1.218 6379
  fi
  sleep 1
done
