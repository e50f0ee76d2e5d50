# SPDX-License-Identifier: MIT
"""Workload (g): what gatherd holds for many at once: clients that have sent nothing, kept clients,
slow transfers. RSS each, of a fresh gatherd, once its growth has ended."""
import re
import socket
import time

import batch_size
import daemon
import throughput
import waiting

HEAD_KB = 16  # limits.head_bytes, its default
REQUEST = b"GET /-/healthy HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"


def settled_rss_kb(gatherd):
    """RSS once it has stayed the same for half a second."""
    last, same = gatherd.rss_kb(), 0
    for _ in range(100):
        time.sleep(0.1)
        now = gatherd.rss_kb()
        same, last = same + 1 if now == last else 0, now
        if same == 5:
            break
    return last


def read_answer(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(4096)
        if not part:
            raise RuntimeError("the connection ended: %r" % data)
        data += part
    length = re.search(rb"(?i)content-length: (\d+)", data)
    left = int(length.group(1)) - (len(data) - data.index(b"\r\n\r\n") - 4)
    while left > 0:
        left -= len(sock.recv(left))


def clients_kb(bench, count, ask):
    """KB of each of so many clients; ask: after one request each."""
    options = [throughput.ALLOW, "limits.clients=%d" % (count + 100)]
    options += ["listener.default.%s=120s" % key for key in ("head_timeout", "keep_alive")]
    with bench.gatherd(*options) as gatherd:
        gatherd.post(daemon.batch_body(bench.nginx.urls(100)))
        before, socks = settled_rss_kb(gatherd), []
        try:
            for _ in range(count):
                socks.append(socket.create_connection(("127.0.0.1", gatherd.port), 20))
                if ask:
                    socks[-1].sendall(REQUEST % gatherd.port)
                    read_answer(socks[-1])
            time.sleep(1)
            return (settled_rss_kb(gatherd) - before) / count, gatherd.shown_options()
        finally:
            for sock in socks:
                sock.close()


def transfers_kb(bench, count):
    """KB of each of so many running transfers, with their members and their share of the batch."""
    options = [waiting.ALLOW, "limits.in_flight=%d" % count, "limits.per_host=%d" % count]
    with waiting.Slow() as slow, bench.gatherd(*options) as gatherd:
        gatherd.post(daemon.batch_body(bench.nginx.urls(100)))
        before = settled_rss_kb(gatherd)
        body = daemon.batch_body(slow.urls(count, "/hold"), concurrency=count)
        unread = batch_size.UnreadAnswer(gatherd, body)
        wait_active(gatherd, count)
        grown = settled_rss_kb(gatherd) - before
        unread.sock.close()
        wait_active(gatherd, 0)
    return grown / count, gatherd.shown_options()


def wait_active(gatherd, count):
    """Until so many transfers run, by /metrics."""
    for _ in range(400):
        sock = socket.create_connection(("127.0.0.1", gatherd.port), 20)
        with sock, sock.makefile("rb") as file:
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                         b"Connection: close\r\n\r\n" % gatherd.port)
            text = file.read()
        found = re.search(rb"^gatherd_members_active (\d+)", text, re.MULTILINE)
        if found and int(found.group(1)) == count:
            time.sleep(0.5)
            return
        time.sleep(0.05)
    raise RuntimeError("not %d transfers: %r" % (count, found and found.group(0)))


def workload_g(bench, section):
    clients, transfers = bench.size(10000, 2000), bench.size(5000, 1000)
    rows, values = [], []
    for what, count, measured in (
        ("clients that have sent nothing", clients, clients_kb(bench, clients, False)),
        ("kept clients after one request", clients, clients_kb(bench, clients, True)),
        ("slow transfers", transfers, transfers_kb(bench, transfers)),
    ):
        rows.append([what, count, *measured])
        values.append(measured[0])
    section.table(["held", "how many", "RSS each, KB", "options"], rows)
    for what, value, bound in zip(
        ("client that has sent nothing", "kept client (head_bytes + 4 KB)", "slow transfer"),
        values,
        (6, HEAD_KB + 4, 40),
    ):
        section.judge(9, "(g) RSS per " + what, value, bound, " KB")
