# SPDX-License-Identifier: MIT
"""Workload (h): large bodies, beside curl: bytes/s and CPU per GB."""
import os
import shutil
import time

import daemon
import peers
import report
import throughput

MB = 1000 * 1000


def make_file(bench, size):
    """A file of that size for the upstream; returns its path in a URL."""
    name = "/%d" % size
    with open(bench.nginx.scratch + "/www" + name, "wb") as file:
        part = os.urandom(MB)
        for _ in range(size // MB):
            file.write(part)
    return name


def gathered(gatherd, job):
    body = daemon.batch_body(job.urls, concurrency=job.concurrency)
    before, begin = gatherd.cpu_us(), time.monotonic()
    answer = gatherd.post(body)
    wall = time.monotonic() - begin
    cpu = gatherd.cpu_us() - before
    daemon.check_answer(answer, len(job.urls), job.bytes)
    return peers.Sample(len(job.urls), job.bytes, wall, cpu)


def workload_h(bench, section):
    options = [throughput.ALLOW, "limits.response_bytes=200M"]
    jobs = {}
    for name, size, count, concurrency in (
        ("1 MB, 4 at once", MB, bench.size(400, 100), 4),
        ("100 MB, one after the other", 100 * MB, bench.size(5, 2), 1),
    ):
        urls = bench.nginx.urls(count, make_file(bench, size))
        jobs[name] = peers.Job(bench.scratch, urls, size, concurrency)
    subjects = {}
    with bench.gatherd(*options) as gatherd:
        for name, job in jobs.items():
            subjects["gatherd, " + name] = lambda job=job: gathered(gatherd, job)
            if bench.has("curl", shutil.which("curl")):
                peers.check_curl(job)
                subjects["curl, " + name] = lambda job=job: peers.curl(job, bench.nginx.status)
        samples = bench.interleave(subjects, bench.rounds(5, 3))
        section.say(gatherd.shown_options())
    rows = []
    for name, several in samples.items():
        speed = report.median([s.bytes / s.wall_s / MB for s in several])
        # us per byte is s per MB
        cost = report.median([s.cpu_us / s.bytes * 1000 for s in several])
        rows.append([name, speed, cost])
    section.table(["subject", "MB/s", "CPU s per GB"], rows)
    judge(section, samples)


def judge(section, samples):
    speed = cost = None
    ours = samples["gatherd, 100 MB, one after the other"]
    theirs = samples.get("curl, 100 MB, one after the other")
    if theirs:
        speed = report.ratio(*([s.bytes / s.wall_s for s in x] for x in (ours, theirs)))
        cost = report.ratio(*([s.cpu_us / s.bytes for s in x] for x in (ours, theirs)))
    section.judge(10, "(h) 100 MB: bytes/s / those of curl", speed, 0.90, "", True)
    section.judge(10, "(h) 100 MB: CPU per GB / that of curl", cost, 1.10)
