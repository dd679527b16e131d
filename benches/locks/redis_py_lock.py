"""redis-py's Lock at work: `each WORKERS SECONDS` or `one WORKERS SECONDS`, answered with cycles a second."""

import sys
import threading
import time

import redis

server = redis.Redis(port=int(sys.argv[1]))


def work(name, end, cycles):
    while time.monotonic() < end:
        lock = server.lock(name, timeout=10)
        lock.acquire()
        lock.release()
        cycles.append(1)


for line in sys.stdin:
    locks, workers, seconds = line.split()
    begun, cycles = time.monotonic(), []
    end = begun + float(seconds)
    threads = [
        threading.Thread(
            target=work, args=(f"fencegate/locks/bench{worker if locks == 'each' else 0}", end, cycles)
        )
        for worker in range(int(workers))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(cycles) / (time.monotonic() - begun), flush=True)
