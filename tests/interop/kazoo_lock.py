"""kazoo's Lock, told line by line what to do: `acquire PATH SECONDS_TO_WAIT`, `release`, `sequence`."""

import sys

from kazoo.client import KazooClient
from kazoo.exceptions import LockTimeout

client = KazooClient(hosts=sys.argv[1])
client.start()
lock = None
for line in sys.stdin:
    command, *arguments = line.split()
    if command == "acquire":
        path, wait = arguments[0], float(arguments[1])
        # Without the pattern it would not see other libraries' znodes.
        lock = client.Lock(path, "kazoo", extra_lock_patterns=["-lock-"])
        try:
            acquired = lock.acquire(blocking=wait > 0, timeout=wait or None)
        except LockTimeout:
            acquired = False
        answer = "acquired" if acquired else "busy"
    elif command == "sequence":
        answer = str(client.exists(lock.path + "/" + lock.node).czxid)
    else:
        answer = "released" if lock.release() else "not owned"
    print(answer, flush=True)
