#!/bin/bash
# Well is who accepts a connection.
exec 3<>/dev/tcp/127.0.0.1/63790
