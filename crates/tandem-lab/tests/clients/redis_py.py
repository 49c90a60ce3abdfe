"""redis-py behind Sentinels: a write every 20 ms, as an application would make it.

Arguments: the group, then HOST:PORT of each Sentinel. A line for each write: `ok NUMBER` or `error WORDS`.
"""

import sys
import time

from redis.exceptions import RedisError
from redis.sentinel import Sentinel

group = sys.argv[1]
sentinels = [(host, int(port)) for host, port in (a.split(":") for a in sys.argv[2:])]
primary = Sentinel(sentinels, socket_timeout=0.5).master_for(group, socket_timeout=0.5)

end = time.monotonic() + 90
number = 0
while time.monotonic() < end:
    number += 1
    try:
        primary.set(f"client:{number}", number)
        print("ok", number, flush=True)
    except (RedisError, OSError) as error:
        print("error", repr(error), flush=True)
    time.sleep(0.02)
