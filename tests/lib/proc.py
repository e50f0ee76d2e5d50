# SPDX-License-Identifier: MIT
"""The process guard: runs gatherd for a test and asserts that it lives and dies cleanly.

`Gatherd(*options)` starts the program on a port of its own and waits until it says that it
listens; each option is one `-o KEY=VALUE`. `stop()` first lets descriptors settle and checks them,
then sends SIGTERM and asserts: exit status 0 in time, no sanitizer report, no line of level error
and no failed assertion in the log but those that `allow_log` names, one thread.

Descriptors: after the last client has gone, everything but upstream connections must be as at the
start. gatherd keeps upstream connections on purpose (a warm pool), so sockets towards a remote
port other than our own listeners' are left out, as long as there are no more of them than
POOL_LIMIT; so are the resolver's UDP sockets, RESOLVER_LIMIT at most.
"""
import collections
import contextlib
import fcntl
import http.client
import json
import os
import queue
import re
import signal
import socket
import subprocess
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
POOL_LIMIT = 512 + 2 * 256  # fetch.idle_connections, and limits.in_flight for each of two loops
RESOLVER_LIMIT = 8
READY_S = 15.0
STOP_S = 40.0
SETTLE_S = 5.0
SANITIZER = re.compile(
    r"ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|SUMMARY: \w+Sanitizer|runtime error:"
)
BAD_LINE = re.compile(
    r"^<[0-3]>|^\S+Z (error|crit|alert|emerg) |\"level\": ?\"error\"|[Aa]ssert|MHD_PANIC|Fatal error"
)
LISTENING = re.compile(r"listening address=(\S+)")


def program():
    """The gatherd under test, or None: $GATHERD, else build/gatherd of the project."""
    path = os.environ.get("GATHERD")
    if path:
        return os.path.abspath(path)
    path = os.path.join(ROOT, "build", "gatherd")
    return path if os.access(path, os.X_OK) else None


def testdata(*parts):
    """A path in the shared test data, or None where that is absent."""
    base = os.environ.get("GATHERD_TESTDATA") or os.path.join(ROOT, "..", "shared", "testdata")
    path = os.path.join(base, *parts)
    return path if os.path.exists(path) else None


def scale():
    """How much slower than a plain build this one may be (sanitizers, valgrind)."""
    return float(os.environ.get("GATHERD_TEST_SCALE", "1"))


def form(short, full):
    """How much of a test that has two forms is run: the full one is for `make check-long`."""
    return full if os.environ.get("GATHERD_TEST_LONG") else short


def starved_s(pid):
    """How long the threads of a process were ready and had no processor, all together: what a busy
    machine adds to every figure."""
    total, tasks = 0, "/proc/%d/task" % pid
    for task in os.listdir(tasks):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            with open("%s/%s/schedstat" % (tasks, task), encoding="ascii") as file:
                total += int(file.read().split()[1])
    return total / 1e9


class Starved:
    """`with Starved(daemon) as starved:` and then `starved.ms`: how long the threads of the daemon, and with
    `own` those of the test (its upstreams among them), were ready and had no processor, all together. At
    most so much has a busy machine added meanwhile to a figure of theirs."""

    def __init__(self, daemon, own=True):
        self.pids, self.ms = [daemon.pid] + [os.getpid()] * own, 0.0

    def __enter__(self):
        self.ms = -self._total_ms()
        return self

    def __exit__(self, *fault):
        with contextlib.suppress(FileNotFoundError):  # it died: the test has more to say about that
            self.ms += self._total_ms()
        self.ms = max(self.ms, 0.0)  # who has ended has taken its share along

    def _total_ms(self):
        return 1000 * sum(starved_s(pid) for pid in self.pids)


class Reply:
    """One HTTP answer of gatherd."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        return values[0] if values else None

    @property
    def type(self):
        return (self.header("Content-Type") or "").split(";")[0].strip()

    def json(self):
        return json.loads(self.body)

    @property
    def lines(self):
        """The objects of an NDJSON answer."""
        return [json.loads(line) for line in self.body.split(b"\n") if line]

    def __repr__(self):
        return "<%d %s %r>" % (self.status, self.type, self.body[:600])


def parse_reply(data):
    """A whole raw answer (connection closed after it) to a Reply; chunked bodies are joined."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    match = re.match(r"HTTP/1\.[01] (\d{3})", lines[0])
    assert match, "no HTTP answer: %r" % data[:200]
    headers = [tuple(x.strip() for x in line.split(":", 1)) for line in lines[1:]]
    if any(n.lower() == "transfer-encoding" for n, _ in headers):
        body = join_chunks(body)
    return Reply(int(match.group(1)), headers, body)


def join_chunks(data):
    """The body of a chunked answer; ends at its last chunk or where the bytes end."""
    out, at = [], 0
    while at < len(data):
        line_end = data.index(b"\r\n", at)
        size = int(data[at:line_end].split(b";")[0], 16)
        if size == 0:
            break
        out.append(data[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2
    return b"".join(out)


def loops(options=()):
    """Fetch threads of a daemon: what its options say, else GATHERD_TEST_LOOPS, else 2, so that a test
    sees the same number on every machine."""
    given = [o.partition("=")[2] for o in options if o.startswith("daemon.loops=")]
    return int(given[-1] if given else os.environ.get("GATHERD_TEST_LOOPS", "2"))


class Gatherd:
    """One running daemon."""

    def __init__(
        self,
        *options,
        bind="127.0.0.1:0",
        args=(),
        env=None,
        allow_log=(),
        start=True,
        wrapper=(),
        by_unix=False
    ):
        """by_unix: its TCP listeners are out of reach from here."""
        self.allow_log = [re.compile(pattern) for pattern in allow_log]
        self.loops = loops(options)
        command = [*wrapper, program(), "-o", "listener.default.bind=" + bind]
        command += ["-o", "daemon.loops=%d" % self.loops]
        for option in options:
            command += ["-o", option]
        self.command = command + list(args)
        self.env = dict(os.environ)
        for name in (
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "LISTEN_PID",
            "WATCHDOG_USEC",
            "CREDENTIALS_DIRECTORY",
        ):
            self.env.pop(name, None)
        self.env.update(env or {})
        self.lines, self.addresses, self.new_line = [], [], queue.Queue()
        self.process, self.port, self.unix, self.first = None, None, None, None
        self.stopped, self.by_unix = False, by_unix
        if start:
            self.start()

    # life
    def start(self):
        self.start_nowait()
        return self.wait_ready()

    def wait_ready(self):
        deadline = time.monotonic() + READY_S * scale()
        self.wait_log(LISTENING.pattern, deadline - time.monotonic(), "gatherd does not listen")
        for line in list(self.lines):
            match = LISTENING.search(line)
            if match:
                self.addresses.append(match.group(1))
        tcp = [a for a in self.addresses if not a.startswith("unix:")]
        unix = [a for a in self.addresses if a.startswith("unix:")]
        self.port = int(tcp[0].rsplit(":", 1)[1]) if tcp and not self.by_unix else None
        self.unix = unix[0][5:] if unix else None
        while self.get("/-/ready").status != 200:
            assert time.monotonic() < deadline, "gatherd is not ready"
            time.sleep(0.01)
        self.first = self._settled()
        return self

    def start_nowait(self):
        """For a program that shall end by itself: follow with wait_exit()."""
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self.env,
        )
        with contextlib.suppress(OSError):  # a burst of the log must find room: the daemon waits for no reader
            fcntl.fcntl(self.process.stderr.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for raw in self.process.stderr:
            self.lines.append(raw.decode("utf-8", "replace").rstrip("\n"))
            self.new_line.put(None)
        self.new_line.put(None)

    @property
    def pid(self):
        return self.process.pid

    def cpu_s(self):
        """The processor time of all its threads, those that have ended too, in steps of 10 ms."""
        with open("/proc/%d/stat" % self.pid, encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def log(self):
        return "\n".join(self.lines)

    def tail(self):
        """The end of the log for a message, without the line of each batch."""
        return "\n".join([line for line in self.lines if " info batch: " not in line][-40:])

    def wait_log(self, pattern, timeout=10.0, message="not in the log"):
        """Waits for a log line that matches; returns the match."""
        deadline, looked = time.monotonic() + timeout, 0
        while True:
            while looked < len(self.lines):
                match = re.search(pattern, self.lines[looked])
                looked += 1
                if match:
                    return match
            left = deadline - time.monotonic()
            gone = self.process.poll() is not None and not self.reader.is_alive()
            assert left > 0 and not gone, "%s: %r\n%s" % (message, pattern, self.tail())
            try:
                self.new_line.get(timeout=min(left, 0.1))
            except queue.Empty:
                pass

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait_exit(self, timeout=STOP_S):
        """Waits for the end; returns the exit status. A daemon that does not end is killed."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.stopped = True
            raise AssertionError(
                "gatherd does not stop within %g s\n%s" % (timeout, self.tail())
            ) from None
        self.reader.join(5)
        return status

    def stop(self):
        """The clean end that every test asserts."""
        if self.stopped or self.process is None:
            return
        self.stopped = True
        try:
            alive = self.process.poll() is None
            if alive and self.first is not None:
                self.check_descriptors()
                fetching = [name for name in self.threads() if name.startswith("fetch-")]
                assert len(fetching) == self.loops, "threads: %r" % self.threads()
        finally:
            if self.process.poll() is None:
                self.signal()
            status = self.wait_exit()
        self.check_log()
        assert status == 0, "exit status %d\n%s" % (status, self.tail())

    def threads(self):
        """The names of its threads; the thread sanitizer has one of its own."""
        names = []
        for task in os.listdir("/proc/%d/task" % self.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                with open("/proc/%d/task/%s/comm" % (self.pid, task), encoding="ascii") as file:
                    names.append(file.read().strip())
        return names

    def kill(self):
        """For a test that wants no clean end."""
        self.stopped = True
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def check_log(self):
        text = self.log()
        assert not SANITIZER.search(text), "sanitizer report\n" + self.tail()
        bad = [
            line
            for line in self.lines
            if BAD_LINE.search(line) and not any(p.search(line) for p in self.allow_log)
        ]
        assert not bad, "unexpected log lines:\n" + "\n".join(bad[:20])

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:
            self.kill()

    # descriptors
    def descriptors(self):
        """A Counter of kinds: file names, `listen`, `client`, `pool`, `udp`, `unix`. A socket that
        no table lists is a TCP socket that was reset, or one that is not connected yet: `pool`."""
        sockets = self._sockets()
        kinds = collections.Counter()
        base = "/proc/%d/fd" % self.pid
        for fd in os.listdir(base):
            try:
                target = os.readlink(os.path.join(base, fd))
            except FileNotFoundError:
                continue
            inode = re.match(r"socket:\[(\d+)\]", target)
            kinds[sockets.get(inode.group(1), "pool") if inode else target.split(":[")[0]] += 1
        return kinds

    def _sockets(self):
        kinds = {}
        own = {int(a.rsplit(":", 1)[1]) for a in self.addresses if not a.startswith("unix:")}
        for name in ("tcp", "tcp6", "udp", "udp6"):
            try:
                with open("/proc/%d/net/%s" % (self.pid, name), encoding="ascii") as file:
                    rows = file.readlines()[1:]
            except FileNotFoundError:
                continue
            for row in rows:
                fields = row.split()
                local, state = int(fields[1].rsplit(":", 1)[1], 16), fields[3]
                kind = (
                    "udp"
                    if name.startswith("udp")
                    else "listen"
                    if state == "0A"
                    else "client"
                    if local in own
                    else "pool"
                )
                kinds[fields[9]] = kind
        for name, column in (("unix", 6), ("netlink", 9)):
            with open("/proc/%d/net/%s" % (self.pid, name), encoding="utf-8") as file:
                for row in file.readlines()[1:]:
                    kinds[row.split()[column]] = name
        return kinds

    def _settled(self):
        """The descriptors once no client is connected any more."""
        deadline = time.monotonic() + SETTLE_S * scale()
        while True:
            kinds = self.descriptors()
            if not kinds["client"] or time.monotonic() > deadline:
                return kinds
            time.sleep(0.01)

    def check_descriptors(self):
        """Asserts that nothing but the pool stayed open; waits for it, bounded."""
        deadline = time.monotonic() + SETTLE_S * scale()
        while True:
            now = self.descriptors()
            grown = {
                k: (self.first[k], n)
                for k, n in now.items()
                if n > self.first[k] and k not in ("pool", "udp")
            }
            if not grown or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        assert not grown, "descriptors grew (kind: before, now): %r" % grown
        assert now["pool"] <= POOL_LIMIT and now["udp"] <= RESOLVER_LIMIT, now

    # client
    def connect(self, timeout=30.0):
        """A plain socket to the first TCP listener, else to the Unix socket."""
        if self.port is None:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(timeout)
            sock.connect(self.unix)
            return sock
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def raw(self, data, timeout=10.0):
        """Sends bytes as they are and returns all bytes until gatherd closes."""
        with self.connect(timeout) as sock:
            try:
                sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_all(sock)

    def request(self, method, path, body=None, headers=None, timeout=90.0):
        """One request on a connection of its own. headers: dict, or list of pairs."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.sock = self.connect(timeout)
        try:
            return exchange(connection, method, path, body, headers)
        finally:
            connection.close()

    def get(self, path, headers=None):
        return self.request("GET", path, headers=headers)

    def post(
        self, body, query="", headers=None, type="application/json", path="/v1/batch", timeout=90.0
    ):
        """POST of bytes, text, or of an object as JSON."""
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, (bytes, bytearray)):
            body = json.dumps(body).encode()
        fields = dict(headers or {})
        if type is not None:
            fields.setdefault("Content-Type", type)
        return self.request("POST", path + ("?" + query if query else ""), body, fields, timeout)

    def batch(self, requests, query="", headers=None, status=200, **fields):
        """Runs a batch, asserts the contract of its answer and returns the decoded document.

        `requests` is a list of members, `fields` the other fields of the batch object.
        """
        from . import contract

        body = dict(fields, requests=requests) if fields else requests
        reply = self.post(body, query, headers)
        assert reply.status == status, reply
        return contract.check(reply.body, requests, fields, query)

    def one(self, member, query="", **fields):
        """The result of a batch of one."""
        return self.batch([member], query, **fields)["results"][0]

    def refused(self, body, status=400, query="", headers=None, type="application/json"):
        """Asserts a problem document; returns it."""
        from . import contract

        return contract.problem(self.post(body, query, headers, type), status)

    def metrics(self):
        """{(name, labels text): value} of /metrics."""
        from . import contract

        return contract.metrics(self.get("/metrics"))


def exchange(connection, method, path, body=None, headers=None):
    """One request and its answer on an http.client connection, which may be kept."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    names = {name.lower() for name, _ in pairs}
    connection.putrequest(method, path, skip_host="host" in names, skip_accept_encoding=True)
    for name, value in pairs:
        connection.putheader(name, value)
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    try:
        if body:
            connection.send(body)
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused early; the answer is there to read
    response = connection.getresponse()
    return Reply(response.status, response.getheaders(), response.read())


def read_all(sock):
    data = []
    while True:
        try:
            part = sock.recv(65536)
        except ConnectionResetError:
            break
        if not part:
            break
        data.append(part)
    return b"".join(data)
