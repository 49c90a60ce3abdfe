#!/bin/bash
LOGFILE="/var/log/keepalived-redis-state.log"
echo "[fault] $(date)" >> $LOGFILE
