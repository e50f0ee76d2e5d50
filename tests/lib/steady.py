# SPDX-License-Identifier: MIT
"""A good client as a process of its own, so that a test's own threads do not slow it down: asks
gatherd a small batch again and again and tells how long each took.

    steady.py PORT    until a line comes in; then one of JSON: count, p50, p99 and max in ms
"""
import http.client
import json
import os
import select
import subprocess
import sys
import time

EVERY_S = 0.005
LEAST = 20  # requests, however soon it is stopped
BODY = b'["no-url"]'


class Steady:
    """The client, from here to the figures that stop() returns."""

    def __init__(self, port):
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self):
        out, _ = self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0
        return json.loads(out)


def main(port):
    times = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while len(times) < LEAST or not select.select([sys.stdin], [], [], EVERY_S)[0]:
        begin = time.perf_counter()
        connection.request("POST", "/v1/batch", BODY, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        reply.read()
        assert reply.status == 200, reply.status
        times.append((time.perf_counter() - begin) * 1e3)
    times.sort()
    print(
        json.dumps(
            {
                "count": len(times),
                "p50": times[len(times) // 2],
                "p99": times[len(times) * 99 // 100],
                "max": times[-1],
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
