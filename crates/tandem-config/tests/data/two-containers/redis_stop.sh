#!/bin/bash
LOGFILE="/var/log/keepalived-redis-state.log"
echo "[stop] $(date)" >> $LOGFILE
