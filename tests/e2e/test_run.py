# SPDX-License-Identifier: MIT
"""Life of the daemon: health, metrics, drain and abort, reload, its log."""
import contextlib
import json
import os
import re
import signal
import threading
import time

import pytest

from lib import contract, proc
from test_reading import LONG, is_reading, wait_until


def post_later(daemon, body, query=""):
    """Posts a batch in a thread; returns (thread, list that will hold the Reply)."""
    box = []
    thread = threading.Thread(target=lambda: box.append(daemon.post(body, query)), daemon=True)
    thread.start()
    return thread, box


def test_healthy_and_ready(gatherd):
    for path in ("/-/healthy", "/-/ready"):
        assert gatherd.get(path).status == 200


def test_metrics(gatherd, origin, refused):
    before = gatherd.metrics()
    gatherd.batch(
        [
            origin.url("/size/100"),
            origin.url("/size/100"),
            "http://127.0.0.1:%d/" % refused,
            "http://10.0.0.1/",
        ]
    )
    after = gatherd.metrics()

    def grown(name):
        return after[name] - before[name]

    assert grown("gatherd_batches_total") == 1
    assert grown('gatherd_members_total{state="done"}') == 2
    assert (
        grown('gatherd_members_total{state="failed"}') == 1
        and grown('gatherd_members_total{state="denied"}') == 1
    )
    assert grown('gatherd_member_errors_total{type="connection_refused"}') == 1
    assert grown("gatherd_fetch_delivered_bytes_total") == 200
    assert (
        after["gatherd_members_active"]
        == after["gatherd_members_queued"]
        == after["gatherd_batches_running"]
        == 0
    )
    assert any(name.startswith("gatherd_build_info{version=") for name in after)
    assert after["process_open_fds"] > 3 and after["process_start_time_seconds"] > 1.5e9


def test_gauges_while_running(gatherd, origin):
    thread, box = post_later(
        gatherd,
        {"requests": [origin.url("/gate/m/size/1?n=%d" % n) for n in range(5)], "concurrency": 2},
    )
    assert origin.wait(lambda: len(origin.seen) == 2)
    values = gatherd.metrics()
    assert (
        values["gatherd_batches_running"] == 1
        and values["gatherd_members_active"] == 2
        and values["gatherd_members_queued"] == 3
    )
    origin.release("m")
    thread.join(20)
    assert contract.check(box[0].body)["ok"] is True


def test_metrics_have_no_urls(gatherd, origin):
    gatherd.batch([origin.url("/size/1?a-very-special-word")])
    text = gatherd.get("/metrics").body
    assert b"a-very-special-word" not in text and b"/size/" not in text


@pytest.mark.parametrize("format", ["json", "ndjson"])
def test_drain_finishes_what_runs(spawn, origin, format):
    daemon = spawn()
    urls = [origin.url("/gate/d/size/5"), origin.url("/size/6")]
    thread, box = post_later(daemon, urls, "format=" + format)
    assert origin.wait(lambda: len(origin.seen) == 2)
    daemon.signal(signal.SIGTERM)
    wait_draining(daemon)
    reply = daemon.post([origin.url("/size/1")])
    problem = contract.problem(reply, 503)
    assert problem["detail"] and len(origin.seen) == 2
    assert daemon.get("/-/healthy").status == 200
    assert daemon.process.poll() is None
    origin.release("d")
    thread.join(20)
    if format == "json":
        assert contract.check(box[0].body, urls)["ok"] is True
    else:
        assert contract.ndjson(box[0], urls)[1]["ok"] is True
    assert daemon.wait_exit(10) == 0
    daemon.stop()


def wait_draining(daemon):
    deadline = time.monotonic() + 10
    while daemon.get("/-/ready").status != 503:
        assert time.monotonic() < deadline, "ready does not turn to 503"
        time.sleep(0.01)


def test_idle_daemon_stops_at_once(spawn):
    daemon = spawn()
    idle = daemon.connect()
    start = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_exit(10) == 0 and time.monotonic() - start < 3 * proc.scale()
    idle.close()


def test_sigint_is_a_stop_too(spawn):
    daemon = spawn()
    daemon.signal(signal.SIGINT)
    assert daemon.wait_exit(10) == 0


@pytest.mark.parametrize("format", ["json", "ndjson"])
def test_second_signal_aborts(spawn, origin, format):
    """What is known is answered, whole; exit 0."""
    daemon = spawn()
    urls = [origin.url("/never"), origin.url("/size/6"), origin.url("/never?2")]
    thread, box = post_later(daemon, urls, "format=" + format)
    assert origin.wait(lambda: len(origin.seen) == 3)
    daemon.signal(signal.SIGTERM)
    wait_draining(daemon)
    start = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_exit(15) == 0 and time.monotonic() - start < 5 * proc.scale()
    thread.join(10)
    if format == "json":
        doc = contract.check(box[0].body, urls)
        results, summary = doc["results"], doc
    else:
        results, summary = contract.ndjson(box[0], urls)
    assert [r["state"] for r in results] == ["cancelled", "done", "cancelled"] and summary[
        "complete"
    ] is False
    assert results[0]["error"]["type"] == "cancelled"


def all_but_a_byte(daemon, bodies, query=b""):
    """A connection for each body, of which the last byte is not sent; the daemon has all others."""
    socks = []
    line = b"POST /v1/batch%s HTTP/1.1\r\nHost: localhost\r\n" % query
    fields = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    for body in bodies:
        socks.append(daemon.connect())
        socks[-1].sendall(line + fields % len(body) + body[:-1])
    held, deadline = sum(map(len, bodies)) - len(bodies), time.monotonic() + 20 * proc.scale()
    while daemon.metrics()["gatherd_request_bytes"] != held:
        assert time.monotonic() < deadline, "bodies are not counted"
        time.sleep(0.01)
    return socks


def is_refused(data):
    reply = proc.parse_reply(data)
    return reply.status == 503 and "shutting down" in contract.problem(reply, 503)["detail"]


@pytest.mark.parametrize("format", ["json", "ndjson"])
def test_bodies_that_end_as_it_closes(spawn, origin, format):
    """The last bytes of many bodies are there when the time after the second signal is over, and some long
    ones were waiting to be read: gatherd is frozen until that is so. Whoever is answered is told why, and
    the end is a clean one."""
    daemon = spawn()
    long, short = origin.url("/never?" + "a" * 40000), origin.url("/never")  # the long one is read aside
    bodies = [LONG] * 4 + [json.dumps([url]).encode() for url in [long, short] * 20]
    socks = all_but_a_byte(daemon, bodies, b"?format=" + format.encode())
    for sock in socks[:4]:
        sock.sendall(b"]")
    wait_until(lambda: is_reading(daemon))
    for mode in ("drain", "abort"):
        daemon.signal(signal.SIGTERM)
        daemon.wait_log("mode=" + mode, 10 * proc.scale())
    time.sleep(0.05)  # it waits for events again
    daemon.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, daemon.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    for sock in socks[4:]:
        with contextlib.suppress(OSError):  # it was over before it was frozen
            sock.sendall(b"]")
    time.sleep(0.6)  # of the half second that clients have
    daemon.signal(signal.SIGCONT)
    assert daemon.wait_exit(20 * proc.scale()) == 0
    answers = [data for data in map(proc.read_all, socks) if data]
    print("%d of %d are told" % (len(answers), len(socks)))
    assert all(map(is_refused, answers)) and not origin.seen


def test_bodies_that_wait_are_refused_at_once(spawn):
    """One long body is being read, others wait for that: none of them is left without an answer."""
    daemon = spawn("policy.default.deny=127.0.0.1", "listener.default.body_timeout=60s", loopback=False)
    socks = all_but_a_byte(daemon, [LONG] * 5)
    for sock in socks:
        sock.sendall(LONG[-1:])
    wait_until(lambda: is_reading(daemon))
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("mode=drain", 10 * proc.scale())
    daemon.signal(signal.SIGTERM)
    answers = [proc.read_all(sock) for sock in socks]
    assert all(is_refused(data) or proc.parse_reply(data).status == 200 for data in answers)
    assert sum(map(is_refused, answers)) >= 3
    assert daemon.wait_exit(20 * proc.scale()) == 0


def test_drain_timeout_aborts(spawn, origin):
    daemon = spawn("daemon.drain_timeout=1s")
    thread, box = post_later(daemon, [origin.url("/never")])
    assert origin.wait(lambda: len(origin.seen) == 1)
    start = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_exit(15) == 0
    assert 0.9 <= time.monotonic() - start < 2.5 * proc.scale()
    thread.join(10)
    assert contract.check(box[0].body)["results"][0]["state"] == "cancelled"


def test_an_answer_that_is_not_read_is_cut_and_said(spawn, origin):
    daemon = spawn("daemon.drain_timeout=1s")
    body = json.dumps([origin.url("/size/9000000")] * 4).encode()
    head = b"POST /v1/batch?include=body HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with daemon.connect(30) as sock:
        sock.sendall(head % len(body) + body)
        assert sock.recv(13) == b"HTTP/1.1 200 "
        daemon.signal(signal.SIGTERM)
        assert daemon.wait_exit(15 * proc.scale()) == 0
    assert [line for line in daemon.log().splitlines() if "requests_cut=1" in line], daemon.tail()


def test_an_answer_that_is_read_meanwhile_is_not_cut(spawn, origin):
    daemon = spawn("daemon.drain_timeout=10s")
    thread, box = post_later(daemon, [origin.url("/delay/300/size/9000000")] * 4, "include=body")
    assert origin.wait(lambda: len(origin.seen) == 4)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_exit(15 * proc.scale()) == 0
    thread.join(10)
    assert contract.check(box[0].body, query="include=body")["counts"]["done"] == 4
    assert "requests_cut" not in daemon.log()


def test_log_has_one_line_a_batch_and_no_secrets(spawn, origin):
    daemon = spawn()
    daemon.batch(
        [
            {
                "url": origin.url("/size/1?key=hidden-query"),
                "headers": {"Authorization": "Bearer hidden-token"},
            },
            origin.url("/size/2"),
        ],
        headers={"X-Request-Id": "my-request-17"},
    )
    daemon.post("this is not json hidden-body")
    daemon.stop()
    text = daemon.log()
    assert not re.search("hidden-(query|token|body)", text)
    lines = [line for line in daemon.lines if re.search(r"\bbatch\b.*requests=2", line)]
    assert len(lines) == 1, text


def test_log_lines_cannot_be_forged(spawn, origin):
    daemon = spawn("daemon.log_level=debug")
    daemon.post(
        [{"url": origin.url("/size/1"), "id": "x\n2026-01-01T00:00:00Z error forged: line"}]
    )
    daemon.raw(
        b"GET /\x1b[31m HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\x1bb\r\nConnection: close\r\n\r\n"
    )
    daemon.stop()
    assert "\x1b" not in daemon.log() and not any(
        line.startswith("2026-01-01T00:00:00Z error") for line in daemon.lines
    )


def test_log_format_json(spawn, origin):
    daemon = spawn("daemon.log_format=json")
    daemon.one(origin.url("/size/1"))
    daemon.stop()
    assert daemon.lines and all(
        {"time", "level", "message"} <= set(json.loads(line)) for line in daemon.lines
    )
