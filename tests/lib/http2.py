# SPDX-License-Identifier: MIT
"""The scripted origin over HTTP/2: `Http2` is the protocol of a TLS port of origin.Origin.

    origin.listen(tls=context, protocol=Http2)          # context: ALPN h2, http/1.1

A client that chooses http/1.1, or nothing, gets the origin's own Connection. The paths are those of
script.py as far as they mean something here: `reset-after`, `cut-after`, `reset` and `close` end the
whole TCP connection, and with it every stream. `/h2/NAME/...` is what only HTTP/2 can do, see STREAMS;
what follows NAME and its arguments is again a path.

A stream is a task; what a client does against the protocol is remembered in `Origin.unknown`, so that
the test fails. Needs python3-h2.
"""
import asyncio
import socket

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from .origin import Connection, Seen
from .script import NO_BODY, encoded_body, parse_script, pattern

FRAME_DATA, FRAME_HEADERS, FRAME_SETTINGS, FRAME_PING, FRAME_CONTINUATION = 0, 1, 4, 6, 9
END_HEADERS = 4


def frame(kind, flags, stream, payload):
    """The bytes of a frame, whatever they say."""
    return (
        len(payload).to_bytes(3, "big")
        + bytes((kind, flags))
        + stream.to_bytes(4, "big")
        + payload
    )


def _integer(value, bits):
    """HPACK's integers (RFC 7541, 5.1), the bits before them 0."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    out, value = bytearray((most,)), value - most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes((value,))


def block(fields, status=b""):
    """Fields as literals without indexing or Huffman's code, which is slow in Python."""
    out = [status]
    for name, value in fields:
        out.append(b"\0")
        for text in (name.encode(), value.encode()):
            out.append(_integer(len(text), 7) + text)
    return b"".join(out)


def head_frames(stream, fields, status=b"\x88", end=False):
    """A head as HEADERS and CONTINUATION. status: the bytes of a field, by default :status 200."""
    data = block(fields, status)
    parts = [data[i : i + 16384] for i in range(0, len(data), 16384)]
    out = []
    for i, part in enumerate(parts):
        flags = (end and i == 0) | (END_HEADERS if i == len(parts) - 1 else 0)
        out.append(frame(FRAME_CONTINUATION if i else FRAME_HEADERS, flags, stream, part))
    return b"".join(out)


class Stream:
    """One request: the lines of its head as HTTP/1.1 would have them, its body, who answers it."""

    def __init__(self, number, headers):
        fields = dict(headers)
        self.number, self.body, self.task, self.seen = number, b"", None, None
        self.method, self.target = fields[":method"], fields[":path"]
        lines = ["%s %s HTTP/2" % (self.method, self.target), "Host: " + fields[":authority"]]
        lines += ["%s: %s" % pair for pair in headers if not pair[0].startswith(":")]
        self.raw = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


class NoWindow:
    """Mixed into Http2: what was sent is never acknowledged, so that the client's window shuts."""

    def _take(self, event):
        if isinstance(event, DataReceived):
            self.streams[event.stream_id].body += event.data
        else:
            super()._take(event)


class Http2(Connection):
    """One connection. `max_streams` is what it allows its client at a time."""

    max_streams = 100

    def __init__(self, origin, port, kind):
        super().__init__(origin, port, kind)
        self.streams, self.room = {}, asyncio.Event()
        self.goaway = None  # the client's error code
        self.parts = 0  # of answers that go on
        self.pongs = 0
        self.resets = {}  # the client's error code, by stream
        self.h2 = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )

    # asyncio's callbacks
    def connection_made(self, transport):
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
            plain = Connection(self.origin, self.port, self.kind)
            transport.set_protocol(plain)
            plain.connection_made(transport)
            return
        super().connection_made(transport)
        self.h2.initiate_connection()
        # holds once the client knows; of the first settings the library thinks otherwise
        self.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self.max_streams})
        self.flush()

    def data_received(self, data):
        self.bytes_in += len(data)
        try:
            events = self.h2.receive_data(data)
        except ProtocolError as fault:
            self.origin.unknown.append("HTTP/2: %r" % fault)
            events = []
        for event in events:
            self._take(event)
        self.flush()
        self.origin.changed()

    def connection_lost(self, exc):
        for stream in self.streams.values():
            if stream.task is not None:
                stream.task.cancel()
        super().connection_lost(exc)

    def _take(self, event):
        if isinstance(event, RequestReceived):
            stream = self.streams[event.stream_id] = Stream(event.stream_id, event.headers)
            if stream.target.startswith("/h2/early/"):
                self.h2.reset_stream(stream.number, int(stream.target[10:]))
            elif stream.target == "/h2/answered":
                self.frames(
                    frame(FRAME_HEADERS, END_HEADERS | 1, stream.number, block([(":status", "413")]))
                    + frame(3, 0, stream.number, bytes(4))
                )
        elif isinstance(event, DataReceived):
            self.streams[event.stream_id].body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self._begin(self.streams[event.stream_id])
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
            stream = self.streams[event.stream_id]
            if stream.task is not None:
                stream.task.cancel()
        elif isinstance(event, WindowUpdated):
            self.room.set()
        elif isinstance(event, PingAckReceived):
            self.pongs += 1
        elif isinstance(event, ConnectionTerminated):
            self.goaway = event.error_code

    def _begin(self, stream):
        stream.seen = Seen(self.port, self.id, stream.raw, stream.body)
        self._count(stream.seen)
        stream.task = self.origin.loop.create_task(self._play_stream(stream))

    # what streams use
    def flush(self):
        data = self.h2.data_to_send()
        if data and self.closed_at is None:
            self.send(data)

    async def _play_stream(self, stream):
        try:
            await answer(self, stream, stream.target)
            self.flush()
        except (asyncio.CancelledError, ConnectionError, ProtocolError):
            pass  # the client left, or ended the stream

    def head(self, stream, status, fields=(), end=False):
        self.h2.send_headers(stream.number, [(":status", str(status)), *fields], end_stream=end)
        self.flush()

    async def data(self, stream, data):
        """Sends as the client's windows let it."""
        while data:
            room = min(
                self.h2.local_flow_control_window(stream.number), self.h2.max_outbound_frame_size
            )
            if room <= 0:
                self.room.clear()
                await self.room.wait()
                continue
            self.h2.send_data(stream.number, data[:room])
            data = data[room:]
            self.flush()
            await self.drained()

    def end(self, stream, trailers=()):
        if trailers:
            self.h2.send_headers(stream.number, trailers, end_stream=True)
        else:
            self.h2.end_stream(stream.number)
        self.flush()

    def fin(self):
        """TLS's word of goodbye, and FIN at once: asyncio would wait for the client's."""
        self.flush()
        self.transport.close()
        self.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)

    async def until(self, predicate):
        while not predicate():
            await asyncio.sleep(0.005)

    async def read_by_client(self):
        """Until it has handed on what it was sent: it answers, and answers again."""
        for _ in range(2):
            before = self.pongs
            self.h2.ping(b"12345678")
            self.flush()
            await self.until(lambda: self.pongs > before)

    def frames(self, data):
        """Frames that the library would not make."""
        self.flush()
        self.send(data)


async def answer(conn, stream, target):
    """Plays a path on a stream."""
    if target.startswith("/h2/"):
        name, *words = target.split("?")[0][4:].split("/")
        await STREAMS[name](conn, stream, words)
        return
    script = parse_script(target)
    if not script.known:
        conn.origin.unknown.append(target)
    if script.delay:
        await asyncio.sleep(script.delay)
    if script.kind == "gate":
        await conn.origin.gate(script.arg).wait()
    if script.kind == "never":
        await asyncio.Event().wait()
    elif script.kind == "reset":
        conn.reset()
    elif script.kind == "fin":
        conn.fin()
    else:
        if script.kind == "echo":
            script.body, script.content_type = conn.echo(stream.seen), "application/json"
        await _reply(conn, stream, script)


async def _reply(conn, stream, script):
    body = encoded_body(script)
    fields = [("content-type", script.content_type)]
    if script.framing == "length" and script.status not in NO_BODY:
        fields.append(("content-length", str(len(body))))
    if script.codings:
        fields.append(("content-encoding", ", ".join(script.codings)))
    fields += [(name.lower(), value) for name, value in script.headers]
    for _ in range(script.interim):
        conn.head(stream, 103, [("x-hint", "1")])
    empty = stream.method == "HEAD" or script.status in NO_BODY
    conn.head(stream, script.status, fields, end=empty)
    if empty:
        return
    cuts = (script.reset_after, script.cut_after, script.stall_after)
    upto = min(x for x in (len(body), *cuts) if x is not None)
    await _body(conn, stream, script, body[:upto])
    if script.reset_after is not None:
        await asyncio.sleep(0.02)
        conn.reset()
    elif script.cut_after is not None:
        conn.fin()
    elif script.stall_after is None:
        conn.end(stream, [("x-trailer-%d" % i, str(i)) for i in range(script.trailers)])


async def _body(conn, stream, script, body):
    if not script.drip:
        await conn.data(stream, body)
        return
    for i in range(len(body)):
        await asyncio.sleep(script.drip)
        await conn.data(stream, body[i : i + 1])


# /h2/NAME/...


def rest(words):
    return "/" + "/".join(words)


async def _rst(conn, stream, words):
    conn.h2.reset_stream(stream.number, int(words[0]))


async def _rst_after(conn, stream, words):
    size = int(words[0])
    conn.head(stream, 200, [("content-length", str(size + 100))])
    await conn.data(stream, pattern(size))
    conn.h2.reset_stream(stream.number, int(words[1]))


async def _rst_complete(conn, stream, words):
    """The whole answer, but its end is a reset."""
    conn.head(stream, 200, [("content-length", words[0])])
    await conn.data(stream, pattern(int(words[0])))
    conn.h2.reset_stream(stream.number, ErrorCodes.NO_ERROR)


async def _once(conn, stream, words):
    """/h2/once/CODE/...: of a target's first request a reset, then the rest."""
    if conn.origin.count(stream.target) == 1:
        conn.h2.reset_stream(stream.number, int(words[0]))
    else:
        await answer(conn, stream, rest(words[1:]))


async def _together(conn, stream, words):
    """/h2/together/COUNT/BYTES: heads alone, of so many bytes, of all of COUNT streams in one piece."""
    waiting = conn.together = getattr(conn, "together", [])
    waiting.append(stream.number)
    if len(waiting) < int(words[0]):
        return
    for number in waiting:
        pad = "%d-" % number + "~" * int(words[1])
        conn.h2.send_headers(number, [(":status", "204"), ("x-pad", pad)], end_stream=True)
    waiting.clear()
    conn.flush()


async def _once_after(conn, stream, words):
    """/h2/once-after/HOW/CODE/...: the same after a hint, a head, or some of a body."""
    if conn.origin.count(stream.target) > 1:
        await answer(conn, stream, rest(words[2:]))
        return
    if words[0] == "hint":
        await _raw_head(conn, stream, [(b":status", b"103")])
    else:
        conn.head(stream, 200)
    if words[0] == "body":
        await conn.data(stream, b"first")
    conn.h2.reset_stream(stream.number, int(words[1]))


async def _first(conn, stream, words):
    """/h2/first/COUNT/CODE/...: of a target's first requests a reset, then the rest."""
    if conn.origin.count(stream.target) <= int(words[0]):
        conn.h2.reset_stream(stream.number, int(words[1]))
    else:
        await answer(conn, stream, rest(words[2:]))


def _goaway_frame(last, code):
    return frame(7, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


async def _goaway(conn, stream, words):
    """/h2/goaway/CODE/...: no more streams after this one, which is answered by the rest."""
    conn.frames(_goaway_frame(stream.number, int(words[0])))
    await answer(conn, stream, rest(words[1:]))


async def _goaway_before(conn, stream, words):
    """/h2/goaway-before/CODE: this stream and later ones were not looked at; then the connection ends."""
    conn.frames(_goaway_frame(max(0, stream.number - 2), int(words[0])))
    conn.fin()


async def _goaway_once(conn, stream, words):
    """/h2/goaway-once/CODE/...: the same of a target's first request, then the rest."""
    if conn.origin.count(stream.target) == 1:
        await _goaway_before(conn, stream, words)
    else:
        await answer(conn, stream, rest(words[1:]))


async def _goaway_within(conn, stream, words):
    """/h2/goaway-within/CODE: in the middle of the answer; then the connection ends."""
    conn.head(stream, 200, [("content-length", "100")])
    await conn.data(stream, pattern(10))
    conn.frames(_goaway_frame(stream.number, int(words[0])))
    conn.fin()


async def _length(conn, stream, words):
    """/h2/length/SAID/SENT"""
    conn.head(stream, 200, [("content-length", words[0])])
    await conn.data(stream, pattern(int(words[1])))
    conn.end(stream)


def _many(words):
    return [("x-field-%d" % i, "v" * int(words[1])) for i in range(int(words[0]))]


async def _fields(conn, stream, words):
    """/h2/fields/COUNT/BYTES: so many fields of so many bytes."""
    conn.frames(head_frames(stream.number, _many(words), end=True))


async def _trailers(conn, stream, words):
    """/h2/trailers/COUNT/BYTES"""
    conn.head(stream, 200)
    await conn.data(stream, b"ok")
    conn.frames(head_frames(stream.number, _many(words), b"", end=True))


async def _continuation(conn, stream, _words):
    """A head that never ends, in fields that take one byte each (:status 200 of the static table, then
    accept-encoding: gzip, deflate)."""
    conn.frames(frame(FRAME_HEADERS, 0, stream.number, b"\x88"))
    while True:
        conn.frames(frame(FRAME_CONTINUATION, 0, stream.number, b"\x90" * 1000))
        await conn.drained()


async def _hints(conn, stream, _words):
    while True:
        conn.head(stream, 103, [("x-hint", "v" * 100)])
        await conn.drained()


async def _raw_head(conn, stream, fields):
    conn.h2.send_headers(stream.number, fields)
    conn.flush()
    await conn.data(stream, b"ok")
    conn.end(stream)


HEADS = {
    "no-status": [("content-type", "text/plain")],
    "status-twice": [(":status", "200"), (":status", "404")],
    "status-text": [(":status", "abc")],
    "status-2000": [(":status", "2000")],
    "status-late": [("content-type", "text/plain"), (":status", "200")],
    "upper-case": [(":status", "200"), ("X-Upper", "1")],
    "connection": [(":status", "200"), ("connection", "close")],
    "transfer-encoding": [(":status", "200"), ("transfer-encoding", "chunked")],
    "pseudo": [(":status", "200"), (":path", "/")],
    "newline": [(":status", "200"), ("x-a", "b\r\nx-injected: 1")],
    "nul": [(":status", "200"), ("x-a", "b\0c")],
    "length-text": [(":status", "200"), ("content-length", "two")],
    "length-twice": [(":status", "200"), ("content-length", "2"), ("content-length", "3")],
    "length-huge": [(":status", "200"), ("content-length", "99999999999999999999")],
    "101": [(":status", "101")],
    "empty-name": [(":status", "200"), ("", "x")],
}


async def _coded(conn, stream, words):
    """/h2/coded/CODING: two bytes that say they are packed."""
    await _raw_head(conn, stream, [(":status", "200"), ("content-encoding", words[0])])


async def _head(conn, stream, words):
    """/h2/head/NAME: a head of HEADS."""
    await _raw_head(conn, stream, HEADS[words[0]])


FRAMES = {
    "garbage": lambda n: b"\xff" * 100,
    "too-long": lambda n: frame(FRAME_DATA, 0, n, b"x" * 20000),
    "data-first": lambda n: frame(FRAME_DATA, 1, n, b"ok"),
    "data-on-0": lambda n: frame(FRAME_DATA, 0, 0, b"ok"),
    "stream-unknown": lambda n: frame(FRAME_HEADERS, 5, n + 2, b"\x88"),
    "stream-even": lambda n: frame(FRAME_HEADERS, 5, 2, b"\x88"),
    "hpack": lambda n: frame(FRAME_HEADERS, 5, n, b"\xff\xff\xff\xff\xff\xff"),
    "settings": lambda n: frame(FRAME_SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),
    "window": lambda n: frame(8, 0, n, b"\x7f\xff\xff\xff") * 2,
    "window-0": lambda n: frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "push": lambda n: frame(5, END_HEADERS, n, b"\0\0\0\2" + b"\x82\x84\x87\x01\x01a"),
    "http1": lambda n: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "unknown-kind": lambda n: frame(0x77, 0, n, b"?") + frame(FRAME_HEADERS, 5, n, b"\x88"),
    "end-twice": lambda n: frame(FRAME_HEADERS, 5, n, b"\x88") + frame(FRAME_DATA, 1, n, b"x"),
}


async def _frame(conn, stream, words):
    """/h2/frame/NAME: bytes of FRAMES in place of an answer."""
    conn.frames(FRAMES[words[0]](stream.number))


# Each breaks the connection in the middle of an answer.
BREAKS = {
    "window-0": lambda n: frame(8, 0, 0, bytes(4)),
    "window-0-of-stream": lambda n: frame(8, 0, n, bytes(4)),
    "window-overflow": FRAMES["window-0"],
    "settings-length": lambda n: frame(FRAME_SETTINGS, 0, 0, b"abc"),
    "settings-window": FRAMES["settings"],
    "settings-ack": lambda n: frame(FRAME_SETTINGS, 1, 0, b"") * 3,
    "ping-length": lambda n: frame(FRAME_PING, 0, 0, b"123"),
    "data-on-0": FRAMES["data-on-0"],
    "data-idle": lambda n: frame(FRAME_DATA, 0, n + 200, b"x"),
    "push": FRAMES["push"],
    "hpack": FRAMES["hpack"],
    "too-long": lambda n: frame(FRAME_DATA, 0, n, b"x" * 40000),
    "continuation": lambda n: frame(FRAME_CONTINUATION, END_HEADERS, n, b""),
    "rst-idle": lambda n: frame(3, 0, n + 200, bytes(4)),
    "rst-length": lambda n: frame(3, 0, n, b"x"),
    "goaway-short": lambda n: frame(7, 0, 0, b"x"),
    "stream-even": FRAMES["stream-even"],
    "padding": lambda n: frame(FRAME_DATA, 8, n, b"\xffx"),
    "trailers-go-on": lambda n: frame(FRAME_HEADERS, 0, n, b"") + frame(FRAME_DATA, 1, n, b""),
    "garbage": FRAMES["garbage"],
}


async def _part(conn, stream, _words):
    """/h2/part/...: the first half of an answer without a length."""
    conn.head(stream, 200)
    await conn.data(stream, b"first ")
    conn.parts += 1
    await asyncio.Event().wait()


async def _broken(conn, stream, words):
    """/h2/broken/NAME/COUNT: when so many have their part, half an answer without a length; once that
    was read, a frame of BREAKS. The connection ends when the client says so."""
    await conn.until(lambda: conn.parts >= int(words[1]))
    conn.head(stream, 200)
    await conn.data(stream, b"half of it")
    await conn.read_by_client()
    conn.frames(BREAKS[words[0]](stream.number))
    await conn.until(lambda: conn.goaway is not None)
    conn.fin()


async def _left_open(conn, stream, words):
    """/h2/left-open/NAME/COUNT: as broken, but the connection does not end."""
    await conn.until(lambda: conn.parts >= int(words[1]))
    conn.frames(BREAKS[words[0]](stream.number))
    await asyncio.Event().wait()


async def _half(conn, stream, words):
    """/h2/half/STATUS/CODING: a part of an answer without a length; once that was read, RST_STREAM with
    NO_ERROR."""
    coded = encoded_body(parse_script("/gzip/size/5000"))
    fields = [("location", "/size/3")] if words[0] == "302" else []
    fields += [("content-encoding", "gzip")] if words[1] == "gzip" else []
    conn.head(stream, int(words[0]), fields)
    await conn.data(stream, coded[: len(coded) // 2] if words[1] == "gzip" else b"half of it")
    await conn.read_by_client()
    conn.h2.reset_stream(stream.number, ErrorCodes.NO_ERROR)
    conn.flush()


def _status(number):
    return block([(":status", str(number))])


def _ok_then(rest_of_it, *fields):
    return lambda n: head_frames(n, fields) + rest_of_it(n)


# Whole answers, as they may be sent too. Those of LENGTHS and a HEAD's need no END_STREAM.
WHOLE = {
    "head": lambda n: head_frames(n, [], end=True),
    "long-head": lambda n: head_frames(n, [("x", "y" * 20000)], end=True),
    "empty-data": _ok_then(lambda n: frame(FRAME_DATA, 1, n, b"")),
    "padded": _ok_then(lambda n: frame(FRAME_DATA, 9, n, b"\3ok\0\0\0")),
    "end-alone": _ok_then(lambda n: frame(0, 0, n, b"ok") + frame(0, 1, n, b"")),
    "trailers": _ok_then(lambda n: frame(0, 0, n, b"ok") + head_frames(n, [("x", "y")], b"", True)),
    "hints": lambda n: head_frames(n, [], _status(103)) + head_frames(n, []) + frame(0, 1, n, b"ok"),
    "redirect": lambda n: head_frames(n, [("location", "/size/2")], _status(302))
    + frame(0, 1, n, b"moved"),
    "error": lambda n: head_frames(n, [], _status(500)) + frame(0, 1, n, b"no"),
}
LENGTHS = {
    "length": _ok_then(lambda n: frame(0, 0, n, b"ok"), ("content-length", "2")),
    "length-0": _ok_then(lambda n: b"", ("content-length", "0")),
    "204": lambda n: head_frames(n, [], _status(204)),
    "304": lambda n: head_frames(n, [], _status(304)),
}


async def _whole(conn, stream, words):
    """/h2/whole/NAME: an answer of WHOLE or LENGTHS, or only a head; once that was read, RST_STREAM with
    NO_ERROR."""
    sent = (WHOLE | LENGTHS).get(words[0]) or _ok_then(lambda n: b"")
    conn.frames(sent(stream.number))
    await conn.read_by_client()
    conn.frames(frame(3, 0, stream.number, bytes(4)))


async def _last(conn, stream, words):
    """/h2/last/NAME: a whole answer, and with it a frame of BREAKS."""
    whole = WHOLE["end-alone"](stream.number)
    conn.frames(whole + BREAKS[words[0]](stream.number))
    await conn.until(lambda: conn.goaway is not None)
    conn.fin()


async def _flood(conn, stream, words):
    """/h2/flood/NAME: thousands of ping, settings or empty data, and nothing else. Not without end: the
    answers to them keep a server in Python busy."""
    kinds = {
        "ping": frame(FRAME_PING, 0, 0, b"12345678"),
        "settings": frame(FRAME_SETTINGS, 0, 0, b""),
        "empty-data": frame(FRAME_DATA, 0, stream.number, b""),
    }
    if words[0] == "empty-data":
        conn.head(stream, 200)
    for _ in range(40):
        conn.frames(kinds[words[0]] * 100)
        await conn.drained()
    await asyncio.Event().wait()


async def _flood_once(conn, stream, words):
    """/h2/flood-once/...: for a target's first request more settings than libcurl takes, then the rest."""
    if conn.origin.count(stream.target) > 1:
        await answer(conn, stream, rest(words))
        return
    conn.frames(frame(FRAME_SETTINGS, 0, 0, b"") * 6000)
    await conn.until(lambda: conn.goaway is not None)


STREAMS = {
    "rst": _rst,  # /h2/rst/CODE
    "rst-after": _rst_after,  # /h2/rst-after/N/CODE
    "rst-complete": _rst_complete,  # /h2/rst-complete/N
    "once": _once,
    "once-after": _once_after,
    "together": _together,
    "first": _first,
    "goaway": _goaway,
    "goaway-before": _goaway_before,
    "goaway-once": _goaway_once,
    "goaway-within": _goaway_within,
    "length": _length,
    "fields": _fields,
    "trailers": _trailers,
    "continuation": _continuation,
    "hints": _hints,
    "coded": _coded,
    "head": _head,
    "frame": _frame,
    "flood": _flood,
    "flood-once": _flood_once,  # /h2/flood-once/...
    "part": _part,
    "broken": _broken,
    "left-open": _left_open,
    "half": _half,
    "whole": _whole,
    "last": _last,
}
