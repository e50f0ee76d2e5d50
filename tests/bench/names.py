# SPDX-License-Identifier: MIT
"""Workload (i): 2,000 names, 50 of them dead. Dead names must cost the others nothing: the time
until the last live member has ended, with the dead ones and without them."""
import itertools
import json
import os
import sys
import threading

import daemon
import machine
import report
import throughput

LIVE, DEAD = 1950, 50
GIVE_UP_MS = 2000  # on a dead name


class NameServer:
    """name_server.py on the core of the upstream."""

    def __enter__(self):
        command = [sys.executable, os.path.join(machine.HERE, "name_server.py")]
        self.process = machine.start(command, machine.upstream_core(), stdout=-1)
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_exc):
        machine.stop(self.process)
        self.process.stdout.close()


class Found:
    """One batch: ms until the last live member, the longest turn, the most threads."""

    def __init__(self, document, threads):
        live = [r for r in document["results"] if r["ok"]]
        self.live_ms = max(r["start_offset_ms"] + r["total_ms"] for r in live)
        self.lag_ms = document["daemon"]["loop_lag_max_ms"]
        self.threads, self.total_ms = threads, document["total_ms"]


class ThreadWatch(threading.Thread):
    """Counts gatherd's threads while something runs."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.done = pid, 0, threading.Event()

    def run(self):
        while not self.done.wait(0.02):
            self.most = max(self.most, machine.threads(self.pid))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_exc):
        self.done.set()
        self.join()
        self.most = max(self.most, machine.threads(self.pid))


ROUND = itertools.count()  # names are new in each batch: nothing of them is known yet


def gathered(gatherd, port, dead):
    mark = next(ROUND)
    url = "http://%s%d.r%d.bench.test:%d/1k"
    members = [url % ("live", n, mark, port) for n in range(LIVE)]
    for n in range(dead):
        one = {"url": url % ("dead", n, mark, port), "connect_timeout_ms": GIVE_UP_MS}
        members.insert(n * LIVE // dead, one)
    body = daemon.batch_body(members, concurrency=256)
    with ThreadWatch(gatherd.pid) as watch:
        document = json.loads(gatherd.post(body))
    if document["counts"]["ok"] != LIVE or document["counts"]["failed"] != dead:
        raise RuntimeError("%s %s" % (document["counts"], document["errors"]))
    return Found(document, watch.most)


def workload_i(bench, section):
    port = bench.nginx.ports[0]
    loops = bench.arguments.loops if daemon.knows_loops(bench.program) else 0
    with NameServer() as server:
        options = [throughput.ALLOW, "fetch.dns_servers=127.0.0.1:%d" % server.port]
        with bench.gatherd(*options) as gatherd:
            gathered(gatherd, port, 0)
            samples = bench.interleave(
                {
                    "all live": lambda: gathered(gatherd, port, 0),
                    "50 dead": lambda: gathered(gatherd, port, DEAD),
                },
                bench.rounds(5, 1),
            )
            section.say("%d live names, %s" % (LIVE, gatherd.shown_options()))
    rows = [
        [name, *(report.median([getattr(s, field) for s in several]) for field in FIELDS)]
        for name, several in samples.items()
    ]
    section.table(["", "last live member ms", "whole batch ms", "longest turn ms", "threads"], rows)
    judge(section, samples, loops)


FIELDS = ("live_ms", "total_ms", "lag_ms", "threads")


def judge(section, samples, loops):
    every = samples["all live"] + samples["50 dead"]
    what = "(i) threads (loops + 1)"
    section.judge(11, what, max(s.threads for s in every), loops + 1)
    lags = zip(*([s.lag_ms for s in several] for several in samples.values()))
    lag = report.median([max(both) for both in lags])
    section.judge(11, "(i) longest turn", lag, 20, " ms")
    times = [[s.live_ms for s in samples[n]] for n in ("50 dead", "all live")]
    section.judge(11, "(i) live names: time with dead ones / without", report.ratio(*times), 1.2)
