# SPDX-License-Identifier: MIT
"""Descriptors run out: with 64, 128 or 256 of them and many times as many clients and URLs the daemon does
not spin, loses no answer, and is as before within a second when the pressure ends."""
import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import threading
import time

import pytest

from lib import contract, failing, proc

LIMITS = proc.form((64, 256), (64, 128, 256))
CROWD = proc.form(400, 2000)
STARVED_S = proc.form(1.5, 5.0)


@pytest.fixture(autouse=True)
def many_sockets():
    """The tests' own limit: a client a socket, and the origin's side of the upstream connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 8192:
        pytest.skip("RLIMIT_NOFILE is %d at most" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def limited(spawn):
    def start(limit, *options):
        return spawn(
            "limits.clients=4000",
            "listener.default.head_timeout=60s",
            *options,
            wrapper=("prlimit", "--nofile=%d:%d" % (limit, limit)),
            allow_log=("descriptor", "Too many open files"),
        )

    return start


def share_of_a_core(daemon, seconds):
    before, start = daemon.cpu_s(), time.monotonic()
    time.sleep(seconds)
    return (daemon.cpu_s() - before) / (time.monotonic() - start)


def time_to_serve(daemon, origin):
    """How long until a batch is answered as if nothing had been, without what a busy machine adds."""
    start, served = time.monotonic(), False
    with proc.Starved(daemon) as starved:
        while not served:
            with contextlib.suppress(OSError):
                reply = daemon.post([origin.url("/size/5")], timeout=20)
                served = reply.status == 200 and reply.json()["ok"]
            assert time.monotonic() - start < 20, "does not recover"
            time.sleep(0 if served else 0.01)
    return time.monotonic() - start - starved.ms / 1000


@pytest.mark.parametrize("limit", LIMITS)
def test_a_crowd_of_idle_clients(limited, origin, limit):
    """They hold every descriptor there is, and more wait to be accepted."""
    daemon = limited(limit)
    crowd = [daemon.connect() for _ in range(CROWD)]
    time.sleep(0.3)
    share = share_of_a_core(daemon, STARVED_S)
    for sock in crowd:
        sock.close()
    took = time_to_serve(daemon, origin)
    print("limit %d: %.0f %% of a core, served after %.3f s" % (limit, share * 100, took))
    assert share < 0.3 and took <= 1.0 * proc.scale()


async def ask(port, body, replies):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += "Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    writer.write(head.encode() + body)
    try:
        replies.append(await reader.read())
    finally:
        writer.close()


async def crowd_asks(daemon, bodies):
    replies = []
    await asyncio.gather(
        *(ask(daemon.port, body, replies) for body in bodies), return_exceptions=True
    )
    return replies


@pytest.mark.parametrize("limit", LIMITS)
def test_a_crowd_with_a_batch_each(limited, origin, limit):
    """No answer is lost: each has all its members, done, or the word that it is to come later."""
    daemon = limited(limit)
    ports = [origin.port] + [origin.listen() for _ in range(7)]
    bodies = [
        json.dumps([origin.url("/delay/20/size/9?n=%d" % n, port=ports[(n + k) % 8]) for k in range(2)])
        for n in range(CROWD)
    ]
    before, start = daemon.cpu_s(), time.monotonic()
    replies = asyncio.run(crowd_asks(daemon, [body.encode() for body in bodies]))
    took, cpu = time.monotonic() - start, daemon.cpu_s() - before
    states, statuses = {}, {}
    for data in replies:
        reply = proc.parse_reply(data)
        statuses[reply.status] = statuses.get(reply.status, 0) + 1
        if reply.status != 200:
            contract.problem(reply, 503)
            continue
        for result in contract.check(reply.body)["results"]:
            what = result["error"]["type"] if result["error"] else result["state"]
            states[what] = states.get(what, 0) + 1
    print("limit %d: %d replies %r %r, %.2f s, CPU %.2f s" % (limit, len(replies), statuses, states, took, cpu))
    assert len(replies) == CROWD
    assert set(states) == {"done"}
    assert time_to_serve(daemon, origin) <= 1.0 * proc.scale()


@pytest.mark.parametrize("limit", LIMITS)
def test_a_batch_with_more_urls_than_descriptors(limited, origin, limit):
    daemon = limited(limit, "limits.in_flight=1000", "limits.per_host=1000")
    ports = [origin.port] + [origin.listen() for _ in range(15)]
    urls = [origin.url("/delay/50/size/9?n=%d" % n, port=ports[n % 16]) for n in range(CROWD)]
    before, start = daemon.cpu_s(), time.monotonic()
    document = daemon.batch(urls, concurrency=1000)
    took, cpu = time.monotonic() - start, daemon.cpu_s() - before
    print("limit %d: %r %r, %.2f s, CPU %.2f s" % (limit, document["counts"], document["errors"], took, cpu))
    assert document["counts"]["ok"] == CROWD
    assert time_to_serve(daemon, origin) <= 1.0 * proc.scale()


@pytest.mark.parametrize("limit", LIMITS)
def test_waiting_for_upstreams_does_not_spin(limited, origin, limit):
    """All that can be in flight hangs; more clients and URLs wait behind."""
    daemon = limited(limit, "limits.in_flight=1000", "limits.per_host=1000")
    urls = [origin.url("/gate/g/size/9?n=%d" % n) for n in range(CROWD)]
    crowd = []
    for n in range(CROWD):
        sock = daemon.connect()
        body = json.dumps([urls[n]]).encode()
        sock.sendall(
            b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        crowd.append(sock)
    time.sleep(0.5)
    share = share_of_a_core(daemon, STARVED_S)
    origin.release("g")
    start, states = time.monotonic(), {}
    for sock in crowd:
        reply = proc.parse_reply(proc.read_all(sock))
        sock.close()
        assert reply.status == 200, reply
        result = reply.json()["results"][0]
        what = result["error"]["type"] if result["error"] else result["state"]
        states[what] = states.get(what, 0) + 1
    took = time.monotonic() - start
    again = time_to_serve(daemon, origin)
    print("limit %d: %.0f %% of a core, %r in %.2f s, then %.3f s" % (limit, share * 100, states, took, again))
    assert share < 0.3 and again <= 1.0 * proc.scale()
    assert set(states) == {"done"}


def lower_to_what_is_open(daemon, more=0):
    """From now on it gets no descriptor beyond those it has, and so many more."""
    opened = [int(name) for name in os.listdir("/proc/%d/fd" % daemon.pid)]
    limit = max(opened) + 1 + more
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, limit))


def times_said(daemon):
    return sum("no descriptor left for a connection" in line for line in daemon.lines)


def test_idle_connections_of_another_policy_give_theirs_up(spawn, origin):
    """Whoever has the descriptors: another policy, or another loop."""
    daemon = spawn("listener.b.bind=127.0.0.1:0", "listener.b.policy=other", "policy.other.allow=127.0.0.1")
    urls = [origin.url("/size/9", port=origin.listen()) for _ in range(40)]
    first = daemon.port
    second = int(daemon.wait_log(r"listening address=127.0.0.1:(?!%d\b)(\d+)" % first).group(1))
    assert daemon.batch(urls)["counts"]["ok"] == 40
    time.sleep(0.1)
    lower_to_what_is_open(daemon, 4)
    daemon.port = second
    document = daemon.batch(urls)
    assert document["counts"]["ok"] == 40, document["errors"]
    daemon.port = first
    assert daemon.batch(urls)["counts"]["ok"] == 40
    assert 1 <= times_said(daemon) <= max(daemon.loops, 1)


def test_members_wait_for_descriptors_of_others(spawn, origin):
    """All are in use: a member waits, without a busy loop, until somebody gives one back."""
    daemon = spawn()
    ports = [origin.listen() for _ in range(8)]
    replies = []

    def ask(path):
        replies.append(daemon.batch([origin.url(path, port=port) for port in ports]))

    hanging = threading.Thread(target=ask, args=("/gate/g/size/9",))
    hanging.start()
    assert origin.wait(lambda: len(origin.seen) == 8)
    lower_to_what_is_open(daemon, 2)  # for the one who asks
    waiting = threading.Thread(target=ask, args=("/size/10",))
    waiting.start()
    daemon.wait_log("no descriptor left for a connection", 10 * proc.scale())
    share = share_of_a_core(daemon, STARVED_S)
    print("%.0f %% of a core" % (share * 100))
    assert share < 0.3 and not replies and len(origin.seen) < 16
    origin.release("g")
    for thread in (hanging, waiting):
        thread.join(30 * proc.scale())
    assert [reply["counts"]["ok"] for reply in replies] == [8, 8]
    assert times_said(daemon) <= max(daemon.loops, 1)


def test_queue_timeout_ends_a_wait_for_descriptors(spawn, origin):
    """However often it is tried meanwhile."""
    daemon = spawn()
    ports = [origin.listen() for _ in range(8)]
    hanging = threading.Thread(
        target=daemon.batch, args=([origin.url("/gate/g/size/9", port=port) for port in ports],)
    )
    hanging.start()
    assert origin.wait(lambda: len(origin.seen) == 8)
    lower_to_what_is_open(daemon, 2)  # for the one who asks
    member = {"queue_timeout_ms": 500, "timeout_ms": 2000}
    document = daemon.batch([dict(member, url=origin.url("/never", port=port)) for port in ports])
    origin.release("g")
    hanging.join(30 * proc.scale())
    waited = [r for r in document["results"] if r["error"]["type"] == "queue_timeout"]
    assert len(waited) >= 6  # one or two had what was left
    assert all(result["timings_ms"]["queue"] >= 250 for result in waited)  # the rest were tries
    assert document["total_ms"] < 20000 * proc.scale()
    assert times_said(daemon) >= 1


@pytest.fixture
def configured(tmp_path, base_options):
    """Starts a daemon under limits (soft, hard), configured by a file that `write` makes anew."""
    conf, running = tmp_path / "gatherd.conf", []

    def write(more="", **limits):
        lines = "".join("%s = %d\n" % pair for pair in limits.items())
        conf.write_text("[policy default]\nallow = 127.0.0.1\n[limits]\n" + lines + more)

    def start(soft, hard, env=None, **limits):
        write(**limits)
        daemon = proc.Gatherd(
            *base_options, args=("-c", str(conf)), wrapper=("prlimit", "--nofile=%d:%d" % (soft, hard)), env=env
        )
        daemon.write = write
        running.append(daemon)
        return daemon

    yield start
    for daemon in running:
        try:
            daemon.stop()
        finally:
            daemon.kill()


def reload(daemon, more="", **limits):
    before = len([line for line in daemon.lines if " reloaded" in line])
    daemon.write(more, **limits)
    daemon.signal(signal.SIGHUP)
    deadline = time.monotonic() + 10 * proc.scale()
    while len([line for line in daemon.lines if " reloaded" in line]) == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def soft_limit(daemon):
    return resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)[0]


def concurrency_of(daemon, refused):
    url = "http://127.0.0.1:%d/" % refused
    return daemon.batch([url], "concurrency=20000")["concurrency"]["limit"]


def test_a_reload_raises_the_limit(configured, refused):
    """As a start with the same file would."""
    daemon = configured(256, 4000, clients=100, in_flight=100)
    before = soft_limit(daemon)
    reload(daemon, clients=100, in_flight=1000)
    assert concurrency_of(daemon, refused) == 1000
    assert soft_limit(daemon) == before + 900 and "descriptors=" not in daemon.log()


def test_a_reload_that_does_not_fit_says_so(configured, refused):
    """As a start does; clients, which are in use, are neither lowered nor said to be changed."""
    daemon = configured(256, 4096, clients=100, in_flight=100, queued=20000)
    reload(daemon, clients=100, in_flight=20000, queued=20000)
    words = daemon.wait_log(r"descriptors=4096 wanted=\d+ clients=100 in_flight=(\d+)", 10)
    assert 1000 < int(words.group(1)) == concurrency_of(daemon, refused) < 4096
    reload(daemon, clients=100, in_flight=20000, queued=20000)
    assert "not in effect" not in daemon.log()


def test_a_policy_that_a_reload_takes_away_keeps_none(configured, origin):
    """The budget counts the policies of the file: one that is gone has given all back when the last of
    what ran under it has ended, and one that comes back works as before."""
    daemon, url = configured(256, 4000, clients=20, in_flight=100), origin.url("/size/1")
    named = "[listener default]\npolicy = p%d\n[policy p%d]\nallow = 127.0.0.1\ninsecure = yes\n"
    reload(daemon, named % (0, 0), clients=20, in_flight=100)
    assert daemon.one(url)["ok"]
    daemon.first = daemon._settled()
    held = []
    thread = threading.Thread(target=lambda: held.append(daemon.one(origin.url("/gate/g/size/1"))))
    thread.start()
    assert origin.wait(lambda: origin.requests("/gate"))
    for i in [*range(1, 12), 0, 3]:
        reload(daemon, named % (i, i), clients=20, in_flight=100)
        assert daemon.one(url)["ok"]
    origin.release("g")
    thread.join(30 * proc.scale())
    assert held and held[0]["ok"]
    daemon.check_descriptors()


def test_more_policies_than_descriptors(configured, origin):
    """A reload with more than there can be descriptors for is refused whole, and nothing is lost to it:
    that before and that after it are taken."""
    daemon, url = configured(100, 120, clients=1, in_flight=100), origin.url("/size/1")
    daemon.allow_log += [re.compile("policies need"), re.compile("not reloaded")]
    sections = ["[policy p%d]\ninsecure = yes\n" % i for i in range(15)]
    few, many = "".join(sections[:3]), "".join(sections)
    reload(daemon, few, clients=1, in_flight=100)
    assert daemon.one(url)["ok"]
    daemon.write(many, clients=1, in_flight=100)
    daemon.signal(signal.SIGHUP)
    daemon.wait_log(r"16 policies need \d+ descriptors, at most 120: .* restart", 10 * proc.scale())
    assert daemon.one(url)["ok"]
    for more in (few, ""):
        reload(daemon, more, clients=1, in_flight=100)
        assert daemon.one(url)["ok"]


def test_what_was_lowered_at_the_start_was_not_changed(configured):
    """The defaults, under a limit that does not give them."""
    daemon = configured(1024, 4000, in_flight=256)
    daemon.wait_log("descriptors=4000 wanted=", 10)
    reload(daemon, in_flight=257)
    assert "not in effect" not in daemon.log()
    reload(daemon, in_flight=257, clients=5000)
    daemon.wait_log("not in effect before a restart: limits.clients", 10)


def test_a_reload_takes_nothing_away_for_what_is_not_in_effect(configured, refused):
    """The same file, and one with a listener more, which is there after a restart only: clients have their
    descriptors, so what is left stays what it was."""
    daemon = configured(1024, 4000, in_flight=20000, queued=20000)
    given = r"descriptors=4000 wanted=\d+ (clients=\d+ in_flight=(\d+) idle_connections=\d+)"
    first = daemon.wait_log(given, 10)
    listener = "[listener more]\nbind = 127.0.0.1:4284 127.0.0.2:4284\n"
    for more in ("", listener):
        reload(daemon, more, in_flight=20000, queued=20000)
        assert concurrency_of(daemon, refused) == int(first.group(2)), daemon.tail()
    said = [re.search(given, line) for line in daemon.lines if "descriptors=" in line]
    assert {match.group(1) for match in said} == {first.group(1)}, daemon.tail()


@pytest.mark.skipif(failing.library() is None, reason="tests/lib/fail.so is not built")
def test_a_limit_that_may_not_be_raised(configured, tmp_path):
    """The budget is for the limit that there is, not for the one that was asked for."""
    control = failing.Control(tmp_path / "fail")
    control.arm(failing.LIMIT, -1)
    daemon = configured(300, 4000, env=control.environment(), clients=10)
    control.disarm()
    daemon.wait_log("descriptors=300 wanted=", 10)
