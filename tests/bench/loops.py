# SPDX-License-Identifier: MIT
"""Workload (l): two fetch loops against one, where the client's work is most of the work: bodies
that the upstream has compressed beforehand and gatherd decodes, and new TLS connections.

gatherd may use both cores here, and shares them with the upstream. How long the core of the
upstream was idle says how much of it there was to win.
"""
import gzip
import os
import random
import time

import daemon
import machine
import peers
import report
import waiting
from upstream import BODY_BYTES

PLAIN_BYTES = 1000 * 1000
# Origins are dealt out to loops by their hash: many, so that it comes out even (of 32 one loop gets 19 or
# more every fourth time, and two loops are worth 1.7).
HOSTS, PORTS = 320, 32


def make_compressed(folder):
    """A file of words for the upstream, compressed; decoded it has PLAIN_BYTES."""
    source = random.Random(1)
    words = ["".join(source.choices("etaoinshrdlu", k=source.randint(2, 9))) for _ in range(3000)]
    text = " ".join(source.choices(words, k=PLAIN_BYTES // 3))[:PLAIN_BYTES].encode()
    with open(os.path.join(folder, "gz"), "wb") as file:
        file.write(gzip.compress(text, 6))


def measure(gatherd, urls, body, size):
    core = machine.cores()[0]
    idle, before, begin = machine.idle_s(core), gatherd.cpu_us(), time.monotonic()
    answer = gatherd.post(body)
    wall = time.monotonic() - begin
    cpu, idle = gatherd.cpu_us() - before, machine.idle_s(core) - idle
    daemon.check_answer(answer, len(urls), len(urls) * size)
    return peers.Sample(len(urls), len(urls) * size, wall, cpu, idle=max(0, idle) / wall)


def decoding(bench):
    """(URLs, body)"""
    nginx = bench.host_nginx
    make_compressed(nginx.scratch + "/www")
    urls = nginx.host_urls(HOSTS, "/gz", net=4) * bench.size(2, 1)
    return urls, daemon.batch_body(urls, concurrency=64)


def new_tls(bench):
    """(URLs, body)"""
    nginx = bench.start_nginx(
        "shared", authority=bench.authority, ports=PORTS, core=machine.cores()[:2]
    )
    urls = nginx.urls(bench.size(3000, 400), ports=nginx.new)
    return urls, daemon.batch_body(urls, defaults={"fresh_connection": True}, concurrency=100)


def workload_l(bench, section):
    if not daemon.knows_loops(bench.program) or len(machine.cores()) < 2:
        section.say("Skipped: this gatherd has no [daemon] loops, or this machine one core only.")
        judge(section, {})
        return
    works = {"decoding": (*decoding(bench), PLAIN_BYTES)}
    options = [waiting.ALLOW]
    if bench.authority is not None:
        works["new TLS"] = (*new_tls(bench), BODY_BYTES)
        options.append("fetch.ca_file=" + bench.authority.ca_file)
    both = set(machine.cores()[:2])
    with bench.gatherd(*options, loops=1, core=both) as one, bench.gatherd(
        *options, loops=2, core=both
    ) as two:
        subjects = {}
        for work, arguments in works.items():
            for name, gatherd in (("1 loop", one), ("2 loops", two)):
                gatherd.post(arguments[1])
                key = "%s, %s" % (work, name)
                subjects[key] = lambda g=gatherd, a=arguments: measure(g, *a)
        samples = bench.interleave(subjects, bench.rounds(5, 2))
        section.say(two.shown_options().replace(bench.scratch, "SCRATCH"))
    section.table(HEADER, [row_of(name, several) for name, several in samples.items()])
    judge(section, samples)


HEADER = ["subject", "fetches/s", "CPU us/fetch", "first core idle, share of wall"]


def row_of(name, several):
    fields = ("fetches_per_s", "cpu_us_per_fetch")
    row = [report.median([getattr(s, field) for s in several]) for field in fields]
    return [name, *row, report.median([s.more["idle"] for s in several])]


def judge(section, samples):
    for work, bound in (("decoding", 1.7), ("new TLS", 1.25)):
        value = None
        if work + ", 1 loop" in samples:
            pair = (samples["%s, %s" % (work, name)] for name in ("2 loops", "1 loop"))
            value = report.ratio(*([s.fetches_per_s for s in several] for several in pair))
        what = "(l) %s: fetches/s of 2 loops / 1 loop" % work
        section.judge(7, what, value, bound, "", True)
