"""redis-py's Lock at work: `each WORKERS SECONDS` or `one WORKERS SECONDS`, answered with cycles a second, and with how
many of them were hand-overs: the lock's last holder was another worker."""

import sys
import threading
import time

import redis

server = redis.Redis(port=int(sys.argv[1]))


def work(name, worker, end, holders):
    while time.monotonic() < end:
        lock = server.lock(name, timeout=10)
        lock.acquire()
        holders.append(worker)
        lock.release()


for line in sys.stdin:
    locks, workers, seconds = line.split()
    begun, holders = time.monotonic(), []
    end = begun + float(seconds)
    threads = [
        threading.Thread(
            target=work, args=(f"fencegate/locks/bench{worker if locks == 'each' else 0}", worker, end, holders)
        )
        for worker in range(int(workers))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begun
    handed_over = sum(before != after for before, after in zip(holders, holders[1:]))
    print(len(holders) / took, handed_over / took, flush=True)
