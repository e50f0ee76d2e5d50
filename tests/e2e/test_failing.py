# SPDX-License-Identifier: MIT
"""Every allocation outside libuv and every system call that can fail, fails once: the Nth call since it
was armed, N = 1 to the end of each main scenario (the short form takes the first ones and some twenty
of the others). With threads call number N is another one in each run: what is allowed is the same for
all of them.

Allowed is a clean error: no answer and a closed connection, a 5xx, a member with an error. Never: a
crash, a hang, a 200 that claims what did not happen, or a daemon that does not serve the next
batch. Leaks are the address sanitizer's to find, which sees the same tests."""
import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from lib import contract, failing, proc

FIRST, OTHERS, STEP = 10, 20, 37  # of the short form
LOOPS = proc.form([proc.loops()], [0, 2])
LIMITS = {"timeout_ms": 3000, "connect_timeout_ms": 2000}
KINDS = {"memory": failing.MEMORY, "system": failing.SYSTEM}
EXITS = (69, 71, 78, 1)  # what a start that fails may say

pytestmark = pytest.mark.skipif(failing.library() is None, reason="tests/lib/fail.so is not built")


def numbers(end, first=FIRST, others=OTHERS):
    """Which calls of `end` are made to fail; the short form has about so many."""
    step = max(STEP, end // others)
    return [n for n in range(1, end + 1) if proc.form(n <= first or n % step == 0, True)]


class Scene:
    """What the scenarios work with: a daemon that can be armed, its upstreams, a counter."""

    def __init__(self, daemon, control, notify, origin, tls_origin, dns):
        self.daemon, self.control, self.notify = daemon, control, notify
        self.origin, self.tls_origin, self.dns = origin, tls_origin, dns
        self.turn, self.bad = 0, None  # bad: the last answer that was not what was asked for

    def post(self, members, query="", headers=None, **fields):
        """The reply, or None where the connection ended without one."""
        fields = dict(fields, requests=members, deadline_ms=6000)
        fields.setdefault("defaults", LIMITS)
        try:
            return self.daemon.post(fields, query, headers, timeout=20)
        except (ConnectionError, http.client.HTTPException):
            return None

    def judge(self, members, bodies, query="include=body", **fields):
        """Posts a batch; a member that is done has the body that its upstream sent."""
        before, reply = self.bad, self.post(members, query, **fields)
        self.bad = reply
        if reply is None or reply.status >= 500:
            return False
        assert reply.status == 200, reply
        document = checked(reply, members, fields, query)
        if document is None:
            return False
        good = 0
        for result, body in zip(document["results"], bodies):
            if result["state"] != "done":
                assert result["error"]["type"] in contract.ERROR_TYPES
                continue
            assert result["status"] == 200, result
            if body is not None and result["body"] is not None:
                assert result["body"] == body, result
                good += 1
            else:
                assert body is None or result["truncated"], result
                good += body is None
        if good == len(bodies):
            self.bad = before
        return good == len(bodies)


def checked(reply, members, fields, query):
    """The document of a 200; None where there was no memory to sort its latencies: they are null then."""
    try:
        if json.loads(reply.body)["latency_ms"]["total"] is None:
            return None
        return contract.check(reply.body, members, fields, query)
    except (ValueError, KeyError, TypeError) as fault:
        raise AssertionError("%r of %r" % (fault, reply)) from fault


def text(size):
    return (b"abcdefghijklmnopqrstuvwxyz0123456789" * (size // 36 + 1))[:size].decode()


def three(scene):
    sizes = (10, 2000, 30000)
    urls = [scene.origin.url("/size/%d?n=%d" % (size, scene.turn)) for size in sizes]
    return scene.judge(urls, [text(size) for size in sizes], "include=body,headers")


def fresh(scene):
    member = {"url": scene.origin.url("/chunked/5000"), "fresh_connection": True}
    return scene.judge([member], [text(5000)])


def json_body(scene):
    member = {
        "url": scene.origin.url("/echo"),
        "json": {"a": [1, 2, {"b": "c" * 300}], "n": scene.turn},
        "headers": {"X-One": ["1", "2"], "Authorization": "Bearer x"},
        "id": "the only one",
    }
    return scene.judge([member], [None], "include=body,text_length,body_sha256")


def long_body(scene):
    """Is read on a thread of its own."""
    member = {"url": scene.origin.url("/echo"), "json": {"a": "b" * 40000, "n": [scene.turn] * 50}}
    return scene.judge([member], [None])


def redirects(scene):
    member = {"url": scene.origin.url("/redirect/3/to/size/70"), "max_redirects": 5}
    return scene.judge([member], [text(70)], "include=body,redirects")


def encoded(scene):
    urls = [scene.origin.url("/%s/size/9000" % name) for name in ("gzip", "br", "zstd", "deflate")]
    return scene.judge(urls, [text(9000)] * 4, "include=body,text_length")


def named(scene):
    name = "failing-%d.test" % scene.turn
    scene.dns.add(name, a=["127.0.0.1"])
    return scene.judge([scene.origin.url("/size/9", host=name)], [text(9)])


def tls(scene):
    member = {"url": scene.tls_origin.url("/size/40"), "fresh_connection": True}
    return scene.judge([member], [text(40)])


def many(scene):
    urls = [scene.origin.url("/close-after/size/12?n=%d" % n) for n in range(40)]
    return scene.judge(urls, [text(12)] * 40, concurrency=7, concurrency_per_host=5)


def waiting(scene):
    """Long enough for the connection to be suspended and watched."""
    return scene.judge([scene.origin.url("/delay/60/size/8")], [text(8)])


def stream(scene):
    urls = [scene.origin.url("/size/%d" % n) for n in range(12)]
    reply = scene.post(urls, "format=ndjson&include=body")
    if reply is None or reply.status >= 500:
        return False
    assert reply.status == 200, reply
    lines = reply.lines
    done = [line for line in lines if line["type"] == "result" and line["state"] == "done"]
    for line in done:
        assert line["body"] == text(line["index"]) or line["truncated"], line
    if not lines or lines[-1]["type"] != "summary":
        return False  # no summary: the client sees that the stream was cut
    assert lines[-1]["counts"]["done"] == len(done), reply
    return len(done) == len(urls)


def tables(scene):
    good = True
    for query in ("format=text", "format=csv", "format=har"):
        reply = scene.post([scene.origin.url("/size/5")], query)
        good &= reply is not None and reply.status in (200, 400, 406)
    try:
        good &= scene.daemon.get("/metrics").status == 200
    except (ConnectionError, http.client.HTTPException):
        return False
    return good


def reload(scene):
    """The daemon says READY=1 again; not where the failed call was that word's socket."""
    scene.daemon.signal(signal.SIGHUP)
    said, deadline = b"", time.monotonic() + 1
    while b"READY=1" not in said and time.monotonic() < deadline:
        try:
            said = scene.notify.recv(4096)
        except TimeoutError:
            pass
    try:
        return scene.daemon.get("/-/healthy").status == 200
    except (ConnectionError, http.client.HTTPException):
        return False


SCENARIOS = [
    three,
    fresh,
    json_body,
    long_body,
    redirects,
    encoded,
    named,
    tls,
    many,
    waiting,
    stream,
    tables,
    reload,
]

CONF = """[daemon]
drain_timeout = 2s
[listener other]
bind = 127.0.0.1:0
token_file = %s
policy = second
[policy second]
allow = 127.0.0.1 10.0.0.0/8:80
deny = 10.1.0.0/16 192.0.2.0/24
"""


@pytest.fixture
def armed(tmp_path, origin, tls_origin, dns, base_options):
    """Starts daemons that can be armed; `armed.scene()` has a fresh one running."""
    tokens = tmp_path / "tokens"
    tokens.write_text("somebody:0123456789abcdef0123456789abcdef\n")
    tokens.chmod(0o600)
    conf = tmp_path / "gatherd.conf"
    conf.write_text(CONF % tokens)
    control = failing.Control(tmp_path / "fail")
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.settimeout(0.2)
    environment = dict(control.environment(), NOTIFY_SOCKET=str(tmp_path / "notify"))
    options = [*base_options, "policy.default.allow=127.0.0.1", "policy.default.allow=::1"]

    class Armed:
        running = []

        def daemon(self, loops, start=True):
            daemon = proc.Gatherd(
                *options,
                "daemon.loops=%d" % loops,
                args=("-c", str(conf)),
                env=environment,
                allow_log=(".",),
                start=start,
            )
            self.running[:] = [one for one in self.running if not one.stopped] + [daemon]
            return daemon

        def scene(self, loops):
            return Scene(self.daemon(loops), control, notify, origin, tls_origin, dns)

    armed = Armed()
    armed.control = control
    yield armed
    notify.close()
    for daemon in armed.running:
        daemon.kill()


def count(scene, scenario, kinds):
    """How many calls the scenario makes when the daemon is warm."""
    counted = []
    for _ in range(3):
        scene.turn += 1
        scene.control.arm(kinds)
        assert scenario(scene) is not False, "the scenario does not work at all"
        counted.append(scene.control.disarm())
    return max(counted[1:])


def recovers(scene, scenario):
    """The next one must be right, whatever failed before; a broken upstream connection that was kept may
    cost one more."""
    scene.turn += 1
    if scenario(scene) is False:
        scene.turn += 1
        again = scenario(scene)
        errors = re.findall(rb'"error":{[^}]*}', scene.bad.body) if scene.bad else None
        assert again is not False, "does not recover: %r" % errors


# The address sanitizer gives up where it cannot find out a new thread's stack.
SANITIZER_S_OWN = "CHECK failed: sanitizer_linux_libcdep.cpp"


def one_failure(scene, scenario, kinds, at):
    """Words about what went wrong, or None."""
    scene.turn += 1
    scene.control.arm(kinds, at)
    try:
        scenario(scene)
        scene.control.disarm()
        recovers(scene, scenario)
        scene.control.check_closes()
    except (AssertionError, OSError) as fault:
        scene.control.disarm()
        what = "%s: %s" % (type(fault).__name__, str(fault)[:1500])
        with contextlib.suppress(subprocess.TimeoutExpired):
            scene.daemon.process.wait(1)  # who dies may still be writing why
            scene.daemon.reader.join(5)
            what = "died with status %s\n%s" % (scene.daemon.process.poll(), scene.daemon.tail())
        return "%s %d: %s: %s" % (scenario.__name__, at, scene.control.where, what)
    return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_nth_call_fails(armed, scenario, loops, kind):
    scene = armed.scene(loops)
    end = count(scene, scenario, KINDS[kind])
    faults, failed = [], 0
    for at in numbers(end):
        fault = one_failure(scene, scenario, KINDS[kind], at)
        failed += scene.control.failed
        if fault is not None:
            if SANITIZER_S_OWN not in fault:
                faults.append(fault)
            scene.daemon.kill()
            scene = armed.scene(loops)
    print("%s loops=%d %s: %d calls, %d failed" % (scenario.__name__, loops, kind, end, failed))
    scene.daemon.stop()
    assert not faults, "%d of %d:\n%s" % (len(faults), failed, "\n\n".join(faults[:8]))


def first_batch(armed, loops, kinds, at):
    """The first batch of a daemon: pools, name servers, the CA store; then one more, which is right."""
    scene = armed.scene(loops)
    fault = one_failure(scene, cold, kinds, at)
    counted = scene.control.layout.counted
    if fault is None:
        scene.daemon.stop()
    scene.daemon.kill()
    return counted, fault


def cold(scene):
    return tls(scene) & named(scene)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loops", LOOPS)
def test_nth_call_of_the_first_batch_fails(armed, loops, kind):
    end, fault = first_batch(armed, loops, KINDS[kind], 0)
    assert fault is None
    faults = [first_batch(armed, loops, KINDS[kind], at)[1] for at in numbers(end, 2, 6)]
    print("first batch loops=%d %s: %d calls" % (loops, kind, end))
    faults = [fault for fault in faults if fault is not None]
    assert not faults, "%d of %d:\n%s" % (len(faults), end, "\n\n".join(faults[:8]))


def is_theirs(where, log):
    """A death before anything was answered that is not gatherd's to mend: libuv aborts when its signals'
    pipe is denied, and OpenSSL 3.0 goes on with half of what it begins with."""
    return "libcrypto" in where or ("pipe2" in where and "libuv" in where and not log)


def start_once(armed, loops, kinds, at):
    """A start with one failure: a clean end with a word about it, or a daemon that works."""
    daemon = armed.daemon(loops, start=False)
    armed.control.arm(kinds, at)
    daemon.start_nowait()
    try:
        daemon.start = lambda: None
        deadline = time.monotonic() + 15 * proc.scale()
        while daemon.process.poll() is None and not any(" ready " in x for x in daemon.lines):
            assert time.monotonic() < deadline, "neither ready nor gone"
            time.sleep(0.002)
        counted = armed.control.disarm()
        if daemon.process.poll() is None:
            daemon.signal()
        status = daemon.wait_exit(20 * proc.scale())
        if status < 0 or proc.SANITIZER.search(daemon.log()):
            ready = any(" ready " in line for line in daemon.lines)
            assert not ready and is_theirs(armed.control.where, daemon.log()), daemon.tail()
            return counted, None
        if status != 0:
            assert status in EXITS and daemon.lines, "status %d\n%s" % (status, daemon.tail())
        armed.control.check_closes()
        return counted, None
    except AssertionError as fault:
        where = armed.control.where
        armed.control.disarm()
        return 0, "start %d: %s: %s" % (at, where, str(fault)[:3000])
    finally:
        daemon.kill()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loops", LOOPS)
def test_nth_call_of_the_start_fails(armed, loops, kind):
    end, fault = start_once(armed, loops, KINDS[kind], 0)
    assert fault is None and end > 0
    faults = []
    for at in range(1, end + 1) if kind == "system" else numbers(end):
        fault = start_once(armed, loops, KINDS[kind], at)[1]
        if fault is not None:
            faults.append(fault)
    print("start loops=%d %s: %d calls" % (loops, kind, end))
    assert not faults, "%d:\n%s" % (len(faults), "\n\n".join(faults[:8]))


def stop_once(armed, loops, kinds, at):
    """A batch is cut by two SIGTERMs: its answer is whole, or a 5xx, or there is none; the status is 0."""
    scene, box = armed.scene(loops), []
    scene.origin.reset()
    members = [scene.origin.url("/never"), scene.origin.url("/size/3")]
    thread = threading.Thread(target=lambda: box.append(scene.post(members, "include=body")))
    thread.start()
    assert scene.origin.wait(lambda: len(scene.origin.seen) == 2)
    scene.control.arm(kinds, at)
    scene.daemon.signal()
    scene.daemon.wait_log("mode=drain", 10)
    scene.daemon.signal()
    status = scene.daemon.wait_exit(20 * proc.scale())
    thread.join(20)
    where, counted = scene.control.where, scene.control.disarm()
    reply = box[0] if box else None
    if reply is not None and reply.status == 200:
        checked(reply, members, {}, "include=body")
    if status != 0 or proc.SANITIZER.search(scene.daemon.log()) or scene.control.layout.not_open:
        return counted, "stop %d: %s: status %d\n%s" % (at, where, status, scene.daemon.tail())
    return counted, None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loops", LOOPS)
def test_nth_call_of_the_stop_fails(armed, loops, kind):
    end, fault = stop_once(armed, loops, KINDS[kind], 0)
    assert fault is None
    faults = [stop_once(armed, loops, KINDS[kind], at)[1] for at in numbers(end)]
    print("stop loops=%d %s: %d calls" % (loops, kind, end))
    faults = [fault for fault in faults if fault is not None]
    assert not faults, "\n\n".join(faults[:8])
