# SPDX-License-Identifier: MIT
"""Workload (j): many hosts. 10,000 asked once each, and 1,000 kept alive with 1,000 in flight,
beside the limit with the same settings; and what is left of the memory afterwards.

The hosts are addresses of 127.0.0.0/8, new ones in each round. For the first part there are two
limits: one that keeps each connection, as for a host that is asked again, and one that does not
(FORBID_REUSE); the bound is against the cheaper one.
"""
import itertools
import os
import time

import daemon
import peers
import report
import waiting
from upstream import BODY_BYTES

ONCE_AT_ONCE, KEPT = 200, 1000
NET = itertools.count(10)  # of the next round's hosts
IDLE_S = 2


def measure(gatherd, urls, concurrency, **fields):
    body = daemon.batch_body(urls, concurrency=concurrency, **fields)
    before, begin = gatherd.cpu_us(), time.monotonic()
    answer = gatherd.post(body)
    wall = time.monotonic() - begin
    cpu = gatherd.cpu_us() - before
    head = daemon.check_answer(answer, len(urls), len(urls) * BODY_BYTES)
    connects = len(urls) - head["counts"]["reused_connections"]
    return peers.Sample(len(urls), len(urls) * BODY_BYTES, wall, cpu, connects=connects)


def once(bench, gatherd, count):
    return measure(gatherd, bench.host_nginx.host_urls(count, net=next(NET)), ONCE_AT_ONCE)


def kept(gatherd, urls):
    """One connection to each host, opened by a batch that does not count."""
    measure(gatherd, urls[:KEPT], KEPT, concurrency_per_host=1)
    return measure(gatherd, urls, KEPT, concurrency_per_host=1)


def subjects_of(bench, gatherds):
    """{name: function} of both parts."""
    nginx, count = bench.host_nginx, bench.size(10000, 1500)
    urls = nginx.host_urls(count, net=1)
    kept_urls = nginx.host_urls(KEPT, net=2) * bench.size(20, 4)
    job = peers.Job(bench.scratch, urls, BODY_BYTES, ONCE_AT_ONCE, warmup=0)
    kept_job = peers.Job(bench.scratch, kept_urls, BODY_BYTES, KEPT, 1, warmup=KEPT)
    return {
        "gatherd, once each": lambda: once(bench, gatherds[0], count),
        "limit, once each": lambda: peers.limit(job),
        "limit, once each, none kept": lambda: peers.limit(job, "--fresh"),
        "gatherd, kept": lambda: kept(gatherds[1], kept_urls),
        "limit, kept": lambda: peers.limit(kept_job),
    }


def options(in_flight):
    return [waiting.ALLOW, "limits.in_flight=%d" % in_flight, "limits.requests=20000"]


def held_by(gatherd):
    """(RSS in KB, open descriptors)"""
    return gatherd.rss_kb(), len(os.listdir("/proc/%d/fd" % gatherd.pid))


def memory(bench, section):
    """RSS before, right after both parts, and when the connections have been idle too long."""
    nginx = bench.host_nginx
    with bench.gatherd(*options(KEPT), "fetch.idle_time=%ds" % IDLE_S) as gatherd:
        measure(gatherd, nginx.host_urls(20, net=3) * 20, 100)
        before = held_by(gatherd)
        once(bench, gatherd, bench.size(10000, 1500))
        measure(gatherd, nginx.host_urls(KEPT, net=2) * 5, KEPT)
        after = held_by(gatherd)
        time.sleep(IDLE_S + 5)
        idle = held_by(gatherd)
        section.say("Memory, %s" % gatherd.shown_options())
    section.table(
        ["", "before", "afterwards", "%d s later" % (IDLE_S + 5)],
        [["RSS, KB", before[0], after[0], idle[0]], ["descriptors", before[1], after[1], idle[1]]],
    )
    section.judge(12, "(j) RSS after idle_time / before", idle[0] / before[0], 1.10)


HEADER = ["subject", "CPU us/fetch", "fetches/s", "connections made", "gatherd's CPU / its CPU"]


def workload_j(bench, section):
    with bench.gatherd(*options(ONCE_AT_ONCE)) as first, bench.gatherd(*options(KEPT)) as second:
        for gatherd in (first, second):
            measure(gatherd, bench.host_nginx.host_urls(20, net=3) * 20, 100)
        samples = bench.interleave(subjects_of(bench, (first, second)), bench.rounds(5, 2))
        section.say("Once each: %s" % first.shown_options())
        section.say("Kept: %s" % second.shown_options())
    rows = []
    for name, several in samples.items():
        part = name.split(", ")[1]
        ours = samples["gatherd, " + part]
        cpu = [s.cpu_us_per_fetch for s in several]
        value = report.ratio([s.cpu_us_per_fetch for s in ours], cpu)
        rate = report.median([s.fetches_per_s for s in several])
        connects = report.median([s.more["connects"] for s in several])
        rows.append([name, report.median(cpu), rate, connects, None if several is ours else value])
    section.table(HEADER, rows)
    ratios = {row[0]: row[4] for row in rows}
    cheaper = max(ratios["limit, once each"], ratios["limit, once each, none kept"])
    section.judge(12, "(j) 10,000 hosts once each: CPU / that of limit", cheaper, 1.15)
    section.judge(12, "(j) 1,000 hosts kept: CPU / that of limit", ratios["limit, kept"], 1.15)
    memory(bench, section)
