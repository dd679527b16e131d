"""redis-py's Lock, told line by line what to do: `acquire NAME SECONDS_TO_LIVE SECONDS_TO_WAIT`, `release`."""

import sys

import redis

server = redis.Redis(port=int(sys.argv[1]))
lock = None
for line in sys.stdin:
    command, *arguments = line.split()
    if command == "acquire":
        name, timeout, wait = arguments[0], float(arguments[1]), float(arguments[2])
        lock = server.lock(name, timeout=timeout, blocking=wait > 0, blocking_timeout=wait or None)
        answer = "acquired" if lock.acquire() else "busy"
    else:
        try:
            lock.release()
            answer = "released"
        except redis.exceptions.LockNotOwnedError:
            answer = "not owned"
    print(answer, flush=True)
