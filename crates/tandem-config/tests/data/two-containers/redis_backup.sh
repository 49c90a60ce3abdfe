#!/bin/bash
LOGFILE="/var/log/keepalived-redis-state.log"
echo "[backup] $(date)" >> $LOGFILE
sleep 1
redis-cli -a $1 REPLICAOF $2 $3 >> $LOGFILE 2>&1
