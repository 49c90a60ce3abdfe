#!/bin/sh
# as a replica if the other host has a primary, else as the primary
role=`redis-cli -h 192.168.1.219 -p 6379 info replication | grep role:master`
if [ -n "$role" ]; then
  su redis -c "/opt/redis/bin/redis-server /opt/redis/conf/redis-slave.conf"
else
  su redis -c "/opt/redis/bin/redis-server /opt/redis/conf/redis-master.conf"
fi
