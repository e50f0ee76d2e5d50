# SPDX-License-Identifier: MIT
"""What a hostile upstream may cost: memory, the loop's time, and what it may put into an answer. Figures
are printed as measured (`-s`); a bound that a busy machine could break is held by the median, and
far above by the worst."""
import gzip
import hashlib
import json
import os
import socket
import statistics
import threading
import time
import zlib

import pytest

from lib import bombs, contract, hostile, origin as origin_module, proc
from lib.script import brotli_stored, zstd_stored

KIB, MIB = 1024, 1 << 20
CAP = 4 * MIB


def memory_kib(daemon, field):
    with open("/proc/%d/status" % daemon.pid, encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field + ":"))


def coded(coding, body):
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (coding, len(body)) + body


def growth_kib(daemon, url, warm, include):
    """By how much the peak of memory is above what the daemon had after honest answers of the kind.
    Returns (KiB, result, bytes of the answer)."""
    for _ in range(3):
        daemon.batch([warm], include=include)
    with open("/proc/%d/clear_refs" % daemon.pid, "w", encoding="ascii") as file:
        file.write("5")
    before = memory_kib(daemon, "VmRSS")
    member = {"url": url, "timeout_ms": 1500, "max_response_bytes": CAP, "fresh_connection": True}
    reply = daemon.post({"requests": [member], "include": include})
    peak = memory_kib(daemon, "VmHWM")
    doc = contract.check(reply.body, fields={"include": include})
    return peak - before, doc["results"][0], len(reply.body)


def least_growth_kib(spawn, url, warm, include, bound):
    """The least of up to three daemons', until one is within bound(bytes of the answer): Linux counts pages
    by processor, and the peak that it tells is some 60 of them off for each, to either side."""
    tried = []
    while len(tried) < 3 and not any(grown <= bound(size) for grown, _, size in tried):
        tried.append(growth_kib(spawn("daemon.loops=1"), url, warm, include))
    print("KiB: %s" % [grown for grown, _, _ in tried])
    return min(tried, key=lambda figures: figures[0])


def need_figures():
    if proc.scale() != 1:
        pytest.skip("a sanitizer keeps what was freed")


FLOODS = [
    "trailer-flood",
    "trailer-endless-line",
    "endless-head",
    "endless-line",
    "endless-status-line",
    "1xx-flood",
    "100-flood",
    "chunk-ext-flood",
    "chunk-ext-endless",
    "chunk-1-byte-endless",
    "head-100k-fields",
    "head-60k",
    "cookie-flood",
    "fields-900",
    "fields-1001",
    "location-16k",
    "location-20k",
    "location-64k",
    "location-64k-on-200",
    "location-self",
    "gzip-empty-blocks",
    "gzip-name-three",
    "gzip-name-twice",
    "garbage",
    "infinite-body",
    "infinite-chunked",
]


@pytest.mark.parametrize("name", FLOODS)
def test_memory_of_a_flood(spawn, origin, name):
    """256 KiB beyond what `include` keeps, which is what the answer has of it, at most twice; the least of
    three."""
    need_figures()
    warm, url = origin.url("/headers/20/chunked/1000"), origin.url("/weird/" + name)
    for include in ([], ["headers"]):

        def bound(size, kept=bool(include)):
            return 256 + (2 * size // KIB if kept else 0)

        grown, _, size = least_growth_kib(spawn, url, warm, include, bound)
        origin.unknown.clear()  # where a Location led
        print("%s %s: %d KiB" % (name, include, grown))
        assert grown <= bound(size)


def held_bytes(daemon):
    return daemon.metrics()["gatherd_answer_bytes"]


def wait_for_held(daemon, wanted):
    deadline = time.monotonic() + 10 * proc.scale()
    while held_bytes(daemon) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    assert held_bytes(daemon) == wanted


@pytest.mark.parametrize("include", [[], ["redirects"]])
def test_texts_of_upstreams_are_within_answer_bytes(spawn, origin, include):
    """Content types and the URLs of redirects, which an upstream may make long, and as many as there are
    members: those that do not fit are null, or their member fails, and all is given back."""
    daemon = spawn("limits.answer_bytes=1M", "limits.upstream_head_bytes=64K")
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: a/b; c="
    types = [
        origin.raw("type-%d" % i, head + b"%d" % i + b"x" * 60000 + b"\r\n\r\n", "keep")
        for i in range(40)
    ]
    moved = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /ok?"
    urls = [
        origin.raw("moved-%d" % i, moved + b"%d" % i + b"\xff" * 16000 + b"\r\n\r\n", "keep")
        for i in range(40)
    ]
    first = daemon.batch(types, include=include)["results"]
    lengths = [len(r["content_type"] or "") for r in first]
    assert all(r["status"] == 200 and r["truncated"] is not bool(r["content_type"]) for r in first)
    assert 10 * 60000 < sum(lengths) <= MIB, lengths
    second = daemon.batch(urls, include=include)["results"]
    followed = [r for r in second if r["state"] == "done"]
    rest = [r for r in second if r["state"] != "done"]
    assert 10 < len(followed) <= MIB // 48000 and len(rest) == 40 - len(followed)
    assert all(len(r["url_effective"]) > 48000 for r in followed)
    assert all("limits.answer_bytes" in r["error"]["message"] for r in rest)
    wait_for_held(daemon, 0)
    assert all(r["content_type"] for r in daemon.batch(types[:10], include=include)["results"])


def test_heads_of_earlier_answers_are_not_held(spawn, origin):
    """What an earlier hop or a 1xx answer brought is no part of the answer, and takes nobody's room: neither
    its bytes, nor that they did not fit."""
    daemon = spawn("limits.answer_bytes=1M", "limits.upstream_head_bytes=256K")
    fields = b"".join(b"X-%02d: %s\r\n" % (n, b"v" * 590) for n in range(80))
    ok = b"HTTP/1.1 200 OK\r\nX-Last: 1\r\nContent-Length: 2\r\n\r\nok"
    head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n%s\r\n"
    url = origin.raw("last", ok, "keep")
    for n in range(30):
        url = origin.raw("hop-%d" % n, head % (url.encode(), fields), "keep")
    hints = b"HTTP/1.1 103 Early Hints\r\n%s\r\n" % fields
    members = [{"url": url, "max_redirects": 30}] + [origin.raw("hinted", hints * 4 + ok, "keep")] * 10
    results = daemon.batch(members, include=["headers"])["results"]
    assert all(r["ok"] and not r["truncated"] for r in results)
    assert all(["X-Last", "1"] in r["headers"] for r in results)
    wait_for_held(daemon, 0)
    # With the room taken the head of a hop does not fit; that of the answer does.
    kept = MIB - 40000
    big = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MIB + bytes(kept)
    with send_batch(daemon, [origin.raw("big", big, "stall")], "json", ["body"]):
        wait_for_held(daemon, kept)
        result = daemon.batch([origin.url("/raw/hop-0")], include=["headers"])["results"][0]
        assert ["X-Last", "1"] in result["headers"] and not result["truncated"]
    wait_for_held(daemon, 0)


BOMBS = {
    "gzip": (b"gzip", bombs.deflated(64 * MIB)),
    "deflate": (b"deflate", bombs.deflated(64 * MIB, 15)),
    "br": (b"br", bombs.brotli(8)),
    "zstd": (b"zstd", bombs.zstd(128 * MIB)),
    "zstd-small-window": (b"zstd", bombs.zstd(128 * MIB, 17)),
    "gzip-twice": (b"gzip, gzip", hostile._gzip_layers(1, bombs.deflated(64 * MIB))),
    "six": (b", ".join([b"gzip"] * 6), hostile._gzip_layers(5, bombs.deflated(MIB))),
}
HONEST = {b"br": brotli_stored, b"zstd": zstd_stored}


def chunks(head, body, size):
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


TEXT = b"".join(b"line %d of some text\n" % n for n in range(60000))
PACKED = {
    "gzip, gzip": gzip.compress(gzip.compress(TEXT, 6), 6),  # 23:1 once more
    "gzip, gzip stored first": gzip.compress(gzip.compress(TEXT, 0), 6),
    "deflate, gzip": gzip.compress(zlib.compress(TEXT, 6), 6),
}


@pytest.mark.parametrize("name", sorted(PACKED))
def test_text_that_is_packed_twice(spawn, origin, name):
    """Whole in the first read, or in pieces: what is no bomb is taken."""
    coding, body = " ".join(name.split()[:2]).encode(), PACKED[name]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\n" % coding
    whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    many = chunks(head + b"Transfer-Encoding: chunked\r\n\r\n", body, 200)
    urls = [origin.raw("whole", whole, "keep"), origin.raw("many", many, "keep")]
    for result in spawn().batch(urls * 10, include=["body_sha256"])["results"]:
        assert result["ok"] and result["body_sha256"] == hashlib.sha256(TEXT).hexdigest(), result


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("framing", ["chunked", "length", "fin"])
def test_what_was_received_of_a_body_that_is_cut(spawn, origin, framing, packed):
    """As it came, not as it was unpacked, and never more than there was."""
    body = gzip.compress(bytes(5 * MIB)) if packed else b"x" * 5000
    head = b"HTTP/1.1 200 OK\r\n" + (b"Content-Encoding: gzip\r\n" if packed else b"")
    reply = {
        "chunked": chunks(head + b"Transfer-Encoding: chunked\r\n\r\n", body, 4000),
        "length": head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        "fin": head + b"\r\n" + body,
    }[framing]
    url = origin.raw("cut", reply, "fin" if framing == "fin" else "keep")
    daemon = spawn()
    for cap in (1, 1000, 4500):
        before = daemon.metrics()["gatherd_fetch_received_bytes_total"]
        result = daemon.one({"url": url, "max_response_bytes": cap})
        received = daemon.metrics()["gatherd_fetch_received_bytes_total"] - before
        assert result["truncated"] and result["size_delivered"] == cap, result
        assert result["size_download"] == received and 1000 <= received <= len(reply) - len(head)


# libzstd's own: a block of 128 KiB beside the window, which is as large as the cap here.
BEYOND_KIB = {"zstd": 64 + 128}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_memory_of_a_bomb(spawn, origin, name):
    """The cap and 64 KiB; with the body included, which the answer then has, the answer as well; the least of
    three."""
    need_figures()
    coding, body = BOMBS[name]
    encode = HONEST.get(coding, lambda data: hostile._gzip_layers(1, data))
    kind = coding if coding in HONEST else b"gzip"
    warm = origin.raw("warm", coded(kind, encode(b"x" * 200000)), "keep")
    url = origin.raw("bomb", coded(coding, body), "keep")
    for include in ([], ["body"]):

        def bound(size, kept=bool(include)):
            return CAP // KIB + BEYOND_KIB.get(name, 64) + (size // KIB + 192 if kept else 0)

        grown, result, size = least_growth_kib(spawn, url, warm, include, bound)
        print("%s %s: %d KiB, answer %d KiB" % (name, include, grown, size // KIB))
        assert result["truncated"] or name == "six"
        assert grown <= bound(size)


# the loop


def over(values, bound):
    """The share of turns that took longer than so many seconds."""
    total = values["gatherd_loop_turn_seconds_count"]
    return 1 - values['gatherd_loop_turn_seconds_bucket{le="%s"}' % bound] / total


class Pinger:
    """Asks /-/healthy every millisecond on a kept connection; how long each took, in ms."""

    def __init__(self, daemon):
        self.daemon, self.times, self.running = daemon, [], True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        with self.daemon.connect() as sock:
            while self.running:
                start = time.perf_counter()
                sock.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
                while not sock.recv(4096).endswith(b"ok\n"):
                    pass
                self.times.append((time.perf_counter() - start) * 1000)
                time.sleep(0.001)

    def stop(self):
        self.running = False
        self.thread.join(10)
        return sorted(self.times)


FLOODING = ["chunk-ext-flood", "chunk-1-byte-endless", "infinite-chunked", "gzip-bomb-1000", "br-bomb"]


@pytest.mark.parametrize("loops", [0, 1, 2])
def test_the_loop_under_dead_names_drips_and_floods(spawn, origin, dns, loops):
    """Stalls of at most 20 ms, time-outs within 50 ms of their time."""
    for n in range(100):
        dns.add("dead%d.bounds.test" % n, silent=True)
    daemon = spawn("daemon.loops=%d" % loops, "limits.in_flight=400", "limits.per_host=400")
    dead = [
        {"url": "http://dead%d.bounds.test:%d/" % (n, origin.port), "connect_timeout_ms": 1500}
        for n in range(100)
    ]
    drips = [{"url": origin.url("/drip/2000/20?n=%d" % n), "timeout_ms": 1500} for n in range(100)]
    floods = [
        {"url": origin.url("/weird/%s?n=%d" % (FLOODING[n % len(FLOODING)], n)), "timeout_ms": 1500}
        for n in range(100)
    ]
    pinger, start = Pinger(daemon), time.monotonic()
    with proc.Starved(daemon, own=False) as starved:
        doc = daemon.batch(dead + drips + floods, concurrency=400)
        pings = pinger.stop()
    waited = starved.ms / 1000 / (time.monotonic() - start)
    # Held to the figure where the daemon had a processor when it wanted one, else far above.
    slack = proc.scale() * (4 if waited < 0.05 else 25)
    late = [float(r["total_ms"]) - 1500 for r in doc["results"][:200]]
    values = daemon.metrics()
    print(
        "loops %d, without a processor %.2f: ping p50 %.1f p99 %.1f worst %.1f ms; late p50 %.1f "
        "worst %.1f ms; turns > 20 ms %.4f"
        % (
            *(loops, waited, statistics.median(pings), pings[int(len(pings) * 0.99)], pings[-1]),
            *(statistics.median(late), max(late), over(values, "0.02")),
        )
    )
    assert {r["error"]["type"] for r in doc["results"][:100]} == {"dns_timeout"}
    assert {r["error"]["type"] for r in doc["results"][100:200]} == {"http_response_timeout"}
    assert min(late) >= 0 and statistics.median(late) <= 50 * slack
    assert max(late) <= 200 * slack
    assert over(values, "0.02") <= 0.02 * slack
    assert statistics.median(pings) <= 20 * slack


def processor_ms(daemon):
    """What its threads have used."""
    total, tasks = 0, "/proc/%d/task" % daemon.pid
    for task in os.listdir(tasks):
        with open("%s/%s/schedstat" % (tasks, task), encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e6


# A body, and what a turn may have of it on the average: ms of a processor, or bytes where that is slow.
TABLES = {
    "br": (bombs.brotli_tables(2048), 12, 4096),
    "gzip": (bombs.empty_blocks(48000, letters=True), 2, 20000),
}


@pytest.mark.parametrize("coding", sorted(TABLES))
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_packed_body_that_is_all_tables(spawn, origin, authority, scheme, coding):
    """What comes out of it says nothing of the work: it is done in many turns, over TLS too, where OpenSSL
    has a record of 16 KB at a time. A busy machine changes nothing in these figures."""
    body, most_ms, most_bytes = TABLES[coding]
    port = origin.listen(tls=authority.context()) if scheme == "https" else origin.port
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\n\r\n" % coding.encode()
    origin.raw("tables", head + body, "fin")
    daemon = spawn()
    url = origin.url("/raw/tables", port=port, scheme=scheme)
    daemon.batch([url.replace("/raw/tables", "/ok")])
    turns, used = daemon.metrics()["gatherd_loop_turn_seconds_count"], processor_ms(daemon)
    result = daemon.one({"url": url, "timeout_ms": 60000})
    used = processor_ms(daemon) - used
    turns = daemon.metrics()["gatherd_loop_turn_seconds_count"] - turns
    print("%s %s: %d KB, %.0f ms in %d turns" % (scheme, coding, len(body) / 1e3, used, turns))
    assert result["size_download"] == len(body)
    assert used / turns <= most_ms * proc.scale() or len(body) / turns <= most_bytes


def test_the_turn_that_ends_a_batch_is_in_its_lag(spawn, origin):
    """All of a batch is one turn here, of ten megabytes unpacked and digested: 4 ms at the least."""
    body = bombs.brotli(2)
    url = origin.raw("bomb", coded(b"br", body), "keep")
    daemon = spawn()
    docs = [daemon.batch([url], include=["body_sha256"]) for _ in range(5)]
    lags = [float(doc["daemon"]["loop_lag_max_ms"]) for doc in docs]
    print("ms: %s" % lags)
    assert all(doc["results"][0]["size_delivered"] == 10 * MIB for doc in docs)
    assert min(lags) >= 4


# what gets into an answer

FORMATS = ["json", "ndjson", "text"]
INCLUDE = ["headers", "body", "body_sha256", "text_length", "redirects", "curl"]


def reply_with(place, byte, framing):
    """A reply with the byte in one place of its head, and a body with it."""
    b = bytes([byte])
    reason = b"O" + b + b"K" if place == "reason" else b"OK"
    fields = {
        "name": b"X" + b + b"Y: v\r\n",
        "value": b"X-V: a" + b + b"c\r\n",
        "type": b"Content-Type: text/" + b + b"x; charset=" + b + b"\r\n",
    }.get(place, b"")
    status = b"200"
    if place == "location":
        status, fields = b"302", b"Location: /size/1?" + b + b"x\r\n"
    body = b"\xe2\x82" + b + b"\0\xed\xa0\x80\xf4\x90\x80\x80" + b
    head = b"HTTP/1.1 %s %s\r\n%s" % (status, reason, fields)
    if framing == "chunked":
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, "keep"
    if framing == "close":
        return head + b"\r\n" + body, "fin"
    if framing == "gzip":
        body, head = hostile._gzip_layers(1, body), head + b"Content-Encoding: gzip\r\n"
    return head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body), "keep"


def check_answer(reply, format, members):
    """Valid UTF-8 in any case, and JSON that keeps the contract where it is JSON."""
    assert reply.status == 200
    reply.body.decode("utf-8")
    fields = {"include": INCLUDE}
    if format == "json":
        contract.check(reply.body, members, fields)
    elif format == "ndjson":
        contract.ndjson(reply, members, fields)


@pytest.mark.parametrize("framing", ["length", "chunked", "close", "gzip"])
@pytest.mark.parametrize("place", ["reason", "name", "value", "type", "location", "body"])
def test_every_byte_in_an_answer(gatherd, origin, place, framing):
    members = []
    for byte in range(256):
        url = origin.raw("byte%d" % byte, *reply_with(place, byte, framing))
        members.append({"url": url, "max_redirects": byte % 2})
    for format in FORMATS:
        reply = gatherd.post({"requests": members, "include": INCLUDE}, "format=" + format)
        check_answer(reply, format, members)
    origin.unknown.clear()


# a client that leaves


def send_batch(daemon, members, format, include=()):
    body = json.dumps({"requests": members, "include": include}).encode()
    sock = daemon.connect()
    sock.sendall(
        b"POST /v1/batch?format=%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (format.encode(), len(body), body)
    )
    return sock


WAYS = ["/never", "/drip/100000/20", "/stall/after/10", "/weird/infinite-chunked"]


@pytest.mark.parametrize("format", FORMATS)
def test_client_leaves(spawn, origin, format):
    """Upstream connections are closed within 100 ms, and the slots are free."""
    daemon = spawn("limits.in_flight=20", "limits.per_host=20", "limits.response_bytes=1G")
    took = []
    for turn in range(proc.form(8, 200)):
        way = WAYS[turn % len(WAYS)]
        before = len(origin.seen)
        sock = send_batch(daemon, [origin.url("%s?n=%d" % (way, n)) for n in range(20)], format)
        assert origin.wait(lambda n=before + 20: len(origin.seen) == n and len(origin.busy()) == 20)
        carrying = origin.busy()
        start = time.monotonic()
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        assert origin.wait(lambda c=carrying: all(x.closed_at for x in c), 10 * proc.scale())
        took.append((max(c.fin_at for c in carrying) - start) * 1000)
        doc = daemon.batch([origin.url("/size/%d" % n) for n in range(20)])
        assert doc["counts"]["ok"] == 20 and doc["concurrency"]["peak"] >= 1
        values = daemon.metrics()
        assert values["gatherd_members_active"] == 0 and values["gatherd_members_queued"] == 0
    print("%s: closed after p50 %.1f worst %.1f ms" % (format, statistics.median(took), max(took)))
    assert statistics.median(took) <= 100 * proc.scale() and max(took) <= 1000 * proc.scale()


def test_blackhole_beside_floods(gatherd, origin):
    """A connect that nobody answers ends in time while others flood."""
    hole = origin_module.Blackhole()
    members = [{"url": "http://127.0.0.1:%d/" % hole.port, "connect_timeout_ms": 300}] * 10
    members += [{"url": origin.url("/weird/chunk-1-byte-endless"), "timeout_ms": 800}] * 10
    with proc.Starved(gatherd, own=False) as starved:
        results = gatherd.batch(members)["results"][:10]
    hole.close()
    assert {r["error"]["type"] for r in results} == {"connection_timeout"}
    late = [float(r["total_ms"]) - 300 for r in results]
    assert statistics.median(late) <= 50 * proc.scale() + min(starved.ms, 200) and min(late) >= 0
