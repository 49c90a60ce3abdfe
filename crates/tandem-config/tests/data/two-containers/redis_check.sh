#!/bin/bash
LOGFILE="/var/log/keepalived-redis-check.log"
ALIVE=$(redis-cli -a $1 PING)
echo "[CHECK] $(date) $ALIVE" >> $LOGFILE
if [ "$ALIVE" == "PONG" ]; then
    exit 0
else
    exit 1
fi
