# SPDX-License-Identifier: MIT
"""Workload (e): TLS. A new connection for each fetch, kept connections, and HTTP/2, each beside the
limit with the same settings. How many of the new connections resumed a session is what the upstream
says.
"""
import time

import daemon
import peers
import report
import throughput
from upstream import BODY_BYTES

FIELDS = throughput.FIELDS


def options(bench):
    return [throughput.ALLOW, "fetch.ca_file=" + bench.authority.ca_file]


def body_of(urls, **defaults):
    return daemon.batch_body(urls, defaults=defaults, **FIELDS)


def gathered(bench, gatherd, urls, body):
    """One batch; more.resumed is the share of resumed sessions among its new connections."""
    sessions = bench.tls_nginx.resumed()
    before, begin = gatherd.cpu_us(), time.monotonic()
    answer = gatherd.post(body)
    wall = time.monotonic() - begin
    cpu = gatherd.cpu_us() - before
    daemon.check_answer(answer, len(urls), len(urls) * BODY_BYTES)
    sample = peers.Sample(len(urls), len(urls) * BODY_BYTES, wall, cpu)
    return with_resumed(bench, sample, sessions)


def with_resumed(bench, sample, before):
    new, resumed = (b - a for a, b in zip(before, bench.tls_nginx.resumed()))
    sample.more["resumed"] = resumed / new if new else None
    return sample


def limit(bench, job, *more):
    before = bench.tls_nginx.resumed()
    return with_resumed(bench, peers.limit(job, *more), before)


CASES = ("new TLS", "kept TLS", "HTTP/2")


def subjects_of(bench, gatherd):
    """{name: function}, and one batch for each kind, to warm up with."""
    nginx, subjects, warmup = bench.tls_nginx, {}, []
    for case, ports, count, defaults, flags in (
        ("new TLS", nginx.new, bench.size(2000, 500), {"fresh_connection": True}, ["--fresh"]),
        ("kept TLS", nginx.kept, bench.size(10000, 2000), {}, []),
        ("HTTP/2", nginx.http2, bench.size(10000, 2000), {"http_version": "2"}, ["--http2"]),
    ):
        urls = nginx.urls(count, ports=ports)
        defaults.setdefault("http_version", "1.1")
        job = peers.Job(
            bench.scratch, urls, BODY_BYTES, 100, 25, warmup=200, tls=bench.authority.ca_file
        )
        body = body_of(urls, **defaults)
        warmup.append(body_of(urls[:200], **defaults))
        subjects["gatherd, " + case] = lambda u=urls, b=body: gathered(bench, gatherd, u, b)
        subjects["limit, " + case] = lambda j=job, f=flags: limit(bench, j, *f)
    return subjects, warmup


def workload_e(bench, section):
    if bench.authority is None:
        section.say("Skipped: no python3-cryptography.")
        section.judge(6, "(e) CPU per new TLS connection / that of limit", None, 1.10)
        return
    with bench.gatherd(*options(bench)) as gatherd:
        subjects, warmup = subjects_of(bench, gatherd)
        for body in warmup:
            gatherd.post(body)
        samples = bench.interleave(subjects, bench.rounds(5, 2))
        section.say(gatherd.shown_options().replace(bench.scratch, "SCRATCH"))
    rows = []
    for case in CASES:
        pair = {who: samples["%s, %s" % (who, case)] for who in ("gatherd", "limit")}
        for who, row in zip(pair, report.cost_rows(pair)):
            resumed = [s.more["resumed"] for s in pair[who] if s.more.get("resumed") is not None]
            share = report.median(resumed) if resumed and case == "new TLS" else None
            rows.append(["%s, %s" % (who, case), *row[1:4], share, row[5]])
        if case == "new TLS":
            cpu = [[s.cpu_us_per_fetch for s in pair[who]] for who in pair]
            value = report.ratio(*cpu)
    section.table(HEADER, rows)
    section.judge(6, "(e) CPU per new TLS connection / that of limit", value, 1.10)


HEADER = [
    "subject", "CPU us/fetch", "range", "fetches/s", "resumed sessions", "gatherd's CPU / its CPU",
]
