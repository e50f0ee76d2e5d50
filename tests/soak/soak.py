#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The soak: good and hostile traffic mixed for a long while, `make soak SOAK_MINUTES=30`.

A few workers throw dice: batches of all kinds, hostile upstreams, dead names, TLS, clients that hang up,
drip or send garbage, reloads. Each minute ends with a rest of some seconds, in which idle connections and
what is kept for them go; then the daemon's memory and descriptors are read, because what traffic holds
for a moment is no leak. At the end it is asserted: the line through memory at rest, after the warm-up,
rises by less than SLOPE_MAX_KB_H, descriptors are what they were, the counters add up, and the daemon ends
cleanly. Each answer is checked against the contract when it comes. Prints the figures; exit status 1 when
one is out of bounds.

Memory is the bytes of the heap in use (tests/lib/heap.c), without the cache of free blocks that glibc
keeps for each thread: 448 blocks at the most, which count as in use and take more than an hour to become
so many. With `--thread-caches` they are there, as they are for users. The process's pages are printed
beside them: a block in use keeps its page, and up to 2 MiB of a heap's end that is free stay, so that
they wander by 1 MB and more. Half an hour is too short to tell that from a leak of 1 MB an hour: they
may not grow by STEP_MAX_KB, and their line is judged in a run of an hour or more. A line is the median
of the slopes between any two rests (Theil and Sen), so that one rest that was disturbed says nothing.
"""
import argparse
import collections
import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import contract, dns, hostile, origin, proc, tls  # noqa: E402

WORKERS = 4
PAUSE_S = 0.02  # between two things a worker does: the machine is for others, too
WARM_UP = 0.2  # of the time
ROUND_S, REST_S = 60, 12  # a rest at the end of each round
SLOPE_MAX_KB_H = 200
SLOPE_MAX_CACHED_KB_H = 1000  # with the caches of threads
RSS_SLOPE_MAX_KB_H, RSS_SLOPE_FROM_S = 1000, 3600
STEP_MAX_KB = 2000  # of RSS, from the first quarter of the rests after the warm-up to the last
SLOW = {"endless-head", "endless-line", "endless-status-line", "head-drip"}


class Soak:
    def __init__(self, daemon, server, names, secure, seed, heap):
        self.daemon, self.origin, self.names, self.secure = daemon, server, names, secure
        self.random, self.heap = random.Random(seed), heap
        self.stop, self.works = threading.Event(), threading.Event()
        self.works.set()
        self.lock = threading.Lock()
        self.done = collections.Counter()
        self.faults = []
        self.answered, self.doubtful, self.bodies = 0, 0, 0
        self.turn = 0
        self.weird = sorted(set(hostile.WEIRD) - SLOW)
        self.closed = origin.ClosedPort()

    # what is asked for
    def url(self, path, **more):
        return self.origin.url(path, **more)

    def hostile_member(self):
        dice = self.random.random()
        self.turn += 1
        path = self.random.choice(
            [
                "/reset",
                "/close",
                "/reset-after/100/size/1000",
                "/cut-after/100/size/1000",
                "/gzip/bomb/20000000",
                "/infinite",
                "/endless-head",
                "/redirect/30/to/size/1",
                "/never",
                "/drip/20/20",
                "/1xx/20/size/5",
                "/trailers/50/size/5",
            ]
        )
        url = self.url(path)
        if dice < 0.4:
            url = self.url("/weird/" + self.random.choice(self.weird))
        elif dice < 0.5:
            url = "http://127.0.0.1:%d/" % self.closed.port
        elif dice < 0.6:
            url = "http://nobody-%d.test/" % self.turn
        elif dice < 0.65:
            url = self.url("/size/5", host="dead.test")
        elif dice < 0.75:
            url = self.random.choice(["http://10.1.2.3/", "http://[::ffff:7f00:1]/", "file:///etc"])
        return {"url": url, "timeout_ms": 300, "connect_timeout_ms": 200, "max_response_bytes": 20000}

    def good_member(self):
        self.turn += 1
        dice = self.random.random()
        if dice < 0.1:
            return self.secure.url("/size/500")
        if dice < 0.15:
            return {"url": self.secure.url("/size/50"), "fresh_connection": True}
        if dice < 0.25:
            return self.url("/size/10", host="name-%d.test" % (self.turn % 50))
        if dice < 0.35:
            return {"url": self.url("/echo"), "json": {"n": self.turn, "text": "x" * 500}}
        if dice < 0.45:
            return self.url("/redirect/2/to/size/20")
        if dice < 0.55:
            return self.url("/gzip/size/20000")
        return self.url("/size/%d" % self.random.choice([0, 10, 1000, 30000]))

    def members(self):
        count = self.random.choice([1, 1, 3, 3, 10, 40])
        share = self.random.choice([0, 0, 0.2, 1])
        return [
            self.hostile_member() if self.random.random() < share else self.good_member()
            for _ in range(count)
        ]

    # what is done
    def batch(self):
        members = self.members()
        include = self.random.choice(["", "body", "headers,body", "body_sha256,text_length"])
        fields = {"requests": members, "deadline_ms": self.random.choice([100, 5000, 5000])}
        reply = self.daemon.post(fields, "include=" + include if include else "", timeout=30)
        assert reply.status == 200, reply
        document = contract.check(reply.body, members, fields, "include=" + include)
        with self.lock:
            self.answered += len(members)
            self.bodies += document["sizes"]["size_delivered"]

    def stream(self):
        members = self.members()
        reply = self.daemon.post(members, "format=ndjson", timeout=30)
        assert reply.status == 200, reply
        contract.ndjson(reply, members)
        with self.lock:
            self.answered += len(members)

    def hang_up(self):
        """At any moment between the first byte and the answer."""
        members = self.members()
        body = json.dumps(members).encode()
        head = b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        data = head + body
        if self.random.random() < 0.5:
            data = data[: self.random.randrange(len(data))]
        with self.lock:
            self.doubtful += len(members)
        with self.daemon.connect(10) as sock:
            sock.sendall(data)
            time.sleep(self.random.choice([0, 0.005, 0.05]))

    def refused(self):
        data = self.random.choice(
            [
                b"GET / HTTP/1.1\r\n\r\n",
                b"POST /v1/batch HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n[]",
                b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n[]",
                b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n",
                b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n[[[[[",
                self.random.randbytes(300) + b"\r\n\r\n",
                b"X" * 60000,
            ]
        )
        with contextlib.suppress(TimeoutError):
            self.daemon.raw(data, 3)

    def slow(self):
        """A few bytes, then silence: the daemon's deadline ends it."""
        with self.daemon.connect(5) as sock:
            sock.sendall(b"POST /v1/batch HTTP/1.1\r\nHost: loc")
            with contextlib.suppress(ConnectionError):
                for _ in range(10):
                    time.sleep(0.05)
                    sock.sendall(b"a")

    def look(self):
        for path in ("/metrics", "/-/ready", "/-/healthy"):
            assert self.daemon.get(path).status == 200

    def reload(self):
        self.daemon.signal(signal.SIGHUP)

    ACTIONS = {batch: 60, stream: 12, hang_up: 12, refused: 8, slow: 1, look: 4, reload: 1}

    def worker(self):
        while not self.stop.is_set():
            self.works.wait()
            action = self.random.choices(list(self.ACTIONS), self.ACTIONS.values())[0]
            try:
                action(self)
            except (ConnectionError, http.client.HTTPException, AssertionError, ValueError):
                with self.lock:
                    self.faults.append(action.__name__ + ": " + traceback.format_exc()[-2000:])
            with self.lock:
                self.done[action.__name__] += 1
            time.sleep(PAUSE_S)


def resident_kb(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("VmRSS:")).split()[1])


def in_use_kb(heap):
    """0 where the library is not loaded."""
    with open(heap, "rb") as file:
        return int.from_bytes(file.read(8), sys.byteorder) // 1024


def slope(points):
    """The median of the slopes between any two of the points (x, y)."""
    pairs = itertools.combinations(points, 2)
    slopes = [(y - y0) / (x - x0) for (x0, y0), (x, y) in pairs]
    return statistics.median(slopes) if slopes else 0.0


def watch(soak, seconds):
    """Rounds of traffic and rest until the time is over: [(seconds, kB of RSS, kB in use, descriptors)] at
    rest."""
    samples, start = [], time.monotonic()
    pid, round_s = soak.daemon.pid, min(ROUND_S, seconds / 2)
    while time.monotonic() - start < seconds and soak.daemon.process.poll() is None:
        soak.works.set()
        end = time.monotonic() + round_s - REST_S
        while time.monotonic() < end:
            time.sleep(1)
            soak.origin.seen.clear()
            soak.origin.connections[:] = [c for c in soak.origin.connections if c in soak.origin.open]
            del soak.names.queries[:]
        busy_kb = resident_kb(pid)
        soak.works.clear()
        time.sleep(REST_S)
        fds = len(os.listdir("/proc/%d/fd" % pid))
        at, used = time.monotonic() - start, in_use_kb(soak.heap)
        samples.append((at, resident_kb(pid), used, fds))
        print("%5.0f s  %6d kB (busy %6d), %d in use  %4d fds  %r" % (
            at, samples[-1][1], busy_kb, used, fds, dict(soak.done)), flush=True)
    soak.works.set()
    return samples


def quiet_counters(soak):
    """With nobody who hangs up every figure is exact: metrics, answers and the origin agree."""
    def figures():
        values = soak.daemon.metrics()
        states = ("done", "failed", "denied", "cancelled")
        return (
            sum(values['gatherd_members_total{state="%s"}' % state] for state in states),
            values["gatherd_fetch_requests_total"],
            values["gatherd_fetch_connects_total"],
            values["gatherd_fetch_delivered_bytes_total"],
            values["gatherd_batches_total"],
        )

    before, members, hops, connects, delivered, batches = figures(), 0, 0, 0, 0, 0
    for _ in range(50):
        fresh = {"url": soak.url("/close-after/size/50"), "fresh_connection": True}
        urls = [soak.url("/redirect/1/to/size/100"), fresh, "http://10.0.0.1/"]
        document = soak.daemon.batch(urls)
        batches += 1
        members += document["counts"]["requests"]
        delivered += document["sizes"]["size_delivered"]
        for result in document["results"]:
            connects += result["num_connects"] or 0
            hops += result["num_redirects"] + (result["status"] is not None)
    grown = tuple(after - at for after, at in zip(figures(), before))
    return grown, (members, hops, connects, delivered, batches)


def judge(soak, samples, first_fds, slope_max):
    """Words on what is out of bounds; prints the figures."""
    wrong = list(soak.faults[:5])
    time.sleep(3)  # deadlines of the last slow clients
    end = samples[-1][0]
    rests = [sample for sample in samples if sample[0] >= end * WARM_UP]
    rss, quarter = [kb for _, kb, _, _ in rests], max(len(rests) // 4, 1)
    grown = statistics.median(rss[-quarter:]) - statistics.median(rss[:quarter])
    kb_an_hour = slope([(at, used) for at, _, used, _ in rests]) * 3600
    rss_an_hour = slope([(at, kb) for at, kb, _, _ in rests]) * 3600
    exact, expected = quiet_counters(soak)
    values = soak.daemon.metrics()
    states = ("done", "failed", "denied", "cancelled")
    members = sum(values['gatherd_members_total{state="%s"}' % state] for state in states)
    members -= expected[0]
    fds = soak.daemon.descriptors()
    print("actions %r, faults %d" % (dict(soak.done), len(soak.faults)))
    print("after the warm-up, at rest:")
    print("in use %+.0f kB/h: %s kB" % (kb_an_hour, [used for _, _, used, _ in rests]))
    print("RSS %+.0f kB/h, %+.0f kB in all: %s kB" % (rss_an_hour, grown, rss))
    print("descriptors: %d before; at rest %s; now %r" % (first_fds, [n for *_, n in samples], dict(fds)))
    print("members: %d answered, %d of clients that left, %d counted" % (soak.answered, soak.doubtful, members))
    print("quiet: (members, hops, connects, bytes, batches) grown %r, answered %r" % (exact, expected))
    if end >= 600 and kb_an_hour >= slope_max:
        wrong.append("memory grows by %.0f kB an hour" % kb_an_hour)
    if end >= RSS_SLOPE_FROM_S and rss_an_hour >= RSS_SLOPE_MAX_KB_H:
        wrong.append("RSS grows by %.0f kB an hour" % rss_an_hour)
    if grown >= STEP_MAX_KB:
        wrong.append("RSS has grown by %.0f kB" % grown)
    if min(used for _, _, used, _ in samples) == 0:
        wrong.append("tests/lib/heap.so is not loaded")
    if not soak.answered <= members <= soak.answered + soak.doubtful:
        wrong.append("members do not add up")
    if tuple(int(x) for x in exact) != expected:
        wrong.append("counters do not add up")
    for name in ("gatherd_members_active", "gatherd_members_queued", "gatherd_batches_running"):
        if values[name] != 0:
            wrong.append("%s is %d at the end" % (name, values[name]))
    return wrong


class Secure:
    def __init__(self, server, authority):
        self.port, self.server = server.listen(tls=authority.context("good")), server

    def url(self, path):
        return self.server.url(path, port=self.port, scheme="https")


def run(minutes, seed, loops, caches):
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(origin.Origin())
        names = stack.enter_context(dns.Server())
        authority = tls.Authority(directory)
        names.add("dead.test", silent=True)
        for n in range(50):
            names.add("name-%d.test" % n, a=["127.0.0.1"], ttl=1 + n)
        conf = os.path.join(directory, "gatherd.conf")
        with open(conf, "w", encoding="ascii") as file:
            file.write("[listener default]\nhead_timeout = 1s\nbody_timeout = 1s\nkeep_alive = 2s\n")
        library = os.path.abspath(os.path.join(os.environ["top_builddir"], "tests/lib/heap.so"))
        heap = os.path.join(directory, "heap")
        with open(heap, "wb") as file:
            file.write(bytes(8))
        daemon = proc.Gatherd(
            "policy.default.allow=127.0.0.1",
            "fetch.ca_file=" + authority.ca_file,
            "fetch.dns_servers=" + names.address,
            "fetch.idle_time=2s",
            "daemon.loops=%d" % loops,
            "daemon.log_level=warn",
            args=("-c", conf),
            env={
                "LD_PRELOAD": library,
                "GATHERD_HEAP": heap,
                "GLIBC_TUNABLES": "" if caches else "glibc.malloc.tcache_count=0",
            },
            start=False,
        )
        stack.callback(daemon.kill)
        start_quiet(daemon)
        soak = Soak(daemon, server, names, Secure(server, authority), seed, heap)
        first = sum(daemon.first.values())
        workers = [threading.Thread(target=soak.worker, daemon=True) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        samples = watch(soak, minutes * 60)
        soak.stop.set()
        for worker in workers:
            worker.join(60)
        wrong = ["the daemon died: %s" % daemon.tail()] if daemon.process.poll() is not None else []
        wrong = wrong or judge(soak, samples, first, SLOPE_MAX_CACHED_KB_H if caches else SLOPE_MAX_KB_H)
        soak.closed.close()
        try:
            daemon.stop()
        except AssertionError as fault:
            wrong.append("the end: %s" % fault)
        return wrong


def start_quiet(daemon):
    """The log level hides the line that says which port it is: one is chosen beforehand."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    at = daemon.command.index("listener.default.bind=127.0.0.1:0")
    daemon.command[at] = "listener.default.bind=127.0.0.1:%d" % port
    daemon.port, daemon.addresses = port, ["127.0.0.1:%d" % port]
    daemon.start_nowait()
    deadline = time.monotonic() + proc.READY_S
    while True:
        try:
            if daemon.get("/-/ready").status == 200:
                break
        except OSError:
            assert time.monotonic() < deadline, "gatherd is not ready\n" + daemon.tail()
            time.sleep(0.05)
    time.sleep(0.2)
    daemon.first = daemon.descriptors()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loops", type=int, default=2)
    parser.add_argument("--thread-caches", action="store_true", help="malloc as it is for users")
    options = parser.parse_args()
    wrong = run(options.minutes, options.seed, options.loops, options.thread_caches)
    for words in wrong:
        print("WRONG: " + words)
    print("soak: %s" % ("FAILED" if wrong else "passed"))
    sys.exit(1 if wrong else 0)


main()
