# SPDX-License-Identifier: MIT
"""Deadlines, timeouts, cancellation: what is cut says how far it got, and gives its slot back."""
import json
import threading
import time

import pytest

from lib import contract, proc

NOISE_MS = 1500 * proc.scale()


def scaled(ms):
    """A time within which something has to happen that a slow build takes longer for."""
    return int(ms * proc.scale())


def in_time(doc, deadline_ms, starved):
    """gatherd cuts a batch a little earlier than asked, so that its answer is there in time."""
    return doc["total_ms"] <= deadline_ms + starved.ms + 50 * (proc.scale() - 1)


def later(function, *args, **more):
    """Runs function in a thread; returns (thread, list that will hold its value)."""
    box = []
    thread = threading.Thread(target=lambda: box.append(function(*args, **more)), daemon=True)
    thread.start()
    return thread, box


def is_timeout(result, phase=None):
    return (
        result["state"] == "failed"
        and result["error"]["type"] in contract.TIMEOUTS
        and (phase is None or result["error"]["phase"] == phase)
    )


# deadline_ms


def test_deadline_is_kept(gatherd, origin):
    members = [
        origin.url("/size/5"),
        origin.url("/never"),
        origin.url("/stall/after/100"),
        origin.url("/drip/1000/20"),
    ]
    deadline_ms, start = scaled(400), time.monotonic()
    with proc.Starved(gatherd, own=False) as starved:
        doc = gatherd.batch(members, deadline_ms=deadline_ms)
    took = (time.monotonic() - start) * 1000
    assert in_time(doc, deadline_ms, starved)
    assert deadline_ms - 20 <= took <= deadline_ms + NOISE_MS
    assert doc["complete"] is False and doc["counts"]["cancelled"] == 3 and doc["counts"]["ok"] == 1
    fast, never, stall, drip = doc["results"]
    assert fast["ok"] is True
    for result in (never, stall, drip):
        assert result["state"] == "cancelled" and result["error"]["type"] == "deadline_exceeded"
        assert result["error"]["sent"] is True and result["retryable"] is True
        assert result["total_ms"] >= 0.75 * deadline_ms
    assert never["error"]["phase"] == "wait" and never["status"] is None
    assert (
        stall["error"]["phase"] == "receive"
        and stall["status"] == 200
        and stall["size_delivered"] == 100
    )
    assert drip["error"]["phase"] == "receive"
    assert 0 < drip["size_delivered"] <= 25 * proc.scale()


def test_deadline_cuts_the_queue(gatherd, origin):
    urls = [origin.url("/never"), origin.url("/size/1"), origin.url("/size/2")]
    with proc.Starved(gatherd, own=False) as starved:
        doc = gatherd.batch(urls, deadline_ms=300, concurrency=1)
    assert in_time(doc, 300, starved)
    assert [r["state"] for r in doc["results"]] == ["cancelled"] * 3
    for result in doc["results"][1:]:
        assert result["error"]["phase"] == "queue" and result["error"]["sent"] is False
        assert result["total_ms"] is None and result["started_at"] is None
        assert 250 <= result["timings_ms"]["queue"] <= doc["total_ms"]
    assert len(origin.seen) == 1
    assert doc["retry"] is None or len(doc["retry"]["requests"]) == 3


def test_deadline_cuts_upstream_connections(gatherd, origin):
    gatherd.batch([origin.url("/never?n=%d" % n) for n in range(20)], deadline_ms=200)
    assert origin.wait(lambda: not [c for c in origin.connections if c.closed_at is None], 5)


def test_deadline_in_dns_and_connect(gatherd, origin, dns, blackhole):
    dns.add("dead.time.test", silent=True)
    urls = ["http://dead.time.test/", "http://127.0.0.1:%d/" % blackhole]
    with proc.Starved(gatherd, own=False) as starved:
        doc = gatherd.batch(urls, deadline_ms=scaled(300))
    first, second = doc["results"]
    assert first["state"] == second["state"] == "cancelled"
    assert in_time(doc, scaled(300), starved)
    assert first["error"]["phase"] == "dns" and second["error"]["phase"] == "connect"
    assert not first["error"]["sent"] and not second["error"]["sent"]


def test_deadline_with_ndjson(gatherd, origin):
    members = [origin.url("/size/5"), origin.url("/never")]
    results, summary = contract.ndjson(
        gatherd.post({"requests": members, "deadline_ms": scaled(400)}, "format=ndjson"), members
    )
    assert [r["state"] for r in results] == ["done", "cancelled"] and summary["complete"] is False


def test_deadline_of_a_large_batch(gatherd, origin):
    start = time.monotonic()
    with proc.Starved(gatherd, own=False) as starved:
        doc = gatherd.batch([origin.url("/never?n=%d" % n) for n in range(3000)], deadline_ms=500)
    took = (time.monotonic() - start) * 1000
    assert doc["total_ms"] <= 500 * proc.scale() + starved.ms and took <= 500 + 2 * NOISE_MS
    assert doc["counts"]["cancelled"] == 3000


# member timeouts


def test_timeout(gatherd, origin):
    doc = gatherd.batch(
        [
            {"url": origin.url("/never"), "timeout_ms": 200},
            {"url": origin.url("/stall/after/10"), "timeout_ms": scaled(500)},
            {"url": origin.url("/delay/50/size/1"), "timeout_ms": scaled(5000)},
        ]
    )
    head, body, good = doc["results"]
    assert is_timeout(head, "wait") and 195 <= head["total_ms"] <= 200 + NOISE_MS
    assert (
        is_timeout(body, "receive")
        and scaled(500) - 5 <= body["total_ms"] <= scaled(500) + NOISE_MS
        and body["size_delivered"] == 10
    )
    assert good["ok"] is True and doc["counts"]["timed_out"] == 2 and doc["complete"] is True


def test_timeout_does_not_run_in_the_queue(gatherd, origin):
    path = "/delay/%d/size/1?n=" % scaled(300)
    members = [{"url": origin.url(path + str(n)), "timeout_ms": scaled(1000)} for n in range(5)]
    doc = gatherd.batch(members, concurrency=1)
    assert doc["counts"]["ok"] == 5, doc["errors"]
    assert doc["results"][4]["timings_ms"]["queue"] >= 4 * scaled(300) - 10


def test_connect_timeout(gatherd, origin, blackhole):
    result = gatherd.one({"url": "http://127.0.0.1:%d/" % blackhole, "connect_timeout_ms": 200})
    assert is_timeout(result, "connect") and result["error"]["type"] == "connection_timeout"
    assert 195 <= result["total_ms"] <= 200 + NOISE_MS and result["error"]["sent"] is False


def test_timeout_covers_connecting(gatherd, blackhole):
    result = gatherd.one(
        {"url": "http://127.0.0.1:%d/" % blackhole, "connect_timeout_ms": 5000, "timeout_ms": 200}
    )
    assert is_timeout(result, "connect") and 195 <= result["total_ms"] <= 200 + NOISE_MS


def test_connect_timeout_covers_dns(gatherd, dns):
    dns.add("dead2.time.test", silent=True)
    result = gatherd.one({"url": "http://dead2.time.test/", "connect_timeout_ms": 200})
    assert is_timeout(result, "dns") and result["error"]["type"] == "dns_timeout"
    assert 195 <= result["total_ms"] <= 200 + NOISE_MS


def test_connect_timeout_does_not_cut_a_slow_answer(gatherd, origin):
    assert (
        gatherd.one({"url": origin.url("/delay/300/size/1"), "connect_timeout_ms": 100})["ok"]
        is True
    )


def test_queue_timeout(gatherd, origin):
    members = [
        origin.url("/gate/q/size/1"),
        {"url": origin.url("/size/2"), "queue_timeout_ms": 100},
        origin.url("/size/3"),
    ]
    thread, box = later(gatherd.batch, members, concurrency=1)
    assert origin.wait(lambda: len(origin.seen) == 1)
    time.sleep(0.3)  # the waiting itself is what is tested
    origin.release("q")
    thread.join(20)
    first, second, third = box[0]["results"]
    assert first["ok"] and third["ok"]
    assert second["error"]["type"] == "queue_timeout" and second["error"]["phase"] == "queue"
    assert (
        second["state"] == "failed"
        and second["total_ms"] is None
        and second["error"]["sent"] is False
    )
    assert 95 <= second["timings_ms"]["queue"] <= 100 + NOISE_MS
    assert len(origin.seen) == 2


# stop_on_error, cancellation


def test_stop_on_error(gatherd, origin):
    """Of one upstream, whose members start in the order asked."""
    members = [origin.url(path) for path in ("/size/1", "/reset", "/size/2", "/size/3")]
    doc = gatherd.batch(members, concurrency=1, stop_on_error=True)
    assert [r["state"] for r in doc["results"]] == ["done", "failed", "cancelled", "cancelled"]
    assert all(r["error"]["type"] == "cancelled" for r in doc["results"][2:])
    assert doc["complete"] is False
    assert {s.target for s in origin.seen} == {"/size/1", "/reset"}


def test_stop_on_error_cancels_what_runs(gatherd, origin, refused):
    members = [
        origin.url("/never"),
        {"url": origin.url("/delay/100/reset")},
        origin.url("/never?2"),
    ]
    start = time.monotonic()
    doc = gatherd.batch(members, stop_on_error=True)
    assert (time.monotonic() - start) * 1000 < 100 + NOISE_MS
    assert [r["state"] for r in doc["results"]] == ["cancelled", "failed", "cancelled"]
    assert (
        doc["results"][0]["error"]["phase"] == "wait" and doc["results"][0]["error"]["sent"] is True
    )
    assert origin.wait(lambda: not [c for c in origin.connections if c.closed_at is None], 5)


def test_without_stop_on_error_all_run(gatherd, origin, refused):
    doc = gatherd.batch(["http://127.0.0.1:%d/" % refused, origin.url("/size/1")], concurrency=1)
    assert [r["state"] for r in doc["results"]] == ["failed", "done"] and doc["complete"] is True


@pytest.mark.parametrize("format", ["json", "ndjson", "text"])
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_client_gone(gatherd, origin, format, how, record_property):
    """The client hangs up: the upstream connections are closed at once (promised: 100 ms), and it is
    counted."""
    gone = gatherd.metrics()["gatherd_batches_client_gone_total"]
    body = json.dumps([origin.url("/never?n=%d" % n) for n in range(20)]).encode()
    sock = gatherd.connect()
    sock.sendall(
        b"POST /v1/batch?format=%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % (format.encode(), len(body)) + body
    )
    # Kept connections of earlier tests may carry these requests; all that are open now must go.
    assert origin.wait(lambda: len(origin.seen) == 20 and len(origin.busy()) == 20)
    carrying = origin.busy()
    if how == "rst":
        import socket
        import struct

        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    left = time.monotonic()
    sock.close()
    assert origin.wait(lambda: all(c.closed_at for c in carrying), 10)
    worst = max(c.fin_at for c in carrying) - left
    record_property("cancelled_after_ms", round(worst * 1000, 1))
    print("upstream cancelled after %.1f ms" % (worst * 1000))
    assert worst < 1.0 * proc.scale()
    assert gatherd.one(origin.url("/size/1"))["ok"] is True
    assert gatherd.metrics()["gatherd_batches_client_gone_total"] == gone + 1


def test_client_gone_while_queued(gatherd, origin):
    """Nothing of the batch is sent any more."""
    body = json.dumps(
        {"requests": [origin.url("/gate/one/size/1?n=%d" % n) for n in range(50)], "concurrency": 1}
    ).encode()
    sock = gatherd.connect()
    sock.sendall(
        b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    assert origin.wait(lambda: len(origin.seen) == 1)
    sock.close()
    assert origin.wait(lambda: not origin.busy())
    origin.release("one")
    assert gatherd.one(origin.url("/size/7"))["ok"] is True
    assert len(origin.seen) == 2
    assert (
        gatherd.metrics()["gatherd_members_active"] == 0
        and gatherd.metrics()["gatherd_members_queued"] == 0
    )


def test_slots_come_back(spawn, origin):
    """A daemon with two slots serves on after every way in which a member can end."""
    daemon = spawn("limits.in_flight=2", "limits.per_host=2")
    for path in ("/size/1", "/reset", "/weird/garbage", "/redirect/20/to/size/1", "/cut/after/3"):
        daemon.batch([origin.url(path)] * 4)
    daemon.batch([origin.url("/never")] * 4, deadline_ms=100)
    daemon.batch([{"url": origin.url("/never"), "timeout_ms": 50}] * 4)
    doc = daemon.batch([origin.url("/size/%d" % n) for n in range(10)])
    assert doc["counts"]["ok"] == 10 and doc["concurrency"]["peak"] <= 2


# concurrency


def test_concurrency_is_held(gatherd, origin):
    for limit in (1, 3, 10):
        doc = gatherd.batch(
            [origin.url("/delay/20/size/1?n=%d" % n) for n in range(20)], concurrency=limit
        )
        assert doc["concurrency"]["limit"] == limit and doc["concurrency"]["peak"] == limit


def test_concurrency_per_host(gatherd, origin):
    other = origin.listen()
    members = [origin.url("/delay/60/size/1?n=%d" % n) for n in range(6)] + [
        origin.url("/delay/60/size/1?m=%d" % n, port=other) for n in range(6)
    ]
    doc = gatherd.batch(members, concurrency_per_host=2)
    assert doc["counts"]["ok"] == 12 and doc["concurrency"]["peak"] == 4
    spans = [
        (r["start_offset_ms"], r["start_offset_ms"] + r["total_ms"], r["url"].split("/")[2])
        for r in doc["results"]
    ]
    for start, _, host in spans:
        assert sum(1 for s, e, h in spans if h == host and s <= start < e) <= 2


def test_one_after_the_other_keeps_the_order(gatherd, origin):
    urls = [origin.url("/size/%d" % n) for n in range(30)]
    doc = gatherd.batch(urls, concurrency=1)
    assert [s.target for s in origin.seen] == ["/size/%d" % n for n in range(30)]
    starts = [r["start_offset_ms"] for r in doc["results"]]
    assert starts == sorted(starts)


def test_per_host_limit_of_the_daemon(spawn, origin):
    daemon = spawn("limits.per_host=3")
    doc = daemon.batch([origin.url("/delay/40/size/1?n=%d" % n) for n in range(9)])
    assert doc["counts"]["ok"] == 9 and doc["concurrency"]["peak"] == 3


def test_a_value_above_a_daemon_limit_is_lowered(spawn, origin):
    daemon = spawn("limits.in_flight=4", "limits.per_host=4")
    doc = daemon.batch(
        [origin.url("/delay/20/size/1?n=%d" % n) for n in range(8)],
        concurrency=50,
        concurrency_per_host=50,
    )
    assert doc["concurrency"]["limit"] == 4 and doc["concurrency"]["peak"] == 4


# truncation


@pytest.mark.parametrize(
    "path",
    [
        "/size/100000",
        "/chunked/100000",
        "/gzip/size/100000",
        "/gzip/bomb/5000000",
        "/infinite",
        "/close-delimited/size/100000",
    ],
)
def test_truncation(gatherd, origin, path):
    doc = gatherd.batch([{"url": origin.url(path), "max_response_bytes": 1000}], include=["body"])
    result = doc["results"][0]
    assert (
        result["state"] == "done"
        and result["ok"] is True
        and result["truncated"] is True
        and result["error"] is None
    )
    assert result["size_delivered"] == 1000 and len(result["body"]) == 1000
    assert doc["complete"] is True


def test_exactly_the_limit_is_not_truncated(gatherd, origin):
    for path in ("/size/1000", "/chunked/1000", "/gzip/size/1000"):
        result = gatherd.one({"url": origin.url(path), "max_response_bytes": 1000})
        assert result["truncated"] is False and result["size_delivered"] == 1000
    assert (
        gatherd.one({"url": origin.url("/size/1001"), "max_response_bytes": 1000})["truncated"]
        is True
    )


def test_daemon_wide_response_limit(spawn, origin):
    daemon = spawn("limits.response_bytes=5000")
    result = daemon.one(origin.url("/infinite"))
    assert result["truncated"] is True and result["size_delivered"] == 5000


def test_bombs_are_bounded_in_memory(spawn, origin):
    """Ten bombs of 100 MB each in flight: the daemon's peak stays near the caps."""
    daemon = spawn()
    doc = daemon.batch(
        [
            {"url": origin.url("/gzip/bomb/100000000?n=%d" % n), "max_response_bytes": 100000}
            for n in range(10)
        ],
        include=["body"],
    )
    assert all(r["truncated"] for r in doc["results"])
    with open("/proc/%d/status" % daemon.pid, encoding="ascii") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    assert peak < 100000 * proc.scale(), "%d kB" % peak
