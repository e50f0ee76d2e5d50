# SPDX-License-Identifier: MIT
"""Long bodies are read on a thread of their own: what happens to the daemon meanwhile happens as if there
were none. Each test sees the thread at work before it does something, and where it says "meanwhile",
afterwards too: a body of 3 MB of keys keeps it for half a second."""
import json
import os
import signal
import threading
import time

import pytest

from lib import contract, proc
from test_bodies import JSON_MEMBER, SIZE, keys

LONG = JSON_MEMBER + b"{" + keys(SIZE - 100) + b"}}]"
ALSO_LONG = b'["' + b"a" * 100000 + b'"]'
DENY = "policy.default.deny=127.0.0.1"


class Post(threading.Thread):
    """A request of its own thread; join() returns the reply, None where the connection ended without one."""

    def __init__(self, daemon, body=LONG, query=""):
        super().__init__(daemon=True)
        self.target, self.body, self.query, self.reply = daemon, body, query, None
        self.start()

    def run(self):
        try:
            self.reply = self.target.post(self.body, self.query)
        except OSError:
            self.reply = None

    def join(self, timeout=None):
        super().join(timeout or 60 * proc.scale())
        assert not self.is_alive()
        return self.reply


def workers(daemon):
    """Threads beside the first; a sanitizer's own has its name."""
    return sorted(name for name in daemon.threads() if name != "gatherd")


def is_reading(daemon):
    return "aside" in daemon.threads()


def wait_until(what, seconds=20):
    deadline = time.monotonic() + seconds * proc.scale()
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def held(daemon):
    return daemon.metrics()["gatherd_request_bytes"]


def test_no_thread_without_a_long_body(spawn):
    daemon = spawn(DENY, loopback=False)
    names = workers(daemon)
    assert daemon.post(b'["http://127.0.0.1:1/"]').status == 200
    assert daemon.post(JSON_MEMBER + b"{" + keys(30000) + b"}}]").status == 200
    assert workers(daemon) == names and len(names) == daemon.loops
    assert daemon.post(LONG).status == 200
    wait_until(lambda: not is_reading(daemon))
    assert workers(daemon) == names


def test_others_are_served_meanwhile(spawn):
    """Probes and batches are answered while one body is being read, again and again."""
    daemon = spawn(DENY, loopback=False)
    post, answered = Post(daemon), 0
    wait_until(lambda: is_reading(daemon))
    while is_reading(daemon):
        assert daemon.get("/-/healthy").status == 200
        assert daemon.post(b'["http://127.0.0.1:1/"]').status == 200
        answered += is_reading(daemon)
    assert post.join().status == 200
    print("%d probes and batches in between" % answered)
    assert answered >= 3


@pytest.mark.parametrize("size", [4096, 4097, 32768, 32769, 65536])
@pytest.mark.parametrize("format", ["json", "ndjson"])
def test_sizes_around_the_bounds(spawn, origin, size, format):
    """The same answer on either side, and the same fault at the same place."""
    daemon = spawn()
    head, tail = b'[{"url":"%b","json":"' % origin.url("/echo").encode(), b'"}]'
    fill = b"a" * (size - len(head) - len(tail))
    reply = daemon.post(head + fill + tail, "format=%s&include=body" % format)
    assert reply.status == 200, reply
    result = reply.json()["results"][0] if format == "json" else reply.lines[0]
    assert json.loads(origin.seen[-1].body) == fill.decode() and result["state"] == "done"
    problem = contract.problem(daemon.post(head + fill + b'","x":1}]', "format=" + format), 400)
    assert problem["pointer"] == "/0/x"
    problem = contract.problem(daemon.post(head + fill + b'"]', "format=" + format), 400)
    assert problem["offset"] == size - len(tail) + 1
    contract.problem(daemon.post(head + fill + tail, "fail=any&format=ndjson"), 400)
    contract.problem(daemon.post(head + fill + tail, "fail=%zz"), 400)


def test_one_after_the_other(spawn):
    """Every one is answered, in whatever order they came; of one connection in its order."""
    daemon = spawn(DENY, loopback=False)
    bodies = [LONG, ALSO_LONG, JSON_MEMBER + b"{" + keys(20000) + b"}}]", b"[" * 40000] * 4
    posts = [Post(daemon, body) for body in bodies]
    assert [p.join().status for p in posts] == [200, 200, 200, 400] * 4
    assert held(daemon) == 0


def test_identities_take_turns(spawn, tmp_path):
    """Who has many long bodies read makes another client wait for one of them, not for all."""
    tokens = tmp_path / "tokens"
    tokens.write_text("many:token-of-many-0123456789\none:token-of-one-0123456789\n")
    tokens.chmod(0o600)
    daemon = spawn(DENY, "listener.default.token_file=%s" % tokens)
    many, one = ({"Authorization": "Bearer token-of-%s-0123456789" % x} for x in ("many", "one"))
    ends = []

    def post(body, headers):
        assert daemon.post(body, headers=headers).status in (200, 400)
        ends.append(headers)

    threads = [threading.Thread(target=post, args=(LONG, many)) for _ in range(8)]
    for thread in threads:
        thread.start()

    def bytes_held():
        return contract.metrics(daemon.get("/metrics", headers=one))["gatherd_request_bytes"]

    wait_until(lambda: bytes_held() > 6 * len(LONG))
    for _ in range(2):
        before = len(ends)
        post(ALSO_LONG, one)
        assert ends.index(one, before) - before <= 3, ends  # one that is read, and those that have ended
    for thread in threads:
        thread.join()
    assert len(ends) == 10


def test_a_client_leaves_meanwhile(spawn):
    """Its bytes count until they are freed; the next body is read."""
    daemon = spawn(DENY, loopback=False)
    sock = daemon.connect()
    sock.sendall(b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                 b"Content-Length: %d\r\n\r\n" % len(LONG) + LONG)  # fmt: skip
    wait_until(lambda: is_reading(daemon))
    sock.close()
    wait_until(lambda: daemon.metrics()["gatherd_clients"] <= 1)
    meanwhile = is_reading(daemon)
    bytes_held = held(daemon)
    time.sleep(0.05)  # the thread may be listed for a moment after its work
    assert not (meanwhile and is_reading(daemon)) or bytes_held == len(LONG)
    wait_until(lambda: held(daemon) == 0)
    assert daemon.post(ALSO_LONG).status == 200
    assert held(daemon) == 0


def test_a_client_leaves_before_its_turn(spawn):
    daemon = spawn(DENY, loopback=False)
    post = Post(daemon)
    wait_until(lambda: is_reading(daemon))
    sock = daemon.connect()
    sock.sendall(b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                 % len(ALSO_LONG) + ALSO_LONG)  # fmt: skip
    wait_until(lambda: held(daemon) >= len(ALSO_LONG))
    sock.close()
    assert post.join().status == 200
    wait_until(lambda: held(daemon) == 0)


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_meanwhile(spawn, leaves, signals):
    """The batch that was not yet one is refused, as all others are then; status 0."""
    daemon = spawn(DENY, "daemon.drain_timeout=20s", loopback=False)
    if leaves:
        sock = daemon.connect()
        sock.sendall(b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                     % len(LONG) + LONG)  # fmt: skip
    else:
        post = Post(daemon)
    wait_until(lambda: is_reading(daemon))
    if leaves:
        sock.close()
    for _ in range(signals):
        daemon.signal(signal.SIGTERM)
    time.sleep(0.05)  # the signal is heard by now
    meanwhile = is_reading(daemon)
    assert daemon.wait_exit() == 0
    daemon.stopped = True
    daemon.check_log()
    if not leaves:
        reply = post.join()
        if signals == 1 and meanwhile:
            assert reply.status == 503
        else:
            assert reply is None or reply.status in (200, 503)


def test_a_reload_meanwhile(base_options, tmp_path):
    """Read by what held when its reading began, admitted by what holds when it ends."""
    conf = tmp_path / "gatherd.conf"
    two = b"[" + JSON_MEMBER[1:] + b"{" + keys(SIZE - 200) + b'}},"http://127.0.0.1:1/"]'

    def write(text):
        new = tmp_path / "new"
        new.write_text(text)
        os.replace(new, conf)

    for limits, status in (("requests = 1\n", 200), ("per_client_members = 1\n", 400)):
        write("[limits]\n")
        with proc.Gatherd(*base_options, DENY, args=("-c", str(conf))) as daemon:
            post = Post(daemon, two)
            wait_until(lambda: is_reading(daemon))
            write("[limits]\n" + limits)
            daemon.signal(signal.SIGHUP)
            daemon.wait_log(" reloaded")
            time.sleep(0.05)  # the thread may be listed for a moment after its work
            meanwhile = is_reading(daemon)
            reply = post.join()
            assert reply.status == status or not meanwhile, reply
            assert daemon.post(b'["no-url","no-url"]').status == 400
