#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The scripted origin: an HTTP/1.1 server whose behaviour stands in the path.

What it is for: a test says in the URL what the upstream shall do, and asks the origin afterwards
what it saw.  Verbs are written one after the other and are composable:

    /delay/200/size/4096            200 ms before the head, then 4096 bytes
    /status/503/size/10?retry-after=1
    /gzip/chunked/1000              1000 bytes, gzip, chunked
    /1xx/3/headers/20/size/5        three 1xx answers, twenty extra fields, 5 bytes

`VERBS` of script.py is the whole list with a line for each; `hostile.py` adds `/weird/NAME`, raw and
malformed replies.  Query parameters that every path understands: `retry-after=S`,
`header=Name:Value` (repeatable), `type=MEDIA-TYPE`; others are ignored, so `?n=17` makes a URL
unique.  A path that is no script is answered with 404 and remembered in `Origin.unknown`.

How it runs: `Origin().start()` turns an asyncio loop in a thread of the test process;
`python3 origin.py --port 0` is the same as a program (control by `/-/stats`, `/-/seen`,
`/-/reset`).  Everything that counts is written by the loop's thread alone and only read by the
test; a test waits for an event with `Origin.wait()`, never by sleeping.

The one trick: a reply that depends on nothing but its request line is built once and kept as
bytes, which is what makes ten thousand requests a second possible in Python.
"""
import argparse
import asyncio
import base64
import collections
import itertools
import json
import os
import signal
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse

if __package__:
    from . import hostile
    from .script import (
        NO_BODY,
        chunk,
        encoded_body,
        last_chunk,
        parse_script,
        render,
        render_head,
    )
else:
    import hostile
    from script import NO_BODY, chunk, encoded_body, last_chunk, parse_script, render, render_head

HEAD_LIMIT = 4 << 20
# A reset must not overtake the bytes before it: the client gets this long to read them.
RESET_PAUSE_S = 0.02


class Seen:
    """One request as it arrived. The head is parsed when a test looks at it."""

    __slots__ = ("port", "conn", "at", "raw", "body")

    def __init__(self, port, conn, raw, body=b""):
        self.port, self.conn, self.raw, self.body = port, conn, raw, body
        self.at = time.monotonic()

    @property
    def method(self):
        return self.raw.split(b" ", 1)[0].decode("latin-1")

    @property
    def target(self):
        return self.raw.split(b"\r\n", 1)[0].split(b" ")[1].decode("latin-1")

    @property
    def path(self):
        return self.target.split("?", 1)[0]

    @property
    def headers(self):
        """[(name, value)] in order, as sent."""
        pairs = []
        for line in self.raw.rstrip(b"\r\n").split(b"\r\n")[1:]:
            name, _, value = line.decode("latin-1").partition(":")
            pairs.append((name, value.strip(" \t")))
        return pairs

    def header(self, name):
        """The values of one field, whatever its case."""
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def __repr__(self):
        return "<%s %s port %d conn %d>" % (self.method, self.target, self.port, self.conn)


class Connection(asyncio.Protocol):
    """One client connection: parses requests one after the other, plays their scripts."""

    def __init__(self, origin, port, kind):
        self.origin, self.port, self.kind = origin, port, kind
        self.buffer = bytearray()
        self.task = self.transport = None
        self.writable = asyncio.Event()
        self.writable.set()
        self.opened_at, self.fin_at, self.closed_at = time.monotonic(), None, None
        self.requests = self.bytes_in = self.bytes_out = 0
        self.id = 0

    # asyncio's callbacks
    def connection_made(self, transport):
        self.transport = transport
        self.origin.connections.append(self)
        self.id = next(self.origin.numbers)
        self.origin.open.add(self)
        self.origin.changed()
        if self.kind == "reset-accept":
            self.reset()
        elif self.kind == "close-accept":
            transport.close()
        elif self.kind == "garbage":
            self.send(bytes(range(256)) * 4)

    def data_received(self, data):
        self.bytes_in += len(data)
        if self.kind != "http":
            if self.kind == "reset-data":
                self.reset()
            elif self.kind == "bad-request":
                self.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                self.transport.close()
            elif self.kind == "close-data":
                self.transport.close()
            return
        if not self.buffer and self.task is None:
            end = data.find(b"\r\n")
            reply = self.origin.cache.get(data[:end])
            if (
                reply is not None
                and data.find(b"\r\n\r\n") == len(data) - 4
                and b"ength:" not in data
                and b": close" not in data
            ):
                self._count(Seen(self.port, self.id, data))
                self.send(reply)
                return
        self.buffer += data
        if self.task is None:
            self._next()

    def eof_received(self):
        self.fin_at = time.monotonic()
        self.origin.changed()
        return False

    def connection_lost(self, exc):
        self.closed_at = time.monotonic()
        if self.fin_at is None:
            self.fin_at = self.closed_at
        if self.task is not None:
            self.task.cancel()
        self.writable.set()
        self.origin.open.discard(self)
        self.origin.changed()

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()

    # what scripts use
    def send(self, data):
        self.bytes_out += len(data)
        self.transport.write(data)

    async def drained(self):
        """Waits for room and lets the loop turn; ends the script when the client has gone."""
        await asyncio.sleep(0)
        await self.writable.wait()
        if self.closed_at is not None:
            raise asyncio.CancelledError

    def cut(self):
        """FIN without TLS's word of goodbye."""
        self.transport.abort()

    def below_tls(self, data):
        """Bytes on the socket itself."""
        os.write(self.transport.get_extra_info("socket").fileno(), data)

    def reset(self):
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    # requests
    def _count(self, seen):
        self.requests += 1
        self.origin.seen.append(seen)
        self.origin.changed()

    def _next(self):
        """Takes the next whole request out of the buffer, if there is one."""
        while self.task is None and self.buffer and not self.transport.is_closing():
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self.buffer) > HEAD_LIMIT:
                    self.reset()
                return
            head = bytes(self.buffer[: end + 4])
            body, used = self._body(head, end + 4)
            if body is None:
                return
            del self.buffer[:used]
            seen = Seen(self.port, self.id, head, body)
            self._count(seen)
            self._answer(seen)

    def _body(self, head, start):
        """(body, end of the request in the buffer), or (None, 0) while bytes are missing."""
        fields = {}
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            fields[name.strip().lower()] = value.strip()
        if b"expect" in fields and len(self.buffer) == start:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            return self._chunks(start)
        size = int(fields.get(b"content-length", b"0"))
        if len(self.buffer) < start + size:
            return None, 0
        return bytes(self.buffer[start : start + size]), start + size

    def _chunks(self, at):
        body = b""
        while True:
            line_end = self.buffer.find(b"\r\n", at)
            if line_end < 0:
                return None, 0
            size = int(self.buffer[at:line_end].split(b";")[0], 16)
            if len(self.buffer) < line_end + 2 + size + 2:
                return None, 0
            body += self.buffer[line_end + 2 : line_end + 2 + size]
            at = line_end + 2 + size + 2
            if size == 0:
                return body, at

    def _answer(self, seen):
        if seen.target.startswith("/-/"):
            self.send(self.origin.control(seen))
            return
        script = parse_script(seen.target)
        if not script.known:
            self.origin.unknown.append(seen.target)
        lower = seen.raw.lower()
        if b"\r\nconnection: close\r\n" in lower or b" http/1.0\r\n" in lower:
            script.close = True
        if script.simple():
            reply = render(script, seen.method != "HEAD")
            if seen.method == "GET":
                self.origin.remember(seen.raw.split(b"\r\n", 1)[0], reply)
            self.send(reply)
            return
        self.task = self.origin.loop.create_task(self._play(seen, script))

    async def _play(self, seen, script):
        try:
            await self._run(seen, script)
        except (asyncio.CancelledError, ConnectionError):
            return
        finally:
            self.task = None
        if script.close:
            self.transport.close()
        elif self.closed_at is None:
            self._next()

    async def _run(self, seen, script):
        if script.delay:
            await asyncio.sleep(script.delay)
        if script.first and self.origin.count(seen.target) == 1:
            script.kind = {"rst": "reset"}.get(script.first, script.first)
        if script.kept and self.requests > 1:
            script.kind = {"rst": "reset"}.get(script.kept, script.kept)
        if script.kind == "gate":
            await self.origin.gate(script.arg).wait()
            script.kind = "reply"
        if script.kind == "never":
            await asyncio.Event().wait()
        elif script.kind == "reset":
            self.reset()
        elif script.kind == "cut":
            self.cut()
        elif script.kind == "fin":
            script.close = True
        elif script.kind == "echo":
            script.body, script.content_type = self.echo(seen), "application/json"
            await self._reply(seen, script)
        elif script.kind in ("raw", "weird"):
            await self._steps(seen, script)
        else:
            await self._reply(seen, script)

    def echo(self, seen):
        return json.dumps(
            {
                "method": seen.method,
                "path": seen.target,
                "headers": seen.headers,
                "body": base64.b64encode(seen.body).decode(),
            }
        ).encode()

    async def _steps(self, seen, script):
        """Raw replies: bytes are sent, a bytearray below TLS, numbers are seconds of silence, words end
        the connection."""
        if script.kind == "raw":
            steps = self.origin.raws.get(script.arg, hostile.UNKNOWN)
        else:
            steps = hostile.steps(script.arg, seen)
        for step in steps:
            if isinstance(step, bytes):
                self.send(step)
                await self.drained()
            elif isinstance(step, bytearray):
                self.below_tls(step)
            elif isinstance(step, (int, float)):
                await asyncio.sleep(step)
            elif step in ("rst", "rst-now"):
                await asyncio.sleep(RESET_PAUSE_S if step == "rst" else 0)
                self.reset()
                return
            elif step == "stall":
                await asyncio.Event().wait()
            elif step == "cut":
                self.cut()
                return
            elif step == "fin":
                script.close = True
                return
            elif step != "keep":
                raise ValueError("unknown step %r" % (step,))

    async def _reply(self, seen, script):
        with_body = seen.method != "HEAD" and script.status not in NO_BODY
        body = encoded_body(script)
        self.send(render_head(script, len(body) if script.declared is None else script.declared))
        if not with_body:
            return
        end = min(
            x
            for x in (len(body), script.reset_after, script.cut_after, script.stall_after)
            if x is not None
        )
        await self._send_body(script, body[:end])
        if script.reset_after is not None:
            await asyncio.sleep(RESET_PAUSE_S)
            self.reset()
        elif script.stall_after is not None:
            await asyncio.Event().wait()
        elif script.cut_after is not None:
            script.close = True
        elif script.framing == "chunked":
            self.send(last_chunk(script))

    async def _send_body(self, script, body):
        size = 1 if script.drip else 65536
        for start in range(0, len(body), size):
            part = body[start : start + size]
            if script.drip:
                await asyncio.sleep(script.drip)
            self.send(chunk(part) if script.framing == "chunked" else part)
            await self.drained()


class Origin:
    """The server. Ports are opened with `listen`; the first plain one is `port`.

    Kinds of ports: `http` (scripts), `reset-accept` (RST on accept), `close-accept` (FIN on
    accept), `silent` (accept, read, say nothing), `close-data` and `reset-data` (end at the first
    byte from the client, e.g. in a TLS handshake), `bad-request` (400 to whatever comes, as of an
    HTTP server that TLS is spoken to), `garbage` (256 byte values at once).
    """

    def __init__(self):
        self.loop, self.thread, self.port = None, None, None
        self.cache, self.raws, self.gates, self.servers = {}, {}, {}, []
        self.connections, self.seen, self.unknown, self.open = [], [], [], set()
        self.numbers = itertools.count(1)  # of connections, ever
        self.condition, self.waiting = threading.Condition(), 0

    # life
    def start(self):
        ready = threading.Event()
        self.thread = threading.Thread(target=self._main, args=(ready,), name="origin", daemon=True)
        self.thread.start()
        ready.wait(10)
        self.port = self.listen()
        return self

    def _main(self, ready):
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        # A client that leaves in a handshake is what tests are about, not news.
        self.loop.set_exception_handler(lambda loop, context: None)
        self.loop.call_soon(ready.set)
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def stop(self):
        if self.thread is None:
            return
        self.loop.call_soon_threadsafe(self._close)
        self.thread.join(10)
        self.thread = None

    def _close(self):
        for server in self.servers:
            server.close()
        for connection in list(self.open):
            connection.transport.abort()
        self.loop.call_soon(self.loop.stop)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_exc):
        self.stop()

    def listen(self, kind="http", tls=None, host="127.0.0.1", port=0, protocol=Connection):
        """Opens one more port and returns its number. tls: an ssl.SSLContext."""
        return self._call(self._listen(kind, tls, host, port, protocol))

    async def _listen(self, kind, tls, host, port, protocol):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # With the protocol named, asyncio sets TCP_NODELAY on what it accepts.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        number = sock.getsockname()[1]
        server = await self.loop.create_server(
            lambda: protocol(self, number, kind), sock=sock, ssl=tls, backlog=4096
        )
        self.servers.append(server)
        return number

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    # scripts
    def url(self, path="/ok", port=None, host="127.0.0.1", scheme="http"):
        return "%s://%s:%d%s" % (
            scheme,
            "[%s]" % host if ":" in host else host,
            port or self.port,
            path,
        )

    def raw(self, name, *steps):
        """Registers /raw/NAME: bytes, seconds, and at last `fin`, `rst`, `cut`, `stall` or `keep`."""
        self.raws[name] = steps
        return self.url("/raw/" + urllib.parse.quote(name, safe=""))

    def gate(self, name):
        if name not in self.gates:
            self.gates[name] = asyncio.Event()
        return self.gates[name]

    def release(self, name):
        """Lets everything through that waits, or will wait, at /gate/NAME."""
        self.loop.call_soon_threadsafe(lambda: self.gate(name).set())

    def remember(self, request_line, reply):
        if len(self.cache) < 20000:
            self.cache[request_line] = reply

    # what a test may ask
    @property
    def accepted(self):
        return len(self.connections)

    def paths(self):
        """How often each path was asked for."""
        return collections.Counter(seen.path for seen in list(self.seen))

    def count(self, target):
        """How often exactly this target was asked for."""
        return sum(seen.target == target for seen in list(self.seen))

    def requests(self, path):
        """The requests whose target starts with path."""
        return [seen for seen in list(self.seen) if seen.target.startswith(path)]

    def reset(self):
        """Forgets what was seen; open connections stay, and keep their numbers."""

        async def clear():
            self.seen, self.unknown, self.gates = [], [], {}
            self.connections = []

        self._call(clear())

    def close_all(self):
        """Closes every connection from this side, as a restarting upstream would."""
        self.loop.call_soon_threadsafe(lambda: [c.transport.abort() for c in list(self.open)])
        assert self.wait(lambda: not self.open)

    def changed(self):
        if self.waiting:
            with self.condition:
                self.condition.notify_all()

    def busy(self):
        """The connections with a request that is being answered."""
        return [connection for connection in list(self.open) if connection.task is not None]

    def wait(self, predicate, timeout=10.0):
        """Waits until predicate() holds; looks again at each event. Returns its last value."""
        with self.condition:
            self.waiting += 1
            try:
                deadline = time.monotonic() + timeout
                while not predicate():
                    left = deadline - time.monotonic()
                    if left <= 0:
                        break
                    self.condition.wait(min(left, 0.05))
            finally:
                self.waiting -= 1
        return predicate()

    def control(self, seen):
        """/-/stats, /-/seen and /-/reset, for the origin as a program. They count themselves."""
        if seen.path == "/-/reset":
            self.seen, self.unknown, self.connections, self.gates = [], [], [], {}
            answer = {}
        elif seen.path == "/-/seen":
            answer = [
                {"method": s.method, "target": s.target, "headers": s.headers} for s in self.seen
            ]
        else:
            answer = {
                "accepted": self.accepted,
                "open": len(self.open),
                "requests": len(self.seen),
                "paths": self.paths(),
                "unknown": self.unknown,
                "bytes_in": sum(c.bytes_in for c in self.connections),
                "bytes_out": sum(c.bytes_out for c in self.connections),
            }
        body = json.dumps(answer).encode()
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )


class Blackhole:
    """A port whose SYNs are dropped: its accept queue is full and nobody accepts."""

    def __init__(self, host="127.0.0.1", port=0):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.bind((host, port))
        self.socket.listen(0)
        self.port = self.socket.getsockname()[1]
        self.fill = []
        for _ in range(4):
            sock = socket.socket(family)
            sock.setblocking(False)
            sock.connect_ex((host, self.port))
            self.fill.append(sock)

    def close(self):
        for sock in self.fill + [self.socket]:
            sock.close()


class ClosedPort:
    """A port that refuses: bound, so that nobody else gets it, and never listening."""

    def __init__(self, host="127.0.0.1"):
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket.bind((host, 0))
        self.port = self.socket.getsockname()[1]

    def close(self):
        self.socket.close()


def main(argv=None):
    parser = argparse.ArgumentParser(description="scripted HTTP origin; see the top of this file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, action="append", help="0 = any; may be repeated")
    parser.add_argument("--tls", metavar="CERT,KEY", help="all ports speak TLS")
    options = parser.parse_args(argv)
    context = None
    if options.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*options.tls.split(","))
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    origin = Origin()
    with origin:
        ports = [origin.listen("http", context, options.host, port) for port in options.port or [0]]
        print(json.dumps({"pid": os.getpid(), "ports": ports}), flush=True)
        end.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
