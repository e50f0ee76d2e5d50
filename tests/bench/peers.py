# SPDX-License-Identifier: MIT
"""The peers: each fetches a list of URLs and comes back as a Sample, or raises Failed. One that
fetched less, or other bytes, has failed and does not count.

limit, aiohttp and net/http time themselves, after a warm-up; curl and wrk are timed from outside,
from start to end. All run on the core where gatherd runs.
"""
import functools
import json
import os
import re
import shutil
import subprocess
import sys

import machine


class Failed(Exception):
    """A subject did not do what it was asked."""


class Sample:
    """One measurement of `fetches` fetches."""

    def __init__(self, fetches, size, wall_s, cpu_us, peak_kb=0, **more):
        self.fetches, self.bytes, self.wall_s, self.cpu_us = fetches, size, wall_s, cpu_us
        self.peak_kb, self.more = peak_kb, more

    @property
    def cpu_us_per_fetch(self):
        return self.cpu_us / self.fetches

    @property
    def fetches_per_s(self):
        return self.fetches / self.wall_s


class Job:
    """What is to be fetched, and how: the same for every peer."""

    def __init__(self, scratch, urls, size, concurrency=100, per_origin=100, warmup=1000, tls=None):
        self.scratch, self.urls, self.size = scratch, urls, size
        self.concurrency, self.per_origin, self.warmup = concurrency, per_origin, warmup
        self.ca_file = tls
        self.file = os.path.join(scratch, "urls-%d-%s" % (len(urls), abs(hash(urls[0]))))
        with open(self.file, "w", encoding="ascii") as file:
            file.write("\n".join(urls) + "\n")

    @property
    def bytes(self):
        return self.size * len(self.urls)


def _read_json(outcome, job, name):
    try:
        said = json.loads(outcome.out.strip().split("\n")[-1])
    except ValueError:
        raise Failed("%s: status %s, %s" % (name, outcome.status, outcome.error[-500:])) from None
    if outcome.status != 0 or said["ok"] != len(job.urls) or said["bytes"] != job.bytes:
        raise Failed("%s: %s %s" % (name, said, outcome.error[-500:]))
    more = {k: said[k] for k in ("connects", "rss_kb") if k in said}
    return Sample(
        said["ok"], said["bytes"], said["wall_s"], said["cpu_us"], said["peak_rss_kb"], **more
    )


def limit(job, *options, coded=True):
    """coded: it asks for content codings, as gatherd does, so that both send the same request."""
    command = [os.path.join(machine.BUILD, "tests/bench/limit"), *options]
    command += ["--decode"] if coded else []
    command += ["--concurrency", str(job.concurrency), "--per-origin", str(job.per_origin)]
    command += ["--warmup", str(job.warmup)]
    if job.ca_file:
        command += ["--cafile", job.ca_file]
    outcome = machine.run([*command, job.file], machine.measured_core(), scratch=job.scratch)
    return _read_json(outcome, job, "limit")


@functools.lru_cache(None)
def aiohttp_python():
    """A Python that has aiohttp: ours, or another on PATH."""
    found = [sys.executable]
    for folder in os.environ.get("PATH", "").split(os.pathsep) + ["/usr/bin"]:
        path = shutil.which("python3", path=folder)
        if path and path not in found:
            found.append(path)
    for python in found:
        probe = [python, "-c", "import aiohttp"]
        if subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return python
    return None


def aiohttp(job):
    command = [aiohttp_python(), os.path.join(machine.HERE, "peer_aiohttp.py"), job.file]
    command += [str(n) for n in (job.concurrency, job.per_origin, job.warmup)]
    outcome = machine.run(command, machine.measured_core(), scratch=job.scratch)
    return _read_json(outcome, job, "aiohttp")


NET_HTTP = os.path.join(machine.BUILD, "tests/bench/peer_net_http")


def build_net_http(scratch):
    """Makes the program, if its source is newer."""
    source = os.path.join(machine.HERE, "peer_net_http.go")
    if os.path.exists(NET_HTTP) and os.path.getmtime(NET_HTTP) > os.path.getmtime(source):
        return
    machine.say("building peer_net_http")
    env = dict(os.environ, GO111MODULE="off", GOPROXY="off", GOFLAGS="", CGO_ENABLED="0")
    env["GOCACHE"] = os.path.join(scratch, "go-cache")
    subprocess.run(["go", "build", "-o", NET_HTTP, source], env=env, check=True, timeout=300)


def net_http(job, procs=1):
    command = [NET_HTTP, job.file]
    command += [str(n) for n in (job.concurrency, job.per_origin, job.warmup)]
    env = dict(machine.environment(), GOMAXPROCS=str(procs))
    outcome = machine.run(command, machine.measured_core(), scratch=job.scratch, env=env)
    return _read_json(outcome, job, "net/http")


def curl_config(job, more=""):
    """A configuration file that has curl fetch the job in parallel and throw the bodies away."""
    path = job.file + ".curl"
    with open(path, "w", encoding="ascii") as file:
        file.write("silent\nno-progress-meter\nshow-error\nfail\nfail-early\nnoproxy = *\n")
        if job.concurrency > 1:
            file.write("parallel\nparallel-max = %d\n" % job.concurrency)
        if job.ca_file:
            file.write('cacert = "%s"\n' % job.ca_file)
        file.write(more)
        for url in job.urls:
            file.write('url = "%s"\noutput = /dev/null\n' % url)
    return path


def curl(job, count_requests, *options):
    """curl -Z. That it ends with 0 means that each answer was whole; count_requests, a function,
    says how many there were."""
    command = ["curl", "-q", *options, "--config", curl_config(job)]
    before = count_requests()
    outcome = machine.run(command, machine.measured_core(), scratch=job.scratch)
    answered = count_requests() - before - 1
    if outcome.status != 0 or answered != len(job.urls):
        words = "curl: status %d, %d answers, %s"
        raise Failed(words % (outcome.status, answered, outcome.error[-500:]))
    return Sample(answered, job.bytes, outcome.wall_s, outcome.cpu_us)


def check_curl(job, *options):
    """Once, not timed: curl says itself how many bytes it got; saying so costs it time."""
    command = ["curl", "-q", *options, "--config"]
    command.append(curl_config(job, 'write-out = "%{size_download}\\n"\n'))
    outcome = machine.run(command, scratch=job.scratch)
    sizes = [int(line) for line in outcome.out.split()]
    if outcome.status != 0 or sum(sizes) != job.bytes or len(sizes) != len(job.urls):
        raise Failed("curl: %d bytes, %s" % (sum(sizes), outcome.error[-500:]))


def wrk(job, seconds=1):
    """The ceiling: no queue of URLs, one of them again and again, and little libraries do."""
    command = ["wrk", "-t1", "-c%d" % job.concurrency, "-d%ds" % seconds, job.urls[0]]
    outcome = machine.run(command, machine.measured_core(), scratch=job.scratch)
    match = re.search(r"(\d+) requests in ([\d.]+)s", outcome.out)
    if outcome.status != 0 or not match or re.search("Non-2xx|Socket errors", outcome.out):
        raise Failed("wrk: %s %s" % (outcome.out[-500:], outcome.error[-500:]))
    n = int(match.group(1))
    return Sample(n, n * job.size, float(match.group(2)), outcome.cpu_us)
