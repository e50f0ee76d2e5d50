# SPDX-License-Identifier: MIT
"""Warm connections, fairness between batches, and batches of ten thousand."""
import json
import threading
import time

import pytest

from lib import contract, proc


def test_connections_are_reused_across_batches(gatherd, origin):
    for turn in range(10):
        doc = gatherd.batch([origin.url("/size/%d" % n) for n in range(5)], concurrency=5)
        assert doc["counts"]["ok"] == 5
        if turn == 0:
            assert 0 <= origin.accepted <= 5
            warm = origin.accepted
    assert origin.accepted == warm
    assert doc["counts"]["reused_connections"] == 5


def test_connections_are_counted_as_they_come_about(spawn, origin, refused):
    """The metric counts what num_connects counts: those that stood, also when TLS failed on them."""
    daemon = spawn()
    urls = ["http://127.0.0.1:%d/" % refused] * 3
    urls += [origin.url("/size/%d" % n) for n in range(4)]
    urls += [origin.url("/", port=origin.listen("garbage"), scheme="https")] * 2
    doc = daemon.batch(urls, concurrency=1)
    assert [r["num_connects"] for r in doc["results"]] == [0] * 3 + [1, 0, 0, 0] + [1] * 2
    metrics = daemon.metrics()
    assert metrics["gatherd_fetch_connects_total"] == 3
    assert metrics["gatherd_fetch_reused_total"] == 3


def test_kept_connection_that_the_upstream_closed(gatherd, origin):
    """The upstream restarts between two batches; nobody notices."""
    gatherd.batch([origin.url("/size/%d" % n) for n in range(5)])
    for _ in range(5):
        origin.close_all()
        doc = gatherd.batch([origin.url("/size/%d" % n) for n in range(5)])
        assert doc["counts"]["ok"] == 5, doc["errors"]


def test_post_is_never_sent_twice(gatherd, origin):
    """A kept connection dies as a POST is written to it: an error that says so, or one arrival."""
    for turn in range(20):
        gatherd.one(origin.url("/size/1"))
        result = gatherd.one(
            {"url": origin.url("/close-after/reset?turn=%d" % turn), "body": "pay"}
        )
        assert len(origin.requests("/close-after/reset?turn=%d" % turn)) == 1
        assert result["state"] == "failed" and result["error"]["sent"] is True


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("end", ["rst", "fin", "cut"])
def test_all_kept_connections_are_dead(spawn, origin, authority, end, tls):
    """More of them than libcurl tries, which is six: it is sent again once, on a new one."""
    port = origin.listen(tls=authority.context("good")) if tls else origin.port
    daemon = spawn("daemon.loops=1", "fetch.ca_file=" + authority.ca_file)

    def member(path):
        url = origin.url(path, port=port, scheme="https" if tls else "http")
        return {"url": url, "http_version": "1.1"}

    filling = daemon.batch([member("/delay/100/size/%d" % n) for n in range(9)])
    assert [r["num_connects"] for r in filling["results"]] == [1] * 9
    result = daemon.one(member("/kept/%s/size/7" % end))
    assert (result["status"], result["num_retries"], result["num_connects"]) == (200, 1, 1), result
    again = daemon.one(member("/size/5"))  # and that one is kept
    assert (again["status"], again["num_connects"]) == (200, 0)


def test_dead_kept_connections_are_counted_for_each_member(spawn, origin):
    """libcurl sends again when a kept connection is dead, and counts that over the life of a handle: the
    sixth such member must not suffer for the five before."""
    daemon = spawn("daemon.loops=1", "limits.in_flight=1", "limits.per_host=1")
    paths = ["/size/1", "/reset"] * 8
    doc = daemon.batch([origin.url(path) for path in paths], concurrency=1)
    kept, dead = doc["results"][::2], doc["results"][1::2]
    assert all(r["ok"] for r in kept)
    assert {(r["error"]["type"], r["num_retries"]) for r in dead} == {("connection_terminated", 1)}
    assert not [r for r in dead if "giving up" in r["error"]["message"]]


def test_upstream_that_closes_each_time(gatherd, origin):
    doc = gatherd.batch([origin.url("/close-after/size/%d" % n) for n in range(30)])
    assert doc["counts"]["ok"] == 30 and origin.accepted >= 30 - 5


def test_idle_connections_are_closed(spawn, origin):
    daemon = spawn("fetch.idle_time=1s")
    daemon.batch([origin.url("/size/%d" % n) for n in range(5)])
    assert origin.wait(
        lambda: not [c for c in origin.connections if c.closed_at is None], 8 * proc.scale()
    )


def test_idle_connections_are_bounded(spawn, origin):
    daemon = spawn("fetch.idle_connections=10", "limits.in_flight=100")
    daemon.batch([origin.url("/delay/30/size/1?n=%d" % n) for n in range(60)], concurrency=60)
    daemon.batch([origin.url("/size/1")])
    assert daemon.descriptors()["pool"] <= 60


def test_full_cache_keeps_what_is_worth_more(spawn, origin):
    """With as many idle connections as may be: that of a host which nobody else asks, and one that had
    to be new beside another, are closed after use, and push out none."""
    daemon = spawn("daemon.loops=1", "fetch.idle_connections=4")
    ports = [origin.listen() for _ in range(6)]
    for port in ports[:5]:  # one more than idle_connections: the most that ran at a time
        daemon.one(origin.url("/size/1", port=port))
    kept = list(origin.connections)
    daemon.one(origin.url("/size/1", port=ports[5]))
    daemon.one({"url": origin.url("/size/1", port=ports[0]), "fresh_connection": True})
    assert origin.accepted == 7
    assert origin.wait(lambda: all(c.closed_at is not None for c in origin.connections[5:]), 8)
    assert all(c.closed_at is None for c in kept)
    for port in ports[:5]:
        daemon.one(origin.url("/size/1", port=port))
    assert origin.accepted == 7


def test_identical_urls_are_each_fetched(gatherd, origin):
    doc = gatherd.batch([origin.url("/size/9")] * 20)
    assert doc["counts"]["ok"] == 20 and origin.paths()["/size/9"] == 20


def test_small_batch_is_not_starved(spawn, origin):
    """Two URLs posted while two thousand wait: done long before them."""
    daemon = spawn("limits.in_flight=20", "limits.per_host=20")
    body = {
        "requests": [origin.url("/delay/20/size/1?n=%d" % n) for n in range(2000)],
        "concurrency": 20,
    }
    box = []
    thread = threading.Thread(target=lambda: box.append(daemon.post(body)))
    thread.start()
    assert origin.wait(lambda: len(origin.seen) > 100)
    small = daemon.batch([origin.url("/delay/20/size/2?n=%d" % n) for n in range(2)])
    assert not box, "the large batch was faster"
    seen_by_then = len(origin.seen)
    thread.join(60)
    large = contract.check(box[0].body, body["requests"])
    assert large["ok"] is True and small["ok"] is True
    assert seen_by_then < 1200 and small["total_ms"] < large["total_ms"] / 3


def test_batches_side_by_side(gatherd, origin):
    """Sixteen clients at once; each gets its own answers."""
    faults = []

    def client(number):
        try:
            for turn in range(5):
                sizes = [number * 100 + turn * 10 + n for n in range(10)]
                doc = gatherd.batch([origin.url("/size/%d" % size) for size in sizes])
                assert [r["size_delivered"] for r in doc["results"]] == sizes
        except Exception as fault:  # reported below, in the test's own thread
            faults.append(fault)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults, faults[0]


def test_ten_thousand_in_order(gatherd, origin, record_property):
    urls = [origin.url("/size/%d?n=%d" % (n % 97, n)) for n in range(10000)]
    start = time.monotonic()
    reply = gatherd.post({"requests": urls, "concurrency": 100})
    took = time.monotonic() - start
    record_property("seconds", round(took, 2))
    print("10,000 URLs in %.2f s" % took)
    doc = contract.check(reply.body, urls)
    assert doc["counts"]["ok"] == 10000 and [r["url"] for r in doc["results"]] == urls
    assert [r["size_delivered"] for r in doc["results"]] == [n % 97 for n in range(10000)]
    assert len(origin.seen) == 10000 and origin.accepted <= 110


def test_ten_thousand_as_ndjson(gatherd, origin):
    members = [{"url": origin.url("/size/3?n=%d" % n), "id": "m%d" % n} for n in range(10000)]
    results, summary = contract.ndjson(gatherd.post(members, "format=ndjson"), members)
    assert summary["counts"]["ok"] == 10000 and [r["id"] for r in results] == [
        "m%d" % n for n in range(10000)
    ]


def test_ten_thousand_refused_at_once(gatherd, refused):
    doc = gatherd.batch(["http://127.0.0.1:%d/%d" % (refused, n) for n in range(10000)])
    assert doc["errors"] == {"connection_refused": 10000}


def test_ten_thousand_denied(gatherd):
    doc = gatherd.batch(["http://10.%d.%d.1/" % (n // 256, n % 256) for n in range(10000)])
    assert doc["counts"]["denied"] == 10000


def test_slow_ndjson_reader_holds_the_launches(gatherd, origin):
    """Nothing is launched while the client has 1 MiB unread: a reader that stops stops the batch."""
    members = [origin.url("/size/20000?n=%d" % n) for n in range(1500)]
    body = json.dumps({"requests": members, "include": ["body"], "concurrency": 10}).encode()
    with gatherd.connect(60) as sock:
        sock.sendall(
            b"POST /v1/batch?format=ndjson HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
        )
        before = -1
        deadline = time.monotonic() + 20
        while before != len(origin.seen) and time.monotonic() < deadline:
            before = len(origin.seen)
            origin.wait(lambda: len(origin.seen) > before, 1.0)
        assert len(origin.seen) < 1000, "the batch ran on without a reader"
        resumed = time.monotonic()
        with proc.Starved(gatherd) as starved:
            reply = proc.parse_reply(proc.read_all(sock))
    took, slack = time.monotonic() - resumed, min(starved.ms / 1000, 3)
    print("read on in %.2f s" % took)
    assert took < 3 * proc.scale() + slack, "the batch goes on late after the reader came back"
    results, summary = contract.ndjson(reply, members, {"include": ["body"]})
    assert summary["counts"]["ok"] == 1500 and len(results) == 1500
