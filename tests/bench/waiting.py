# SPDX-License-Identifier: MIT
"""Workload (f): 1,000 upstreams that take a second each, all at once. And the server that does it,
slow.c, which other workloads use as well."""
import os
import time

import daemon
import machine
import peers
import report
from upstream import BODY_BYTES

ALLOW = "policy.default.allow=127.0.0.0/8"
COUNT = 1000


class Slow:
    """slow.c on the core of the upstream."""

    def __enter__(self):
        command = [os.path.join(machine.BUILD, "tests/bench/slow")]
        self.process = machine.start(command, machine.upstream_core(), stdout=-1)
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_exc):
        machine.stop(self.process)
        self.process.stdout.close()

    def urls(self, count, path, hosts=True):
        """count URLs, each of a host of its own, or all of one."""
        where = "127.1.%d.%d" if hosts else "127.0.0.1"
        return [
            "http://%s:%d%s"
            % (where % (n // 250, n % 250 + 1) if hosts else where, self.port, path)
            for n in range(count)
        ]


def gathered(gatherd, urls):
    body = daemon.batch_body(urls, concurrency=len(urls))
    before, begin = gatherd.cpu_us(), time.monotonic()
    answer = gatherd.post(body)
    wall = time.monotonic() - begin
    cpu = gatherd.cpu_us() - before
    head = daemon.check_answer(answer, len(urls), len(urls) * BODY_BYTES)
    if head["concurrency"]["peak"] != len(urls):
        raise RuntimeError("not all at once: %s" % head["concurrency"])
    return peers.Sample(len(urls), len(urls) * BODY_BYTES, wall, cpu)


def subjects_of(bench, gatherds, urls):
    """{name: function}. The limit is a process of its own each time: with new connections, and with
    those of a warm-up."""
    job = {
        warmup: peers.Job(bench.scratch, urls[0], BODY_BYTES, COUNT, 1, warmup=warmup)
        for warmup in (0, COUNT)
    }
    return {
        UPSTREAMS: lambda: gathered(gatherds[0], urls[0]),
        "1,000 URLs of one upstream": lambda: gathered(gatherds[1], urls[1]),
        "limit, 1,000 upstreams, new connections": lambda: peers.limit(job[0]),
        "limit, 1,000 upstreams, kept connections": lambda: peers.limit(job[COUNT]),
    }


UPSTREAMS = "1,000 upstreams"


def workload_f(bench, section):
    """The first round of gatherd's opens the connections, the others find them open."""
    options = [ALLOW, "limits.in_flight=%d" % COUNT, "limits.per_host=%d" % COUNT]
    with Slow() as slow, bench.gatherd(*options) as one, bench.gatherd(*options) as other:
        urls = [slow.urls(COUNT, "/delay/1000", hosts) for hosts in (True, False)]
        samples = bench.interleave(subjects_of(bench, (one, other), urls), bench.rounds(5, 2))
        section.say("1 s each, all at once, %s" % one.shown_options())
    rows = [
        [name, several[0].wall_s, report.median([s.wall_s for s in several]),
         report.median([s.cpu_us_per_fetch for s in several])]
        for name, several in samples.items()
    ]
    section.table(["", "first wall s", "median wall s", "CPU us/fetch"], rows)
    kept = report.median([s.wall_s for s in samples[UPSTREAMS][1:]])
    section.judge(8, "(f) 1,000 upstreams of 1 s, kept connections: wall", kept, 1.10, " s")
    section.judge(8, "(f) the same, new connections: wall", rows[0][1], 1.10, " s")
