# SPDX-License-Identifier: MIT
"""Workloads (c) and (k): small batches, from one and many clients, alone and beside heavy work.

The clients are clients.c, on the core of the upstream. What gatherd adds is the latency of a batch
minus that of the same request sent to the upstream by the same clients.
"""
import json
import os
import threading
import time

import daemon
import handshakes
import machine
import report
import throughput
from upstream import BODY_BYTES


class Loops:
    """What clients.c measured."""

    def __init__(self, said, members):
        self.members = members
        self.p50_ms, self.p99_ms = said["p50_us"] / 1000, said["p99_us"] / 1000
        self.requests = said["requests"]
        self.batches_per_s = said["requests"] / said["wall_s"]

    @property
    def fetches_per_s(self):
        return self.batches_per_s * self.members


def run_clients(scratch, command, members):
    command = [os.path.join(machine.BUILD, "tests/bench/clients"), *command]
    outcome = machine.run(command, machine.upstream_core(), scratch=scratch)
    if outcome.status != 0:
        raise RuntimeError("clients: status %d %s" % (outcome.status, outcome.error[-1000:]))
    return Loops(json.loads(outcome.out), members)


def body_files(bench, members):
    """Four bodies of so many URLs, each beginning at another origin."""
    names = []
    for n in range(4):
        urls = bench.nginx.urls(members + n)[n:]
        names.append(os.path.join(bench.scratch, "body-%d-%d" % (members, n)))
        with open(names[-1], "wb") as file:
            file.write(daemon.batch_body(urls))
    return names


def gathered(bench, gatherd, members, connections, requests, warmup=200, seconds=60):
    """Closed loops of batches."""
    command = ["--connections", str(connections), "--requests", str(requests)]
    command += ["--warmup", str(max(warmup, connections * 4)), "--seconds", str(seconds)]
    command += ["--expect", '"counts":{"requests":%d,"done":%d,"ok":%d,' % ((members,) * 3)]
    command += [str(gatherd.port), "/v1/batch", *body_files(bench, members)]
    return run_clients(bench.scratch, command, members)


def direct(bench, connections, requests):
    """The same requests sent to the upstream."""
    command = ["--direct", "--connections", str(connections), "--requests", str(requests)]
    command += ["--warmup", str(max(200, connections * 4))]
    command += ["--expect", "Content-Length: %d" % BODY_BYTES]
    command += [str(bench.nginx.ports[0]), "/1k?n=0"]
    return run_clients(bench.scratch, command, 1)


CLIENTS, MEMBERS = (1, 16, 128), (1, 3)


ONE_LOOP = ", loops = 0"  # front and fetches on one thread


def name_of(members, clients):
    what = "straight to the upstream" if members == 0 else "%d-URL batches" % members
    return "%s, %d client%s" % (what, clients, "s" if clients > 1 else "")


def subjects_c(bench, gatherd, one_loop):
    """Also (a), so that its fetches/s come from the same minutes."""
    requests = {n: bench.size(3000, 600) * (1 if n == 1 else 3) for n in CLIENTS}
    urls = bench.nginx.urls(bench.size(20000, 5000))
    body = daemon.batch_body(urls, **throughput.FIELDS)
    subjects = {"gatherd (a)": lambda: throughput.one_batch(gatherd, urls, body)}
    for clients in CLIENTS:
        subjects[name_of(0, clients)] = lambda c=clients: direct(bench, c, requests[c])
        for members in MEMBERS:
            subjects[name_of(members, clients)] = lambda c=clients, m=members: gathered(
                bench, gatherd, m, c, requests[c]
            )
    for members in MEMBERS:
        subjects[name_of(members, 1) + ONE_LOOP] = lambda m=members: gathered(
            bench, one_loop, m, 1, requests[1]
        )
    return subjects


def row_of(samples, members, clients, which=""):
    name = name_of(members, clients) + which
    ours, base = samples[name], samples[name_of(0, clients)]
    row = [name]
    for field in ("p50_ms", "p99_ms", "batches_per_s", "fetches_per_s"):
        row.append(report.median([getattr(s, field) for s in ours]))
    return row + [added(ours, base, f) if members else "" for f in ("p50_ms", "p99_ms")]


def added(ours, base, field):
    """The median of the differences of what was measured side by side."""
    return report.median([getattr(a, field) - getattr(b, field) for a, b in zip(ours, base)])


HEADER_C = ["loops", "p50 ms", "p99 ms", "batches/s", "fetches/s", "added p50 ms", "added p99 ms"]


def workload_c(bench, section):
    options = throughput.options(20000)
    with bench.gatherd(*options) as gatherd, bench.gatherd(*options, loops=0) as one_loop:
        samples = bench.interleave(subjects_c(bench, gatherd, one_loop), bench.rounds(7, 2))
        section.say("Closed loops, %s" % gatherd.shown_options())
    rows = [row_of(samples, m, c) for c in CLIENTS for m in (0, *MEMBERS)]
    rows[len(MEMBERS) + 1 : len(MEMBERS) + 1] = [row_of(samples, m, 1, ONE_LOOP) for m in MEMBERS]
    section.table(HEADER_C, rows)
    for which in ("", ONE_LOOP):
        one, base = samples[name_of(1, 1) + which], samples[name_of(0, 1)]
        for field, bound in (("p50", 0.12), ("p99", 0.5)):
            what = "(c) 1 client, 1 URL%s: added %s" % (which, field)
            section.judge(3, what, added(one, base, field + "_ms"), bound, " ms")
    rates = [[s.fetches_per_s for s in samples[n]] for n in (name_of(3, 128), "gatherd (a)")]
    what = "(c) 128 clients, 3-URL batches: fetches/s / those of (a)"
    section.judge(4, what, report.ratio(*rates), 0.60, "", True)


# --- (k) -----------------------------------------------------------------------------------------


class Background(threading.Thread):
    """Posts one batch again and again, each checked, until it is told to stop."""

    def __init__(self, gatherd, body, count):
        super().__init__(daemon=True)
        self.client, self.body, self.count = daemon.Client(gatherd.port), body, count
        self.stopping, self.batches, self.problem = threading.Event(), 0, None

    def run(self):
        try:
            while not self.stopping.is_set():
                answer = self.client.post(self.body)
                daemon.check_answer(answer, self.count, self.count * BODY_BYTES)
                self.batches += 1
        except Exception as problem:  # pylint: disable=broad-except
            self.problem = problem

    def finish(self):
        """The batch that runs is waited for."""
        self.stopping.set()
        self.join(170)
        self.client.close()
        if self.problem is not None:
            raise self.problem


def beside(bench, gatherd, works):
    """1-URL batches of one client while the works run; more: how many of their batches ended."""
    backgrounds = [Background(gatherd, body, count) for body, count in works]
    for background in backgrounds:
        background.start()
    time.sleep(0.2)
    try:
        loops = gathered(bench, gatherd, 1, 1, bench.size(600, 200), 5, bench.size(20, 2))
    finally:
        for background in backgrounds:
            background.finish()
    loops.batches = "/".join(str(b.batches) for b in backgrounds)
    return loops


def workload_k(bench, section):
    if bench.authority is None:
        section.say("Skipped: no python3-cryptography.")
        section.judge(13, "(k) 1-URL batch beside heavy work: p99", None, 25, " ms")
        return
    new = handshakes.body_of(
        bench.tls_nginx.urls(500, ports=bench.tls_nginx.new), fresh_connection=True
    )
    big = daemon.batch_body(bench.nginx.urls(10000))
    with bench.gatherd(*handshakes.options(bench)) as gatherd:
        works = {
            "alone": [],
            "500 new TLS connections": [(new, 500)],
            "10,000 members": [(big, 10000)],
            "both": [(new, 500), (big, 10000)],
        }
        subjects = {
            name: lambda several=several: beside(bench, gatherd, several)
            for name, several in works.items()
        }
        samples = bench.interleave(subjects, bench.rounds(5, 1))
        section.say(gatherd.shown_options().replace(bench.scratch, "SCRATCH"))
    rows = [
        [name, report.median([s.p50_ms for s in x]), report.median([s.p99_ms for s in x]),
         sum(s.requests for s in x), x[0].batches]
        for name, x in samples.items()
    ]
    section.table(
        ["beside, again and again", "p50 ms", "p99 ms", "requests", "heavy batches a round"], rows
    )
    section.judge(13, "(k) 1-URL batch beside both: p99", rows[-1][2], 25, " ms")
