# SPDX-License-Identifier: MIT
"""The process under load: stopped, reloaded, killed, full. What a client was promised it gets whole, and
the daemon is back at once."""
import contextlib
import fcntl
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

import pytest

from lib import contract, failing, proc

STOPS = proc.form(10, 200)
RELOADS = proc.form(30, 1000)
DRAIN_S = 1


class Load:
    """Clients that ask one batch after the other until the daemon is gone or `stop` is set."""

    def __init__(self, daemon, bodies, clients=4):
        self.daemon, self.bodies = daemon, bodies
        self.stop = threading.Event()
        self.replies, self.cut = [], []
        self.threads = [
            threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(clients)
        ]
        for thread in self.threads:
            thread.start()

    def _client(self, number):
        turn = number
        while not self.stop.is_set():
            turn += 1
            query, body = self.bodies[turn % len(self.bodies)]
            try:
                self.replies.append((query, self.daemon.post(body, query, timeout=30)))
            except http.client.IncompleteRead as fault:
                self.cut.append((query, fault.partial))
            except http.client.RemoteDisconnected:
                pass  # accepted by the kernel, never by the daemon: nothing was promised
            except (ConnectionError, TimeoutError):
                return

    def join(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(40)
            assert not thread.is_alive()


def check_replies(load):
    """Whole JSON, or the documented word that it was not taken."""
    assert not load.cut, load.cut[:2]
    for query, reply in load.replies:
        if reply.status == 503:
            contract.problem(reply, 503)
            continue
        assert reply.status == 200, reply
        if query == "format=ndjson":
            contract.ndjson(reply)
        else:
            contract.check(reply.body, query=query)
    return sum(reply.status == 200 for _, reply in load.replies)


def bodies_of(origin):
    """Short and long ones, and one that outlives the drain: it is cut, and says so."""
    short = [origin.url("/size/10?n=%d" % n) for n in range(20)]
    long = [origin.url("/delay/%d/size/5?n=%d" % (100 * n, n)) for n in range(4)]
    hangs = [origin.url("/size/7"), origin.url("/never")]
    return [
        ("", short),
        ("format=ndjson", short),
        ("", long),
        ("format=ndjson", hangs),
        ("", hangs),
        ("include=body", [origin.url("/size/300000")] * 3),
    ]


def test_stops_under_load(spawn, origin):
    """SIGTERM at any moment: no answer is cut, exit status 0 within the drain and a second (the median; the
    worst within four, because the load is on the same processors)."""
    good, ends = 0, []
    for turn in range(STOPS):
        daemon = spawn("daemon.drain_timeout=%ds" % DRAIN_S, "daemon.loops=%d" % (turn % 2 * 2))
        origin.reset()
        load = Load(daemon, bodies_of(origin), clients=6)
        assert origin.wait(lambda: len(origin.seen) > 40)
        time.sleep(0.01 * (turn % 7))
        start = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait_exit(DRAIN_S + 10 * proc.scale()) == 0
        took = time.monotonic() - start
        load.join()
        good += check_replies(load)
        daemon.stop()
        ends.append(took)
    print("%d stops, %d answers, all whole; they took %.2f to %.2f s" % (STOPS, good, min(ends), max(ends)))
    assert statistics.median(ends) <= DRAIN_S + 1 * proc.scale()
    assert max(ends) <= DRAIN_S + 4 * proc.scale()
    assert good > STOPS


def write_conf(path, turn):
    """In one step: a reload that is still to come must not read half a file."""
    whole = path.with_suffix(".new")
    whole.write_text(
        "[policy default]\nallow = 127.0.0.1 10.%d.0.0/16:80\n[limits]\nin_flight = %d\n"
        "[fetch]\nidle_time = %ds\n" % (turn % 250, 200 + turn % 50, 30 + turn % 7)
    )
    os.replace(whole, path)


@pytest.fixture
def reloadable(tmp_path, base_options):
    """A daemon that is configured by a file alone."""
    conf = tmp_path / "gatherd.conf"
    write_conf(conf, 0)
    daemon = proc.Gatherd(*base_options, args=("-c", str(conf)), allow_log=("config: ", "not reloaded"))
    daemon.conf = conf
    yield daemon
    try:
        daemon.stop()
    finally:
        daemon.kill()


def test_reloads_under_load(reloadable, origin):
    """Not one request fails, whatever is changed."""
    load = Load(reloadable, bodies_of(origin)[:3])
    for turn in range(RELOADS):
        write_conf(reloadable.conf, turn)
        reloadable.signal(signal.SIGHUP)
        time.sleep(0.01)
        if turn % 50 == 49:
            origin.seen.clear()
    load.join()
    assert check_replies(load) == len(load.replies) > RELOADS / 20
    for query, reply in load.replies:
        results = reply.lines[:-1] if query else reply.json()["results"]
        assert all(result["ok"] for result in results), reply
    print("%d reloads, %d requests, none failed" % (RELOADS, len(load.replies)))


def test_a_lower_head_bytes_is_in_effect_and_a_higher_one_is_not(reloadable):
    """And the log says just that: of each that was changed and is above the least since the start."""
    seen, left = [], "not in effect before a restart: limits.head_bytes"
    for turn, size in enumerate(("16K", "32K", "24K", "24K", "16K", "1K", "8K", "8K", "4K")):
        reloadable.conf.write_text("[limits]\nhead_bytes = %s\n" % size)
        reloadable.signal(signal.SIGHUP)
        deadline = time.monotonic() + 10 * proc.scale()
        while sum("info gatherd: reloaded" in line for line in reloadable.lines) <= turn:
            assert time.monotonic() < deadline, reloadable.tail()
            time.sleep(0.01)
        reloadable.batch(["no-url"])  # a line in between: repeated ones are counted only
        reply = reloadable.get("/-/ready", {"X": "a" * 4000})
        assert reply.status in (200, 431), reply
        seen.append((size, reply.status == 431, sum(left in line for line in reloadable.lines)))
    assert seen == [
        ("16K", False, 0), ("32K", False, 1), ("24K", False, 2), ("24K", False, 2), ("16K", False, 2),
        ("1K", True, 2), ("8K", True, 3), ("8K", True, 3), ("4K", True, 4),
    ], reloadable.tail()  # fmt: skip


def test_what_needs_a_restart_is_said_by_the_reload_that_is_taken(reloadable, tmp_path):
    """Not by those before it, which are refused for what only a look at a file can tell, and not by
    those after it."""
    empty, good = tmp_path / "empty", reloadable.conf.read_text()
    empty.write_text("")
    text = good.replace("[limits]\n", "[limits]\nlookups = 7\n")
    assert text != good

    def said(words):
        return sum(words in line for line in reloadable.lines)

    for turn, (lines, words) in enumerate(
        (
            ("[listener default]\ntoken_file = %s\n" % empty, "not reloaded"),
            ("[listener default]\ntoken_file = %s.not\n" % empty, "not reloaded"),
            ("", "info gatherd: reloaded"),
            ("", "info gatherd: reloaded"),
        )
    ):
        before = said(words)
        reloadable.conf.write_text(text + lines)
        reloadable.signal(signal.SIGHUP)
        deadline = time.monotonic() + 10 * proc.scale()
        while said(words) == before:
            assert time.monotonic() < deadline, reloadable.tail()
            time.sleep(0.01)
        reloadable.batch(["no-url"])  # a line in between: repeated ones are counted only
        assert said("not in effect before a restart: limits.lookups") == (turn > 1), reloadable.tail()


def test_a_broken_file_changes_nothing(reloadable, origin):
    """Policies, limits and listeners are the old ones; a good file is taken afterwards."""
    good = reloadable.conf.read_text()
    for broken in ("[policy default]\nallow = nonsense\n", "[nowhere]\nx = 1\n", "no section\n"):
        reloadable.conf.write_text(broken)
        reloadable.signal(signal.SIGHUP)
        reloadable.wait_log("not reloaded|repeated", 10)
        assert reloadable.one(origin.url("/size/3"))["ok"] is True
    reloadable.conf.write_text(good.replace("allow = 127.0.0.1 ", "allow = "))
    reloadable.signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while reloadable.one(origin.url("/size/3"))["state"] != "denied":
        assert time.monotonic() < deadline
    reloadable.conf.write_text(good)


def test_a_pipe_is_not_read_again(base_options, origin):
    """What came through it at the start is gone; nothing is not what the operator wrote."""
    shell = 'exec "$@" -c <(printf "[policy default]\\nallow = 127.0.0.1\\n")'
    daemon = proc.Gatherd(
        *base_options, wrapper=("bash", "-c", shell, "bash"), allow_log=("is a pipe", "not reloaded")
    )
    try:
        for _ in range(2):
            assert daemon.one(origin.url("/size/3"))["ok"] is True
            daemon.signal(signal.SIGHUP)
            daemon.wait_log("not reloaded", 10)
        daemon.stop()
    finally:
        daemon.kill()


@pytest.fixture
def etc():
    """(wrapper, directory): with an empty directory for the default configuration, of its own."""
    usage = subprocess.run([proc.program(), "-h"], capture_output=True, text=True, check=True).stdout
    path = os.path.dirname(re.search(r"instead of (\S+)", usage).group(1))
    above = path
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    script = 'mount -t tmpfs none %s && mkdir -p %s && eval "$BEFORE" && exec "$@"' % (above, path)
    wrapper = ("unshare", "-rm", "bash", "-c", script, "bash")
    if above == "/" or subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user and mount namespaces (unshare -rm)")
    return wrapper, path


def test_the_default_file_may_come_later(etc, base_options, origin):
    """A daemon that was started without one takes it at a reload; from then on it has to be there."""
    wrapper, path = etc
    daemon = proc.Gatherd(*base_options, wrapper=wrapper,
                          allow_log=("cannot be read", "not reloaded"))  # fmt: skip
    try:
        assert daemon.one(origin.url("/size/3"))["state"] == "denied"
        daemon.signal(signal.SIGHUP)
        daemon.wait_log(" reloaded", 10)
        conf = "/proc/%d/root%s/gatherd.conf" % (daemon.pid, path)
        with open(conf, "w", encoding="ascii") as file:
            file.write("[policy default]\nallow = 127.0.0.1\n")
        daemon.signal(signal.SIGHUP)
        deadline = time.monotonic() + 10 * proc.scale()
        while daemon.one(origin.url("/size/3"))["state"] == "denied":
            assert time.monotonic() < deadline
        os.unlink(conf)
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("gatherd.conf: cannot be read", 10)
        assert daemon.one(origin.url("/size/3"))["ok"] is True
        daemon.stop()
    finally:
        daemon.kill()


def test_a_default_file_that_leads_nowhere_is_an_error(etc):
    wrapper, path = etc
    done = subprocess.run(
        [*wrapper, proc.program(), "-t"], capture_output=True, text=True, check=False,
        env={**os.environ, "BEFORE": "ln -s nowhere %s/gatherd.conf" % path},
    )  # fmt: skip
    assert done.returncode == 78 and "gatherd.conf: cannot be read" in done.stderr


def test_a_pipe_in_conf_d_holds_nothing_up(reloadable, origin):
    (reloadable.conf.parent / "conf.d").mkdir()
    os.mkfifo(reloadable.conf.parent / "conf.d" / "10.conf")
    reloadable.signal(signal.SIGHUP)
    reloadable.wait_log("10.conf: is a pipe", 10)
    assert reloadable.one(origin.url("/size/3"))["ok"] is True


@pytest.mark.parametrize("bind", ["tcp", "unix"])
def test_killed_under_load_starts_again_at_once(spawn, origin, tmp_path, bind):
    """Nothing that a killed daemon leaves behind is in the next one's way."""
    path = tmp_path / "socket"
    where = "127.0.0.1:0" if bind == "tcp" else "unix:%s" % path
    for _ in range(proc.form(3, 20)):
        daemon = spawn(bind=where)
        load = Load(daemon, bodies_of(origin)[:2])
        origin.reset()
        assert origin.wait(lambda: len(origin.seen) > 40)
        daemon.kill()
        load.join()
        where = "127.0.0.1:%d" % daemon.port if bind == "tcp" else where
        start = time.monotonic()
        again = spawn(bind=where)
        assert time.monotonic() - start < 5 * proc.scale()
        assert again.one(origin.url("/size/3"))["ok"] is True
        again.stop()
    assert not path.exists()


def test_two_daemons_do_not_take_each_others_socket(spawn, tmp_path):
    path = tmp_path / "socket"
    first = spawn(bind="unix:%s" % path)
    second = spawn(bind="unix:%s" % path, start=False, allow_log=(".",))
    second.start_nowait()
    assert second.wait_exit(10) == 69
    second.kill()
    assert first.get("/-/ready").status == 200 and path.exists()


def test_a_storm_of_signals(spawn, origin):
    """SIGHUP by the hundred, then SIGTERM twice, with batches that hang: a clean end at once."""
    daemon = spawn()
    load = Load(daemon, [("", [origin.url("/never"), origin.url("/size/4")])])
    assert origin.wait(lambda: len(origin.seen) >= 8)
    deadline = time.monotonic() + 10 * proc.scale()
    while daemon.metrics()['gatherd_members_total{state="done"}'] < 4:  # the answers are in, too
        assert time.monotonic() < deadline
    for _ in range(200):
        daemon.signal(signal.SIGHUP)
    start = time.monotonic()
    daemon.signal(signal.SIGTERM)
    daemon.wait_log("mode=drain", 10)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_exit(10 * proc.scale()) == 0
    assert time.monotonic() - start < 3 * proc.scale()
    load.join()
    assert check_replies(load) == 4
    for _, reply in load.replies:
        assert reply.status == 503 or [r["state"] for r in reply.json()["results"]] == ["cancelled", "done"]


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_signals_to_the_end(spawn, name):
    """A stop ends with 0, whatever comes while it goes down."""
    for _ in range(proc.form(3, 20)):
        daemon = spawn()
        daemon.signal(signal.SIGTERM)
        deadline = time.monotonic() + 10 * proc.scale()
        while daemon.process.poll() is None:
            assert time.monotonic() < deadline
            with contextlib.suppress(ProcessLookupError):
                daemon.signal(getattr(signal, name))
            time.sleep(0.0005)
        assert daemon.wait_exit(1) == 0


@pytest.mark.parametrize("closed", ["0", "1", "2", "12", "012"])
def test_started_without_standard_descriptors(tmp_path, base_options, origin, closed):
    """None of its own files becomes one: the log would go there, and libuv would not close it."""
    shell = "exec %s; exec \"$@\"" % " ".join("%s>&-" % fd for fd in closed)
    daemon = proc.Gatherd(
        *base_options,
        "policy.default.allow=127.0.0.1",
        bind="unix:" + str(tmp_path / "s"),
        wrapper=("bash", "-c", shell, "bash"),
        start=False
    )
    daemon.start_nowait()
    daemon.unix = str(tmp_path / "s")
    try:
        wait_for(lambda: is_ready(daemon), 15)
        for fd in closed:
            assert os.readlink("/proc/%d/fd/%s" % (daemon.pid, fd)) == "/dev/null"
        assert daemon.one(origin.url("/size/7"))["ok"]
    finally:
        daemon.stop()


START = "import os, signal, sys; %s; os.execv(sys.argv[1], sys.argv[1:])"
BLOCKED = START % "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); os.kill(os.getpid(), signal.SIGHUP)"
IGNORED = START % "[signal.signal(n, signal.SIG_IGN) for n in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)]"


def test_a_reload_while_the_configuration_is_read(spawn, origin, tmp_path):
    """It waits until the start is done."""
    path = tmp_path / "conf"
    os.mkfifo(path)
    daemon = spawn(args=("-c", str(path)), start=False,
                   allow_log=["is a pipe", "not reloaded"])
    daemon.start_nowait()
    with open(path, "w", encoding="ascii") as file:  # opens once the daemon reads
        daemon.signal(signal.SIGHUP)
        file.write("[limits]\nin_flight = 100\n")
    daemon.wait_log("is a pipe, and cannot be read again", 10 * proc.scale())
    daemon.wait_ready()
    assert daemon.one(origin.url("/size/7"))["ok"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("how", [BLOCKED, IGNORED], ids=["blocked", "ignored"])
def test_started_with_signals_off(spawn, origin, how, number):
    """Whoever started it may have blocked or ignored them; it listens to its own all the same."""
    daemon = spawn(wrapper=(sys.executable, "-c", how), args=("-c", "/dev/null"))
    if how == IGNORED:
        daemon.signal(signal.SIGHUP)
    daemon.wait_log("info gatherd: reloaded", 10 * proc.scale())
    assert daemon.one(origin.url("/size/7"))["ok"]
    daemon.signal(number)
    assert daemon.wait_exit(10 * proc.scale()) == 0


def test_a_log_that_nobody_reads_stops_nothing(tmp_path, base_options):
    """What standard error does not take is left out and counted; batches and the stop go on."""
    path = str(tmp_path / "log")
    os.mkfifo(path)
    log = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, 8192)
    daemon = proc.Gatherd(
        *base_options,
        bind="unix:" + str(tmp_path / "s"),
        wrapper=("bash", "-c", 'exec "$@" 2>%s' % path, "bash"),
        start=False
    )
    daemon.start_nowait()
    daemon.unix = str(tmp_path / "s")
    try:
        wait_for(lambda: is_ready(daemon), 15)
        for _ in range(60):
            assert daemon.post(["no-url"], timeout=20 * proc.scale()).status == 200
        text = os.read(log, 65536)
        daemon.batch(["no-url"])
        daemon.stop()
        text += os.read(log, 65536)
    finally:
        daemon.kill()
        os.close(log)
    written = text.count(b" info batch: ")
    counted = sum(int(n) for n in re.findall(rb" warn log: lines=(\d+) error=", text))
    assert 1 <= written < 61 and written + counted == 61, text.decode()


def is_ready(daemon):
    """Of one whose log is not read."""
    try:
        return daemon.get("/-/ready").status == 200
    except OSError:
        return False


def test_a_full_queue_says_when_to_come_again(spawn, origin):
    """limits.queued: what does not fit is refused with Retry-After, what was taken is answered, and
    then there is room again."""
    daemon = spawn("limits.queued=40", "limits.requests=15", "limits.in_flight=5", "limits.per_host=5")
    load = Load(daemon, [("", [origin.url("/gate/full/size/4?n=%d" % n) for n in range(15)])], 3)
    assert origin.wait(lambda: len(origin.seen) == 5)
    deadline = time.monotonic() + 10
    while daemon.metrics()["gatherd_members_queued"] < 40:
        assert time.monotonic() < deadline
    refused = [daemon.post([origin.url("/size/1")] * 10) for _ in range(20)]
    assert {reply.status for reply in refused} == {503}
    for reply in refused:
        contract.problem(reply, 503)
        assert int(reply.header("Retry-After")) >= 1
    assert daemon.get("/-/ready").status == 503 and daemon.get("/-/healthy").status == 200
    load.stop.set()
    origin.release("full")
    load.join()
    assert check_replies(load) == 3
    assert all(json.loads(r.body)["ok"] for _, r in load.replies if r.status == 200)
    assert daemon.get("/-/ready").status == 200
    assert daemon.batch([origin.url("/size/1")] * 15)["ok"] is True


def test_all_places_for_clients_are_taken(spawn, origin):
    """limits.clients: who comes later waits to be accepted, and is served when somebody leaves."""
    daemon = spawn("limits.clients=10")
    crowd = [daemon.connect() for _ in range(10)]
    late = daemon.connect()
    late.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    late.settimeout(0.3)
    with pytest.raises(TimeoutError):
        late.recv(1)
    late.settimeout(10)
    start = time.monotonic()
    crowd.pop().close()
    assert proc.parse_reply(proc.read_all(late)).status == 200
    assert time.monotonic() - start < 1 * proc.scale()
    for sock in crowd:
        sock.close()
    late.close()
    assert daemon.one(origin.url("/size/3"))["ok"] is True


def test_the_watchdog_is_fed_to_the_end(spawn, tmp_path, origin):
    """Also while the engine closes, when the batches that its words count are gone."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        heard = []
        hear = iter(lambda: notify.recv(4096), b"")
        reader = threading.Thread(target=lambda: heard.extend(hear), daemon=True)
        reader.start()
        for _ in range(proc.form(10, 100)):
            daemon = spawn(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000"})
            assert daemon.one(origin.url("/size/5"))["ok"] is True
            daemon.stop()
        notify.sendto(b"", path)
        reader.join()
    assert sum(b"WATCHDOG=1" in words for words in heard) > 10


def test_the_watchdog_is_fed_by_the_loop(spawn, tmp_path):
    """WATCHDOG=1 comes while it turns and stops when it does not: systemd then starts another one."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(10)
        daemon = spawn(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"})
        while b"WATCHDOG=1" not in notify.recv(4096):
            pass
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            notify.settimeout(0.5)
            with pytest.raises(TimeoutError):
                for _ in range(10):
                    notify.recv(4096)
        finally:
            os.kill(daemon.pid, signal.SIGCONT)


def silent(notify, seconds):
    """Whether no WATCHDOG=1 comes for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        notify.settimeout(max(end - time.monotonic(), 0.001))
        try:
            if b"WATCHDOG=1" in notify.recv(4096):
                return False
        except TimeoutError:
            pass
    return True


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(failing.library() is None, reason="tests/lib/fail.so is not built")
@pytest.mark.parametrize("loops", [1, 3])
def test_a_stuck_fetch_loop_is_seen(spawn, tmp_path, origin, loops):
    """A fetch thread that does not come back: the watchdog is not fed, though the front turns, and /-/ready
    says 503. Both are as before when it turns again."""
    path, control = str(tmp_path / "notify"), failing.Control(tmp_path / "fail")
    beat_s = 0.25 * proc.scale()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        environment = dict(control.environment(), NOTIFY_SOCKET=path,
                           WATCHDOG_USEC=str(int(4e6 * beat_s)))  # fmt: skip
        daemon = spawn("daemon.loops=%d" % loops, env=environment)
        assert daemon.one(origin.url("/size/5"))["ok"] and not silent(notify, 60 * beat_s)
        control.arm(failing.STALL)
        replies = []
        member = {"url": origin.url("/size/6"), "fresh_connection": True}
        ask = threading.Thread(target=lambda: replies.append(daemon.one(member)))
        ask.start()
        wait_for(lambda: control.failed > 0, 10 * proc.scale())
        wait_for(lambda: silent(notify, 8 * beat_s), 60 * proc.scale())
        wait_for(lambda: daemon.get("/-/ready").status == 503, 20 * proc.scale())
        assert daemon.get("/-/ready").body == b"stuck\n" and daemon.get("/-/healthy").status == 200
        control.disarm()
        wait_for(lambda: not silent(notify, 8 * beat_s), 60 * proc.scale())
        ask.join(20 * proc.scale())
        assert replies and daemon.get("/-/ready").status == 200  # its own time may have passed meanwhile
        assert daemon.one(origin.url("/size/7"))["ok"]
