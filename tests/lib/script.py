# SPDX-License-Identifier: MIT
"""Scripts of the origin: from a request target to the bytes of a reply. Pure; see origin.py.

`parse_script` reads the verbs of a path (VERBS is the whole list, with a line for each) into a
Script; `render` gives the bytes of one that needs neither time nor an abnormal end. The encoders
for brotli and zstd write stored blocks only: valid streams, which is all that a decoder's test
needs, and the standard library has none.
"""
import struct
import urllib.parse
import zlib

PATTERN = b"abcdefghijklmnopqrstuvwxyz0123456789"
REASONS = {
    200: "OK",
    204: "No Content",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    404: "Not Found",
    429: "Too Many Requests",
    503: "Service Unavailable",
}
NO_BODY = frozenset([204, 304])


def pattern(size):
    """The body of /size/N: printable, the same for each N, so that a test can compute its digest."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


def charset_text(name):
    """The text that /charset/NAME encodes: as much beyond ASCII as NAME can carry."""
    text = "Grüße aus Köln: naïve café, 東京 Привет 🙂 end\n"
    return "".join(c for c in text if _encodable(c, name))


def _encodable(char, name):
    try:
        char.encode(name)
    except (UnicodeError, LookupError):
        return False
    return True


def gzipped(data, wbits=31):
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packer.compress(data) + packer.flush()


def brotli_stored(data):
    """A valid brotli stream of uncompressed meta-blocks; the standard library has no encoder."""
    out = bytearray()
    bits, count = 0, 1  # WBITS: one 0 bit = 16
    for start in range(0, len(data), 65536):
        part = data[start : start + 65536]
        # ISLAST 0, MNIBBLES 4 (two bits 0), MLEN - 1 in 16 bits, ISUNCOMPRESSED 1
        bits |= ((len(part) - 1) << 3 | 1 << 19) << count
        count += 20
        size = (count + 7) // 8
        out += bits.to_bytes(size, "little") + part
        bits, count = 0, 0
    bits |= 3 << count  # ISLAST, ISLASTEMPTY
    return bytes(out) + bits.to_bytes((count + 9) // 8, "little")


def zstd_stored(data):
    """A valid zstd frame of raw blocks."""
    out = bytearray(b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)))
    parts = [data[i : i + 65536] for i in range(0, len(data), 65536)] or [b""]
    for i, part in enumerate(parts):
        out += (len(part) << 3 | (i == len(parts) - 1)).to_bytes(3, "little") + part
    return bytes(out)


CODINGS = {
    "gzip": gzipped,
    "deflate": lambda d: gzipped(d, 15),
    "raw-deflate": lambda d: gzipped(d, -15),
    "br": brotli_stored,
    "zstd": zstd_stored,
}


class Script:
    """What the verbs of one path add up to."""

    __slots__ = (
        "status",
        "headers",
        "body",
        "delay",
        "framing",
        "interim",
        "trailers",
        "version",
        "close",
        "drip",
        "reset_after",
        "cut_after",
        "stall_after",
        "declared",
        "codings",
        "kind",
        "arg",
        "known",
        "content_type",
        "first",
        "kept",
    )

    def __init__(self):
        self.status, self.headers, self.body, self.delay = 200, [], b"", 0.0
        self.framing, self.interim, self.trailers, self.version = "length", 0, 0, "HTTP/1.1"
        self.close, self.drip, self.declared, self.codings = False, None, None, []
        self.reset_after = self.cut_after = self.stall_after = None
        self.kind, self.arg, self.known, self.content_type = "reply", None, True, "text/plain"
        self.first = self.kept = None

    def simple(self):
        """May be kept as bytes: no waiting, no special end, nothing of the request in it."""
        return (
            self.kind == "reply"
            and not self.delay
            and not self.drip
            and not self.close
            and self.known
            and not self.first
            and not self.kept
            and self.reset_after is None
            and self.cut_after is None
            and self.stall_after is None
            and self.framing != "close"
            and len(self.body) < 1 << 20
        )


def _redirect(script, rest, query):
    """/redirect/N/to/PATH: N hops, then PATH; an absolute URL stands percent-encoded."""
    hops, _, target = rest.partition("/to/")
    hops = int(hops)
    script.status = int(query.get("code", ["302"])[0])
    suffix = "?code=%d" % script.status if hops > 1 else ""
    if hops > 1:
        location = "/redirect/%d/to/%s%s" % (hops - 1, target, suffix)
    else:
        location = urllib.parse.unquote(target)
        if "://" not in location:
            location = "/" + target
    script.headers.append(("Location", location))


def _set(**values):
    def apply(script, *_args):
        for key, value in values.items():
            setattr(script, key, value)

    return apply


def _size(script, size):
    script.body = pattern(int(size))


def _delay(script, ms):
    script.delay += int(ms) / 1000


def _ends(field):
    """How a request may end in place of an answer."""

    def apply(script, end):
        if end not in ("rst", "fin", "cut"):
            raise ValueError(end)
        setattr(script, field, end)

    return apply


def _status(script, code):
    script.status = int(code)


def _chunked(script, size):
    script.body, script.framing = pattern(int(size)), "chunked"


def _drip(script, count, ms):
    script.drip, script.framing, script.body = int(ms) / 1000, "chunked", pattern(int(count))


def _short(script, declared, sent):
    script.declared, script.body, script.cut_after = (
        int(declared),
        pattern(int(declared)),
        int(sent),
    )


def _after(name):
    def apply(script, count):
        setattr(script, name, int(count))
        if not script.body:
            script.body = pattern(int(count) + 1000)

    return apply


def _coding(name):
    def apply(script):
        script.codings.append(name)

    return apply


def _headers(script, count):
    script.headers += [("X-Field-%d" % i, "value %d" % i) for i in range(int(count))]


def _trailers(script, count):
    script.trailers, script.framing = int(count), "chunked"


def _interim(script, count):
    script.interim = int(count)


def _charset(script, name):
    script.body = charset_text(name).encode(name)
    script.content_type = "text/plain; charset=" + name


def _bomb(script, size):
    script.body = b"\0" * int(size)


def _named(kind):
    def apply(script, name):
        script.kind, script.arg = kind, urllib.parse.unquote(name)

    return apply


# verb: (number of path segments it takes, what it does to the script)
VERBS = {
    "size": (1, _size),  # /size/N: N bytes with a Content-Length
    "delay": (1, _delay),  # /delay/MS/...: wait before the head
    "status": (1, _status),  # /status/CODE/...
    "chunked": (1, _chunked),  # /chunked/N: N bytes in chunks
    "drip": (2, _drip),  # /drip/N/MS: N one-byte chunks, one each MS
    "short": (2, _short),  # /short/N/M: Content-Length N, M bytes, then FIN
    "headers": (1, _headers),  # /headers/N/...: N more fields
    "trailers": (1, _trailers),  # /trailers/N/...: chunked with N trailer fields
    "1xx": (1, _interim),  # /1xx/N/...: N times 103 before the answer
    "charset": (1, _charset),  # /charset/NAME: a text in that charset
    "bomb": (1, _bomb),  # /gzip/bomb/N: N zero bytes
    "gzip": (0, _coding("gzip")),
    "deflate": (0, _coding("deflate")),
    "raw-deflate": (0, _coding("raw-deflate")),
    "br": (0, _coding("br")),
    "zstd": (0, _coding("zstd")),
    "reset-after": (1, _after("reset_after")),  # RST after N body bytes (also /reset/after/N)
    "cut-after": (1, _after("cut_after")),  # FIN after N body bytes
    "stall-after": (1, _after("stall_after")),  # silence after N body bytes
    "close-after": (0, _set(close=True)),  # Connection: close
    "close-delimited": (0, _set(framing="close", close=True)),
    "http10": (0, _set(version="HTTP/1.0", framing="close", close=True)),
    "never": (0, _set(kind="never")),  # read the request, say nothing
    "reset": (0, _set(kind="reset")),  # RST in place of an answer
    "first": (1, _ends("first")),  # /first/rst/..., fin, cut: so ends the first request for this target
    "kept": (1, _ends("kept")),  # so ends one on a connection that has had another before
    "close": (0, _set(kind="fin")),  # FIN in place of an answer (also /close/before-head)
    "endless-head": (0, _set(kind="weird", arg="endless-head")),
    "infinite": (0, _set(kind="weird", arg="infinite-body")),
    "echo": (0, _set(kind="echo")),  # the request as JSON
    "gate": (1, _named("gate")),  # /gate/NAME/...: wait for Origin.release(NAME)
    "raw": (1, _named("raw")),  # /raw/NAME: what Origin.raw() registered
    "weird": (1, _named("weird")),  # /weird/NAME: see hostile.py
}
TWO_WORDS = {
    "/reset/after/": "/reset-after/",
    "/cut/after/": "/cut-after/",
    "/stall/after/": "/stall-after/",
    "/close/before-head": "/close",
    "/h2/once/13/": "/",  # refused over HTTP/2 alone, see http2.py
}


def parse_script(target):
    """From a request target to a Script; `known` is False where a segment is no verb."""
    script = Script()
    path, _, raw_query = target.partition("?")
    query = urllib.parse.parse_qs(raw_query, keep_blank_values=True)
    for long, short in TWO_WORDS.items():
        path = path.replace(long, short)
    try:
        _parse_path(script, path, query)
    except (ValueError, LookupError):
        script.known = False
    for value in query.get("retry-after", []):
        script.headers.append(("Retry-After", value))
    for value in query.get("header", []):
        script.headers.append(tuple(value.split(":", 1)))
    if "type" in query:
        script.content_type = query["type"][0]
    if not script.known:
        script.status, script.body, script.kind = 404, b"no such script\n", "reply"
    return script


def _parse_path(script, path, query):
    if path in ("/", "/ok"):
        script.body = b"ok\n"
        return
    segments = path.split("/")[1:]
    while segments:
        verb = segments.pop(0)
        if verb == "redirect":
            _redirect(script, "/".join(segments), query)
            return
        if verb == "redirect-to":
            script.status = int(query.get("code", ["302"])[0])
            script.headers.append(("Location", query["url"][0]))
            return
        arity, apply = VERBS[verb]
        apply(script, *(segments.pop(0) for _ in range(arity)))


def render_head(script, length):
    """The final head as bytes; length None leaves the framing to `script.framing`."""
    lines = [
        "%s %d %s" % (script.version, script.status, REASONS.get(script.status, "Status")),
        "Content-Type: " + script.content_type,
    ]
    if script.framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
    elif script.framing == "length" and script.status not in NO_BODY:
        lines.append("Content-Length: %d" % length)
    if script.codings:
        names = [coding.replace("raw-", "") for coding in script.codings]
        lines.append("Content-Encoding: " + ", ".join(names))
    if script.trailers:
        lines.append("Trailer: " + ", ".join("X-Trailer-%d" % i for i in range(script.trailers)))
    if script.close:
        lines.append("Connection: close")
    lines += ["%s: %s" % pair for pair in script.headers]
    text = "\r\n".join(lines) + "\r\n\r\n"
    return b"HTTP/1.1 103 Early Hints\r\nX-Hint: 1\r\n\r\n" * script.interim + text.encode(
        "utf-8", "surrogateescape"
    )


def encoded_body(script):
    body = script.body
    if len(body) < 1 << 20:
        return _encode(script.codings, body)
    # A large body is one repeated text: its length and beginning say what it is.
    key = (tuple(script.codings), len(body), body[:64])
    if key not in _encoded:
        _encoded[key] = _encode(script.codings, body)
    return _encoded[key]


_encoded = {}


def _encode(codings, body):
    for coding in codings:
        body = CODINGS[coding](body)
    return body


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


def last_chunk(script):
    fields = b"".join(b"X-Trailer-%d: %d\r\n" % (i, i) for i in range(script.trailers))
    return b"0\r\n" + fields + b"\r\n"


def render(script, with_body):
    """The whole reply of a simple script."""
    body = encoded_body(script)
    head = render_head(script, len(body) if script.declared is None else script.declared)
    if not with_body or script.status in NO_BODY:
        return head
    if script.framing == "chunked":
        return head + chunk(body) + last_chunk(script)
    return head + body
