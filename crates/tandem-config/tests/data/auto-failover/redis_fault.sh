#!/bin/sh
LOG=/var/log/keepalived-redis.log
echo "`date +%F_%T` $$ fault" >> $LOG
