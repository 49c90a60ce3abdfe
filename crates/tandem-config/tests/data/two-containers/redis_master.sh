#!/bin/bash
LOGFILE="/var/log/keepalived-redis-state.log"
echo "[master] $(date)" >> $LOGFILE
redis-cli -a $1 REPLICAOF NO ONE >> $LOGFILE 2>&1
