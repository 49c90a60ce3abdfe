#!/bin/sh
answer=`/usr/local/bin/redis-cli -h 127.0.0.1 -p 6379 PING`
if [ "$answer" = "PONG" ]; then
  exit 0
fi
exit 1
