# SPDX-License-Identifier: MIT
"""Workload (d): one batch of 10 to 100,000 members: CPU per URL, wall time, memory.

Memory per finished member is what gatherd has grown by while its whole answer is ready and its
client has not read it, divided by the members. The client's receive buffer is small, so that the
answer is in gatherd and not in the kernel.
"""
import http.client
import select
import socket
import time

import daemon
import machine
import peers
import report
import throughput
from upstream import BODY_BYTES

SIZES = (10, 100, 1000, 10000, 100000)
OPTIONS = [
    throughput.ALLOW, "limits.requests=100000", "limits.queued=200000", "limits.body_bytes=16M",
]


def run_size(gatherd, urls, size, total):
    """As many batches of one size as make up the total; wall_s is that of one batch."""
    bodies = [
        daemon.batch_body(urls[at : at + size], **throughput.FIELDS)
        for at in range(0, max(size, total), size)
    ]
    before, begin = gatherd.cpu_us(), time.monotonic()
    answers = [gatherd.post(body) for body in bodies]
    wall = (time.monotonic() - begin) / len(bodies)
    cpu = gatherd.cpu_us() - before
    for answer in answers:
        daemon.check_answer(answer, size, size * BODY_BYTES)
    return peers.Sample(size * len(bodies), size * len(bodies) * BODY_BYTES, wall, cpu)


class UnreadAnswer:
    """Posts a batch and reads nothing until told to."""

    def __init__(self, gatherd, body):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.settimeout(170)
        self.sock.connect(("127.0.0.1", gatherd.port))
        head = "POST /v1/batch HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
        head += "Connection: close\r\nContent-Length: %d\r\n\r\n"
        self.sock.sendall((head % (gatherd.port, len(body))).encode() + body)

    def wait_ready(self):
        """The answer has begun to come: JSON begins when its batch is done."""
        if not select.select([self.sock], [], [], 170)[0]:
            raise RuntimeError("no answer")
        time.sleep(0.3)

    def read(self):
        reply = http.client.HTTPResponse(self.sock)
        reply.begin()
        answer = reply.read()
        self.sock.close()
        return answer


def memory_of(bench, urls, size):
    """(bytes per finished member, peak bytes per member) of a fresh gatherd."""
    body = daemon.batch_body(urls[:size], **throughput.FIELDS)
    with bench.gatherd(*OPTIONS) as gatherd:
        for _ in range(3):
            gatherd.post(daemon.batch_body(urls[:1000], **throughput.FIELDS))
        base = gatherd.rss_kb()
        unread = UnreadAnswer(gatherd, body)
        unread.wait_ready()
        ready, peak = gatherd.rss_kb(), machine.memory_kb(gatherd.pid, "VmHWM")
        answer = unread.read()
        daemon.check_answer(answer, size, size * BODY_BYTES)
        time.sleep(0.3)
        after = gatherd.rss_kb()
    return [(kb - base) * 1024 / size for kb in (ready, peak, after)] + [len(answer) / size]


def workload_d(bench, section):
    urls = bench.nginx.urls(SIZES[-1])
    total = bench.size(20000, 2000)
    with bench.gatherd(*OPTIONS) as gatherd:
        gatherd.post(daemon.batch_body(urls[:1000], **throughput.FIELDS))
        subjects = {
            size: lambda size=size: run_size(gatherd, urls, size, total) for size in SIZES
        }
        samples = bench.interleave(subjects, bench.rounds(9, 1))
        section.say(gatherd.shown_options())
    rows, memory, least = [], {}, bench.size(10000, 100000)
    for size in SIZES:
        memory[size] = memory_of(bench, urls, size) if size >= least else [None] * 4
        cpu = report.median([s.cpu_us_per_fetch for s in samples[size]])
        wall = report.median([s.wall_s for s in samples[size]]) * 1000
        rows.append([size, cpu, wall, *memory[size]])
    section.table(HEADER, rows)
    bench.known["plot"] = [(row[0], row[1], row[2]) for row in rows]
    judge(section, samples, memory)


HEADER = [
    "members", "CPU us/URL", "wall ms", "RSS: bytes per finished member", "peak", "after reading",
    "answer's bytes per member",
]


def spread(samples):
    """max / min of what the sizes cost. Each cost is taken against its round's mean, because the machine
    changes from round to round; then the median of the rounds, because max / min of a single round
    would mostly say how loud that was."""
    sizes = [size for size in SIZES if size >= 100]
    costs = {size: [] for size in sizes}
    for several in zip(*(samples[size] for size in sizes)):
        cpu = [s.cpu_us_per_fetch for s in several]
        for size, cost in zip(sizes, cpu):
            costs[size].append(cost * len(cpu) / sum(cpu))
    medians = [report.median(cost) for cost in costs.values()]
    return max(medians) / min(medians)


def judge(section, samples, memory):
    what = "(d) CPU per URL, 100 to 100,000 members: max / min"
    section.judge(5, what, spread(samples), 1.15)
    section.judge(5, "(d) RSS per finished member of 100,000", memory[100000][0], 600, " B")
