#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The same fetches by aiohttp: one session, uvloop where it is there, the whole body of each read.

    peer_aiohttp.py FILE-OF-URLS CONCURRENCY PER-HOST WARMUP

As many tasks as may run at once take URLs from one list, which costs less than a task for each URL
and a semaphore. Prints one line of JSON.
"""
import asyncio
import json
import re
import sys
import time

import aiohttp

try:
    import uvloop
except ImportError:
    uvloop = None


async def take(session, urls, done):
    for url in urls:
        async with session.get(url) as reply:
            body = await reply.read()
            done["ok" if reply.status == 200 else "failed"] += 1
            done["bytes"] += len(body)


async def fetch(session, urls, concurrency):
    done, source = {"ok": 0, "failed": 0, "bytes": 0}, iter(urls)
    await asyncio.gather(*(take(session, source, done) for _ in range(concurrency)))
    return done


def peak_kb():
    """Not ru_maxrss, which has what our parent had when it forked."""
    with open("/proc/self/status", encoding="ascii") as status:
        return int(re.search(r"VmHWM:\s*(\d+)", status.read()).group(1))


async def main(urls, concurrency, per_host, warmup):
    connector = aiohttp.TCPConnector(limit=concurrency, limit_per_host=per_host)
    async with aiohttp.ClientSession(connector=connector) as session:
        await fetch(session, urls[:warmup], concurrency)
        cpu, wall = time.process_time(), time.monotonic()
        done = await fetch(session, urls, concurrency)
        done["wall_s"] = time.monotonic() - wall
        done["cpu_us"] = (time.process_time() - cpu) * 1e6
    done["peak_rss_kb"] = peak_kb()
    print(json.dumps(done))


if __name__ == "__main__":
    if uvloop is not None:
        uvloop.install()
    with open(sys.argv[1], encoding="ascii") as file:
        asyncio.run(main(file.read().split(), *map(int, sys.argv[2:5])))
