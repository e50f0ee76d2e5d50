# SPDX-License-Identifier: MIT
"""Hostile upstream replies for /weird/NAME of the scripted origin.

A reply is a sequence of steps: bytes are sent, a number is that many seconds of silence, and a
word ends it: `fin` closes, `rst` resets (after a pause in which the client can read what was sent;
`rst-now` without one), `stall` says nothing more until the client leaves, `keep` leaves the
connection open for the next request. A function that yields steps stands for replies without end
or with something of the request in them. `WEIRD` is the catalogue; what a client must make of each
is said by the tests, not here.
"""
import gzip as _gzip
import zlib

if __package__:
    from . import bombs
    from .script import brotli_stored
else:
    import bombs
    from script import brotli_stored

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
UNKNOWN = (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "keep")


def _with(*fields, body=b"ok", status=b"HTTP/1.1 200 OK\r\n"):
    """A reply with these field lines added before a correct Content-Length."""
    lines = b"".join(f + b"\r\n" for f in fields)
    return status + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _framed(*fields, body=b"ok"):
    """A reply whose framing is all in `fields`."""
    return OK + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


def _coded(coding, body, *more):
    return (_with(b"Content-Encoding: " + coding, *more, body=body), "keep")


def _location(value, status=b"302 Found", *more):
    return (_with(b"Location: " + value, *more, status=b"HTTP/1.1 " + status + b"\r\n"), "keep")


def _endless(first, again):
    def steps(_seen):
        yield first
        while True:
            yield again

    return steps


def _many(first, again, count, last, end="keep"):
    def steps(_seen):
        yield first
        for _ in range(count):
            yield again
        yield last
        yield end

    return steps


def _gzip_layers(count, body):
    for _ in range(count):
        body = _gzip.compress(body, mtime=0)
    return body


_GZ = _gzip.compress(b"hello gzip " * 100, mtime=0)
_GZIP_BOMB = bombs.deflated(64 << 20)
_DEFLATE_BOMB = _gzip.compress(bytes(4 << 20), mtime=0)

WEIRD = {
    # status line and protocol
    "empty": ("fin",),
    "half-status-line": (b"HTTP/1.1 2", "fin"),
    "half-head": (OK + b"Content-Length: 5\r\n", "fin"),
    "half-head-rst": (OK + b"Content-Length: 5\r\n", "rst"),
    "half-head-stall": (OK + b"Content-Length: 5\r\n", "stall"),
    "http09": (b"<html>a body without a head</html>\n", "fin"),
    "h2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "fin"),
    "h2-settings": (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", "fin"),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", "fin"),
    "smtp": (b"220 mail.example ESMTP\r\n", "fin"),
    "garbage": (bytes(range(256)) * 8, "fin"),
    "tls-alert": (b"\x15\x03\x03\x00\x02\x02\x28", "fin"),
    "status-text": (b"HTTP/1.1 abc OK\r\n\r\n", "fin"),
    "status-0": (b"HTTP/1.1 0 Zero\r\nContent-Length: 0\r\n\r\n", "fin"),
    "status-20": (b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", "fin"),
    "status-2000": (b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", "fin"),
    "status-negative": (b"HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n", "fin"),
    "status-600": (b"HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nok", "keep"),
    "status-999": (b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", "keep"),
    "status-no-reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "keep"),
    "version-1.9": (b"HTTP/1.9 200 OK\r\nContent-Length: 2\r\n\r\nok", "fin"),
    "version-2.0": (b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "fin"),
    "version-3": (b"HTTP/3 200 OK\r\nContent-Length: 2\r\n\r\nok", "fin"),
    "version-7.7": (b"HTTP/7.7 200 OK\r\nContent-Length: 2\r\n\r\nok", "fin"),
    "101-unsolicited": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        0.05,
        "fin",
    ),
    "101-stall": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", "stall"),
    "101-then-200": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + _with(), "keep"),
    "lf-only": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "keep"),
    "blank-lines-first": (b"\r\n\r\n" + _with(), "fin"),
    # head
    "endless-head": _endless(OK, b"X-Filler: " + b"a" * 1000 + b"\r\n"),
    "endless-line": _endless(OK + b"X-Filler: ", b"a" * 4096),
    "endless-status-line": _endless(b"HTTP/1.1 200 ", b"a" * 4096),
    "head-100k-fields": _many(OK, b"a: b\r\n" * 1000, 100, b"Content-Length: 2\r\n\r\nok"),
    "head-60k": (_with(b"X-Big: " + b"a" * 60000), "keep"),
    "head-70k": (_with(b"X-Big: " + b"a" * 70000), "keep"),
    "head-drip": _endless(OK, b"X-A: b\r\n"),
    "fields-900": (_with(*[b"a: b"] * 900), "keep"),
    "fields-1001": (_with(*[b"a: b"] * 1000), "keep"),
    "cookie-flood": _many(OK, b"Set-Cookie: a=b\r\n" * 100, 100, b"Content-Length: 2\r\n\r\nok"),
    "header-nul": (_with(b"X-Nul: a\0b"), "keep"),
    "header-cr": (_with(b"X-Cr: a\rb"), "keep"),
    "header-folded": (_with(b"X-Folded: a\r\n b"), "keep"),
    "header-folded-first": (OK + b" folded: before any\r\nContent-Length: 2\r\n\r\nok", "keep"),
    "header-no-colon": (_with(b"no colon here"), "keep"),
    "header-no-name": (_with(b": value"), "keep"),
    "header-space-colon": (_with(b"X-Space : value"), "keep"),
    "header-latin1": (_with(b"X-Latin: gr\xfc\xdfe"), "keep"),
    "header-bad-utf8": (_with(b"X-Bad: \xff\xfe\xc0\x80\xed\xa0\x80"), "keep"),
    "header-utf8": (_with("X-Utf: grüße 東京".encode()), "keep"),
    "header-ctl": (_with(b"X-Ctl: \x01\x02\x1b[31m\x7f"), "keep"),
    "header-empty": (_with(b"X-Empty:"), "keep"),
    "header-twice": (_with(b"X-Two: 1", b"X-Two: 2"), "keep"),
    "content-type-bad": (_with(b'Content-Type: \xff\xfe; charset="\x80'), "keep"),
    "1xx-flood": _endless(b"", b"HTTP/1.1 103 Early Hints\r\nX-Hint: a\r\n\r\n" * 10),
    "100-flood": _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
    "1xx-stall": (b"HTTP/1.1 103 Early Hints\r\n\r\n", "stall"),
    "1xx-fin": (b"HTTP/1.1 103 Early Hints\r\n\r\n", "fin"),
    # Content-Length and framing
    "cl-negative": (_framed(b"Content-Length: -1"), "fin"),
    "cl-2-63": (_framed(b"Content-Length: 9223372036854775808"), "fin"),
    "cl-huge": (_framed(b"Content-Length: 99999999999999999999999999"), "fin"),
    "cl-max": (_framed(b"Content-Length: 9223372036854775807"), "fin"),
    "cl-two": (_framed(b"Content-Length: 2", b"Content-Length: 3"), "fin"),
    "cl-two-same": (_framed(b"Content-Length: 2", b"Content-Length: 2"), "keep"),
    "cl-list": (_framed(b"Content-Length: 2, 2"), "fin"),
    "cl-two-short": (_framed(b"Content-Length: 3", b"Content-Length: 2"), "fin"),
    "cl-list-differs": (_framed(b"Content-Length: 2, 3"), "fin"),
    "cl-list-empty": (_framed(b"Content-Length: 2,"), "fin"),
    "cl-digits-and-text": (_framed(b"Content-Length: 2s"), "fin"),
    "cl-zeros": (_framed(b"Content-Length: 0000000000000000000000002"), "keep"),
    "cl-text": (_framed(b"Content-Length: two"), "fin"),
    "cl-plus": (_framed(b"Content-Length: +2"), "fin"),
    "cl-hex": (_framed(b"Content-Length: 0x2"), "fin"),
    "cl-empty": (_framed(b"Content-Length:"), "fin"),
    "cl-and-te": (
        _framed(b"Content-Length: 2", b"Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
        "fin",
    ),
    "te-and-cl": (
        _framed(b"Transfer-Encoding: chunked", b"Content-Length: 2", body=b"2\r\nok\r\n0\r\n\r\n"),
        "fin",
    ),
    "te-unknown": (_framed(b"Transfer-Encoding: sdch"), "fin"),
    "te-identity": (_framed(b"Transfer-Encoding: identity"), "fin"),
    "te-gzip-chunked": (
        _framed(
            b"Transfer-Encoding: gzip, chunked", body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(_GZ), _GZ)
        ),
        "fin",
    ),
    "te-chunked-twice": (
        _framed(b"Transfer-Encoding: chunked, chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
        "fin",
    ),
    # body
    "infinite-body": _endless(OK + b"\r\n", b"x" * 65536),
    "infinite-chunked": _endless(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "body-short-fin": (OK + b"Content-Length: 100\r\n\r\n" + b"x" * 10, "fin"),
    "body-short-rst": (OK + b"Content-Length: 100\r\n\r\n" + b"x" * 10, "rst"),
    "body-short-stall": (OK + b"Content-Length: 100\r\n\r\n" + b"x" * 10, "stall"),
    "body-none-fin": (OK + b"Content-Length: 100\r\n\r\n", "fin"),
    "body-close-delimited": (OK + b"\r\nall of it", "fin"),
    "body-close-delimited-rst": (OK + b"\r\nsome of it", "rst"),
    "reply-then-rst": (_with(), "rst-now"),
    "body-long": (OK + b"Content-Length: 2\r\n\r\nok and more than was said", 0.02, "fin"),
    "body-then-reply": (_with() + _with(body=b"unasked"), "keep"),
    "body-on-204": (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", 0.02, "fin"),
    "body-on-304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", 0.02, "fin"),
    "body-on-head": (OK + b"Content-Length: 5\r\n\r\nhello", 0.02, "fin"),
    "304-large-cl": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500000\r\n\r\n", "keep"),
    "chunk-overflow": (CHUNKED + b"ffffffffffffffffff\r\nx", "fin"),
    "chunk-max": (CHUNKED + b"7fffffffffffffff\r\nx", "fin"),
    "chunk-bad-hex": (CHUNKED + b"xyz\r\nabc\r\n", "fin"),
    "chunk-negative": (CHUNKED + b"-5\r\nabc\r\n", "fin"),
    "chunk-no-crlf": (CHUNKED + b"3\r\nabcXX5\r\nhello\r\n0\r\n\r\n", "fin"),
    "chunk-empty-size": (CHUNKED + b"\r\n\r\n", "fin"),
    "chunk-lf": (CHUNKED + b"2\nok\n0\n\n", "fin"),
    "chunk-truncated": (CHUNKED + b"10\r\nabc", "fin"),
    "chunk-truncated-rst": (CHUNKED + b"10\r\nabc", "rst"),
    "chunk-no-last": (CHUNKED + b"2\r\nok\r\n", "fin"),
    "chunk-no-end": (CHUNKED + b"2\r\nok\r\n0\r\n", "fin"),
    "chunk-stall": (CHUNKED + b"10\r\nabc", "stall"),
    "chunk-ext": (CHUNKED + b'2;a=b;c="d"\r\nok\r\n0\r\n\r\n', "keep"),
    "chunk-ext-flood": _endless(CHUNKED, b"1;" + b"e" * 4000 + b"\r\nx\r\n"),
    "chunk-ext-endless": _endless(CHUNKED + b"1;", b"e" * 4096),
    "chunk-1-byte": (CHUNKED + b"1\r\nx\r\n" * 20000 + b"0\r\n\r\n", "keep"),
    "chunk-1-byte-endless": _endless(CHUNKED, b"1\r\nx\r\n" * 1000),
    "trailer-flood": _endless(CHUNKED + b"2\r\nok\r\n0\r\n", b"X-Trailer: a\r\n" * 100),
    "trailer-endless-line": _endless(CHUNKED + b"2\r\nok\r\n0\r\nX-Trailer: ", b"a" * 4096),
    "trailer-location": (
        b"HTTP/1.1 302 Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nLocation: /size/1\r\n\r\n",
        "keep",
    ),
    "trailer-length": (CHUNKED + b"2\r\nok\r\n0\r\nContent-Length: 77\r\n\r\n", "keep"),
    "trailer-status": (CHUNKED + b"0\r\nHTTP/1.1 404 x: Not Found\r\n\r\n", "keep"),
    "trailer-coding": (CHUNKED + b"2\r\nok\r\n0\r\nContent-Encoding: br, br, br\r\n\r\n", "keep"),
    "trailer-bad": (CHUNKED + b"2\r\nok\r\n0\r\nno colon\r\n\r\n", "fin"),
    # content coding
    "gzip-empty": _coded(b"gzip", b""),
    "gzip-garbage": _coded(b"gzip", b"this is not gzip at all, whatever the head says"),
    "gzip-truncated": _coded(b"gzip", _GZ[: len(_GZ) // 2]),
    "gzip-bad-crc": _coded(b"gzip", _GZ[:-8] + b"\0\0\0\0" + _GZ[-4:]),
    "gzip-trailing": _coded(b"gzip", _GZ + b"trailing garbage"),
    "gzip-members": _coded(b"gzip", _GZ + _GZ),
    "gzip-twice": _coded(b"gzip, gzip", _gzip_layers(2, b"twice")),
    "gzip-six": _coded(b"gzip, gzip, gzip, gzip, gzip, gzip", _gzip_layers(6, b"six")),
    "gzip-1000": _coded(b", ".join([b"gzip"] * 1000), _GZ),
    "gzip-bomb-4m": _coded(b"gzip", _DEFLATE_BOMB),
    "gzip-bomb-twice": _coded(b"gzip, gzip", _gzip.compress(_DEFLATE_BOMB, mtime=0)),
    "gzip-bomb-1000": _coded(b"gzip", _GZIP_BOMB),
    "deflate-bomb": _coded(b"deflate", bombs.deflated(64 << 20, 15)),
    "br-bomb": _coded(b"br", bombs.brotli(4)),
    "zstd-bomb": _coded(b"zstd", bombs.zstd(64 << 20)),
    "br-truncated": _coded(b"br", brotli_stored(b"hello" * 100)[:100]),
    "zstd-truncated": _coded(b"zstd", bombs.zstd(262144)[:10]),
    "gzip-three": _coded(b"gzip, gzip, gzip", _gzip_layers(3, b"three")),
    "gzip-three-fields": _coded(b"gzip", _gzip_layers(3, b"three"), *[b"Content-Encoding: gzip"] * 2),
    "gzip-in-br": _coded(b"gzip, br", b"never looked at"),
    "zstd-twice": _coded(b"zstd, zstd", b"never looked at"),
    "te-and-ce-three": (
        _framed(
            b"Content-Encoding: gzip, gzip",
            b"Transfer-Encoding: gzip, chunked",
            body=b"3\r\nabc\r\n0\r\n\r\n",
        ),
        "fin",
    ),
    "gzip-name-three": _coded(b"gzip, gzip, gzip", bombs.endless_name(64 << 20, 3)),
    "gzip-name-twice": _coded(b"gzip, gzip", bombs.endless_name(64 << 20, 2)),
    "gzip-empty-blocks": _coded(b"gzip", bombs.empty_blocks(8000)),
    "gzip-plain": _coded(b"gzip", zlib.compress(b"zlib, not gzip")),
    "x-gzip": _coded(b"x-gzip", _GZ),
    "deflate-garbage": _coded(b"deflate", b"\xff\xff\xff\xff not deflate"),
    "br-garbage": _coded(b"br", b"\xff\xff\xff\xff\xff\xff not brotli"),
    "zstd-garbage": _coded(b"zstd", b"\x28\xb5\x2f\xfd\xff\xff\xff\xff not zstd"),
    "coding-unknown": _coded(b"rot13", b"uryyb"),
    "coding-identity": _coded(b"identity", b"hello"),
    "coding-empty": _coded(b"", b"hello"),
    # redirects
    "location-none": (_with(status=b"HTTP/1.1 302 Found\r\n"), "keep"),
    "location-empty": _location(b""),
    "location-self": _location(b"/weird/location-self"),
    "location-file": _location(b"file:///etc/passwd"),
    "location-gopher": _location(b"gopher://127.0.0.1:70/_x"),
    "location-ftp": _location(b"ftp://127.0.0.1/"),
    "location-dict": _location(b"dict://127.0.0.1:11211/stat"),
    "location-javascript": _location(b"javascript:alert(1)"),
    "location-data": _location(b"data:text/plain,hello"),
    "location-metadata": _location(b"http://169.254.169.254/latest/meta-data/"),
    "location-private": _location(b"http://10.0.0.1/"),
    "location-v6-loopback": _location(b"http://[::1]:1/"),
    "location-decimal": _location(b"http://2852039166/latest/"),
    "location-mapped": _location(b"http://[::ffff:169.254.169.254]/"),
    "location-userinfo": _location(b"http://user:secret@127.0.0.1/"),
    "location-64k": _location(b"/" + b"a" * 61000),
    "location-16k": _location(b"/" + b"a" * 16000),
    "location-20k": _location(b"/" + b"a" * 20000),
    "location-64k-on-200": _location(b"/" + b"a" * 61000, b"200 OK"),
    "location-two": _location(b"/size/1", b"302 Found", b"Location: http://169.254.169.254/"),
    "location-crlf": _location(b"/size/1%0d%0aX-Injected:%20yes"),
    "location-space": _location(b"/size/5 with space"),
    "location-ctl": _location(b"/size/\x01\x02"),
    "location-bad-utf8": _location(b"/size/5?\xff\xfe"),
    "location-nul": _location(b"/size/5\0http://169.254.169.254/"),
    "location-backslash": _location(b"http:\\\\169.254.169.254\\"),
    "location-scheme-relative": _location(b"//169.254.169.254/"),
    "location-port-0": _location(b"http://127.0.0.1:0/"),
    "location-port-bad": _location(b"http://127.0.0.1:99999/"),
    "location-fragment": _location(b"/size/7#here"),
    "location-dot-dot": _location(b"../size/8"),
    "location-query": _location(b"?x=1"),
    "location-on-200": _location(b"/size/9", b"200 OK"),
    "location-on-304": (b"HTTP/1.1 304 Not Modified\r\nLocation: /size/9\r\n\r\n", "keep"),
    "location-300": _location(b"/size/9", b"300 Multiple Choices"),
    "redirect-big-body": (
        _with(b"Location: /size/3", body=b"x" * 100000, status=b"HTTP/1.1 302 Found\r\n"),
        "keep",
    ),
    "redirect-short-body": (
        b"HTTP/1.1 302 Found\r\nLocation: /size/3\r\nContent-Length: 100\r\n\r\nshort",
        "fin",
    ),
}


def steps(name, seen):
    """The steps of one reply; a name that is not in the catalogue is answered with 404."""
    reply = WEIRD.get(name, UNKNOWN)
    return reply(seen) if callable(reply) else reply
