#!/bin/sh
LOG=/var/log/keepalived-redis.log
echo "`date +%F_%T` $$ master: waiting 10s for data to arrive from the old primary" >> $LOG
sleep 10
echo "`date +%F_%T` $$ master: slaveof no one" >> $LOG
/usr/local/bin/redis-cli -h 127.0.0.1 -p 6379 SLAVEOF NO ONE >> $LOG 2>&1
echo "`date +%F_%T` $$ master: done" >> $LOG
