# SPDX-License-Identifier: MIT
"""Bodies that are made to be dear: deep, wide, full of keys, of escapes, of digits. What one may cost in
memory is bounded by a multiple of its size; what it costs in time is bounded too, and paid by who
sends it: the thread that serves the others does not do that work."""
import json
import re
import threading
import time

import pytest

from lib import contract, proc, steady

SIZE = 4 << 20  # limits.body_bytes
URL = b'"http://127.0.0.1:1/"'
JSON_MEMBER = b'[{"url":%s,"json":' % URL
# The values that all members may have together, and the arrays and objects: see request_json.c.
VALUES, CONTAINERS = 24 * 10000 + 100000, 8 * 10000 + 1000
# Memory of one body: 24 bytes for each of its own and 1 MiB for what is read, the body twice, and for
# each of 10,000 members what is kept of it.
FACTOR, CONSTANT = 26, (1 << 20) + 10000 * 2600
# What the front's thread may do for one, in all its turns, beside taking the bytes in: far less than
# reading one takes, and as much as no turn is to take. A batch that is started takes something for
# each member.
LOOP_MS, LOOP_MS_A_MEMBER, WHOLE_MS = 20, 0.012, 5000
MEMBERS = {"defaults": 10000, "urls": 10000}


def fill(head, unit, tail, size=SIZE, count=None):
    """unit,unit,unit between head and tail."""
    room = (size - len(head) - len(tail)) // (len(unit) + 1)
    return head + b",".join([unit] * min(room, count or room)) + tail


def keys(size, value=b"0"):
    parts, length, number = [], 0, 0
    while length < size - 32:
        parts.append(b'"%x":%b' % (number, value))
        length += len(parts[-1]) + 1
        number += 1
    return b",".join(parts[: VALUES - 10])


def text(unit):
    return JSON_MEMBER + b'"' + unit * ((SIZE - 100) // len(unit)) + b'"}]'


BODIES = {  # name: (what makes the body, status)
    "deep": (lambda: b"[" * SIZE, 400),
    "deep-objects": (lambda: b'{"a":' * (SIZE // 5), 400),
    "deep-64": (lambda: fill(JSON_MEMBER + b"[", b"[" * 60 + b"]" * 60, b"]}]"), 413),
    "containers": (lambda: fill(b"[", b"[]", b"]"), 413),
    "containers-most": (lambda: fill(JSON_MEMBER + b"[", b"[]", b"]}]", count=CONTAINERS - 10), 413),
    "objects-most": (lambda: fill(JSON_MEMBER + b"[", b'{"a":1}', b"]}]", count=CONTAINERS - 10), 413),
    "wide": (lambda: fill(b"[", b"1", b"]"), 413),
    "wide-most": (lambda: fill(JSON_MEMBER + b"[", b"1", b"]}]", count=VALUES - 10), 200),
    "strings-most": (lambda: fill(JSON_MEMBER + b"[", b'"a"', b"]}]", count=VALUES - 10), 200),
    "reals-most": (lambda: fill(JSON_MEMBER + b"[", b"1e14", b"]}]", count=VALUES - 10), 200),
    "keys": (lambda: b"[{" + b",".join(b'"%x":0' % n for n in range(350000)) + b"}]", 413),
    "keys-of-a-member": (lambda: b"[{" + keys(SIZE) + b"}]", 400),
    "keys-of-json": (lambda: JSON_MEMBER + b"{" + keys(SIZE - 100) + b"}}]", 200),
    "key-twice-at-the-end": (lambda: JSON_MEMBER + b"{" + keys(SIZE - 100) + b',"0":1}}]', 400),
    "headers": (lambda: b'[{"url":%s,"headers":{' % URL + keys(SIZE - 100, b'""') + b"}}]", 400),
    "escapes": (lambda: text(b"\\u0041"), 200),
    "escaped-controls": (lambda: text(b"\\u0001"), 200),
    "escaped-pairs": (lambda: text(b"\\ud83d\\ude00"), 200),
    "escaped-quotes": (lambda: text(b'\\"'), 200),
    "one-string": (lambda: text(b"a"), 200),
    "utf8": (lambda: text("ä".encode()), 200),
    "utf8-that-ends-badly": (lambda: text("ä".encode())[:-3] + b'\xff"}]', 400),
    "no-end": (lambda: b'["' + b"a" * (SIZE - 2), 400),
    "integer": (lambda: b"[" + b"1" * (SIZE - 2) + b"]", 400),
    "fraction": (lambda: JSON_MEMBER + b"0." + b"1" * (SIZE - 100) + b"}]", 200),
    "exponent": (lambda: JSON_MEMBER + b"1e" + b"0" * (SIZE - 100) + b"}]", 200),
    "minus-zeros": (lambda: JSON_MEMBER + b"-" + b"0" * (SIZE - 100) + b"}]", 400),
    "blanks": (lambda: b" " * (SIZE - 30) + b"[" + URL + b"]", 200),
    "one-url": (lambda: b'["' + b"a" * (SIZE - 4) + b'"]', 200),
    "urls": (lambda: fill(b"[", b'"http://127.0.0.1:1/' + b"x" * 390 + b'"', b"]", count=10000), 200),
    "base64": (lambda: b'[{"url":%s,"body_base64":"' % URL + b"QUJD" * (SIZE // 4 - 32) + b'"}]', 200),
    "defaults": (
        lambda: b'{"defaults":{"headers":{'
        + b",".join(b'"h%d":"x"' % n for n in range(99))
        + b'}},"requests":'
        + fill(b"[", b'{"url":%s,"headers":{"a":"b"}}' % URL, b"]", count=10000)
        + b"}",
        200,
    ),
}


def memory(daemon):
    with open("/proc/%d/status" % daemon.pid, encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1)) * 1024


def turns(daemon):
    """How many turns took longer than each bound of the histogram, seconds."""
    values = daemon.metrics()
    name = 'gatherd_loop_turn_seconds_bucket{le="%s"}'
    bounds = ("0.01", "0.02", "0.05", "0.1")
    return {float(b): values[name % "+Inf"] - values[name % b] for b in bounds}


def busy_ms(daemon):
    """Processor time of the front's thread."""
    with open("/proc/%d/task/%d/schedstat" % (daemon.pid, daemon.pid), encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e6


def front_ms(daemon, body):
    """What the front's thread takes for it, beside what a body as long takes that its first bytes
    refuse; the least of a few, because other processes share the machine's caches."""
    least = None
    for _ in range(4):
        begin = busy_ms(daemon)
        assert daemon.post(b"[" * len(body)).status == 400
        bytes_in = busy_ms(daemon)
        daemon.post(body)
        took = busy_ms(daemon) - bytes_in - (bytes_in - begin)
        least = took if least is None else min(least, took)
        if least < LOOP_MS / 2:
            break
    return least


DEAREST = ("deep-64", "defaults", "escaped-controls", "integer", "keys", "objects-most",
           "strings-most")  # fmt: skip


@pytest.mark.parametrize("name", proc.form(DEAREST, sorted(BODIES)))
def test_a_dear_body(spawn, name):
    """Its answer, and that memory stays in bounds: the denied members are not fetched."""
    body, status = BODIES[name][0](), BODIES[name][1]
    assert len(body) <= SIZE
    daemon = spawn("policy.default.deny=127.0.0.1", loopback=False)
    before, begin = memory(daemon), daemon.cpu_s()
    reply = daemon.post(body)
    took, grown, long = 1e3 * (daemon.cpu_s() - begin), memory(daemon) - before, turns(daemon)
    front, bound = front_ms(daemon, body), LOOP_MS + LOOP_MS_A_MEMBER * MEMBERS.get(name, 0)
    print("%s: %d, %d ms, of the front %.1f; %.1f MB = %.1f bytes for one; turns over 20 ms: %d, over 100 ms: %d"
          % (name, reply.status, took, front, grown / 1e6, grown / len(body), long[0.02], long[0.1]))  # fmt: skip
    assert reply.status == status, reply
    if status != 200:
        contract.problem(reply, status)
    if proc.scale() == 1:
        assert grown <= FACTOR * len(body) + CONSTANT
    assert took < WHOLE_MS * proc.scale() and front < bound * proc.scale()


def test_dear_bodies_do_not_hold_others_up(spawn):
    """Five clients send dear bodies all the time. A good one waits for none of them: each takes half a
    second to be read."""
    daemon = spawn("policy.default.deny=127.0.0.1", loopback=False)
    body = JSON_MEMBER + b"{" + keys(SIZE - 100) + b"}}]"
    over, wrong = threading.Event(), []

    def send():
        while not over.is_set():
            status = daemon.post(body).status
            if status != 200:
                wrong.append(status)

    threads = [threading.Thread(target=send) for _ in range(5)]
    good = steady.Steady(daemon.port)
    for thread in threads:
        thread.start()
    time.sleep(proc.form(3, 30))
    figures = good.stop()
    over.set()
    for thread in threads:
        thread.join()
    print("a good client beside five: %s" % figures)
    assert not wrong and figures["p50"] < LOOP_MS * proc.scale()


@pytest.mark.parametrize("place", ["start", "middle", "end"])
@pytest.mark.parametrize("type", ["text/uri-list", "application/json"])
def test_every_raw_byte_in_a_url(gatherd, origin, type, place):
    """Bytes as they are, not characters: the upstream sees nothing, or one well-formed request whose
    target is what was asked."""
    line = origin.url("/echo?").encode()
    for code in range(256):
        byte = bytes([code])
        url = {"start": byte + line + b"ab", "middle": line + b"a" + byte + b"b",
               "end": line + b"ab" + byte}[place]  # fmt: skip
        before = len(origin.seen)
        reply = gatherd.post(url if type == "text/uri-list" else b'["%b"]' % url, type=type)
        seen = origin.seen[before:]
        assert reply.status in (200, 400) and len(seen) <= 1, (code, reply)
        json.loads(reply.body)
        for request in seen:
            assert request.raw.count(b"HTTP/1.1\r\n") == 1 and not request.body, code
            assert re.fullmatch(rb"GET /echo\?[!-~]*", request.raw.split(b" HTTP/")[0]), code
            assert not {n.lower() for n, _ in request.headers} - {
                "host", "user-agent", "accept", "accept-encoding"
            }  # fmt: skip


def test_a_query_of_16_kb(gatherd, origin):
    """Values as long as the head may be; decoded once, and one that is cut in an escape is refused."""
    url = origin.url("/size/1")
    assert gatherd.post([url], "timeout_ms=" + "0" * 8000 + "5000").status in (200, 400)
    body = "body=" + "%41" * 5000
    assert gatherd.post([url], "method=POST&" + body).status == 200
    assert origin.seen[-1].body == b"A" * 5000
    for bad in ("body=%4", "body=%", "body=%zz", "%00=1", "body=%00x", "body=%ff"):
        reply = gatherd.post([url], bad)
        assert reply.status in (200, 400), bad
        if bad != "body=%00x":
            contract.problem(reply, 400)
