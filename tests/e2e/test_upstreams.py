# SPDX-License-Identifier: MIT
"""Hostile upstreams: each behaviour gives one stable outcome, and its neighbour is unhurt.

Each table says for each script of the origin what a member ends with, in the words of
tests/lib/judge.py: a status, or error type and phase.
"""
import gzip
import random

import pytest

from lib import bombs, hostile, origin as origin_module, proc
from lib.judge import CONNECT_MS, SHORT_MS, judge, matches, member, outcome

# The shapes that most of them have; each with one phase.
INCOMPLETE = "http_response_incomplete receive"
PROTOCOL = "http_protocol_error receive"
PROTOCOL_WAIT = "http_protocol_error wait"
HEAD_SIZE = "http_response_header_section_size receive"
GONE = "connection_terminated wait"
CUT = "connection_terminated receive"
CODING = "http_response_content_coding receive"
TIMEOUT_HEAD = "http_response_timeout wait"
TIMEOUT_BODY = "http_response_timeout receive"
BAD_LOCATION = "url_invalid receive"
DENIED = "destination_ip_prohibited queue"

WEIRD = {
    "empty": GONE,
    "half-status-line": GONE + "|http_response_incomplete *",
    "half-head": INCOMPLETE + "|connection_terminated *",
    "half-head-rst": CUT + "|http_response_incomplete *",
    "half-head-stall": TIMEOUT_BODY,
    "http09": PROTOCOL_WAIT,
    "h2-preface": PROTOCOL_WAIT,
    "h2-settings": PROTOCOL_WAIT,
    "ssh": PROTOCOL_WAIT,
    "smtp": PROTOCOL_WAIT,
    "garbage": PROTOCOL_WAIT,
    "tls-alert": PROTOCOL_WAIT,
    "status-text": PROTOCOL_WAIT,
    "status-0": PROTOCOL_WAIT,
    "status-20": PROTOCOL_WAIT,
    "status-2000": PROTOCOL_WAIT,
    "status-negative": PROTOCOL_WAIT,
    "status-600": "600|http_protocol_error *",
    "status-999": "999|http_protocol_error *",
    "status-no-reason": "200",
    "version-1.9": PROTOCOL_WAIT,
    "version-2.0": PROTOCOL,
    "version-3": PROTOCOL_WAIT,
    "version-7.7": PROTOCOL_WAIT,
    "101-unsolicited": PROTOCOL + "|connection_terminated *|http_response_incomplete *",
    "lf-only": "200",
    "blank-lines-first": PROTOCOL_WAIT + "|200",
    "endless-head": HEAD_SIZE,
    "endless-line": HEAD_SIZE + "|http_protocol_error *",
    "endless-status-line": "http_response_header_section_size wait|http_protocol_error *",
    "head-100k-fields": HEAD_SIZE,
    "head-60k": "200",
    "head-70k": HEAD_SIZE,
    "head-drip": HEAD_SIZE,
    "header-nul": PROTOCOL,
    "header-cr": "200|http_protocol_error *",
    "header-folded": "200",
    "header-folded-first": PROTOCOL,
    "header-no-colon": PROTOCOL,
    "header-no-name": "200|http_protocol_error *",
    "header-space-colon": "200|http_protocol_error *",
    "header-latin1": "200",
    "header-bad-utf8": "200",
    "header-utf8": "200",
    "header-ctl": "200|http_protocol_error *",
    "header-empty": "200",
    "header-twice": "200",
    "content-type-bad": "200",
    "1xx-flood": HEAD_SIZE,
    "100-flood": HEAD_SIZE,
    "1xx-stall": TIMEOUT_BODY,
    "1xx-fin": CUT + "|http_response_incomplete *",
    "cl-negative": PROTOCOL,
    "cl-2-63": PROTOCOL + "|200|http_response_incomplete *",
    "cl-huge": PROTOCOL + "|200|http_response_incomplete *",
    "cl-max": INCOMPLETE + "|http_protocol_error *",
    "cl-two": PROTOCOL + "|http_response_incomplete *",
    "cl-two-same": "200",
    "cl-list": "200|http_protocol_error *",
    "cl-text": PROTOCOL,
    "cl-plus": PROTOCOL + "|200",
    "cl-hex": PROTOCOL + "|200",
    "cl-empty": PROTOCOL + "|200",
    "cl-and-te": "200|http_protocol_error *",
    "te-and-cl": "200|http_protocol_error *",
    "te-unknown": CODING + "|http_protocol_error *",
    "te-identity": "200",
    "te-gzip-chunked": "200|http_response_content_coding *",
    "te-chunked-twice": "200|http_protocol_error *",
    "infinite-body": "200",
    "infinite-chunked": "200",
    "body-short-fin": INCOMPLETE,
    "body-short-rst": CUT + "|http_response_incomplete *",
    "body-short-stall": TIMEOUT_BODY,
    "body-none-fin": INCOMPLETE,
    "body-close-delimited": "200",
    "body-close-delimited-rst": CUT + "|http_response_incomplete *",
    "reply-then-rst": "200",
    "body-long": "200",
    "body-then-reply": "200",
    "body-on-204": "204",
    "body-on-304": "304",
    "body-on-head": "200",
    "304-large-cl": "304",
    "chunk-overflow": PROTOCOL,
    "chunk-max": INCOMPLETE + "|http_protocol_error *",
    "chunk-bad-hex": PROTOCOL,
    "chunk-negative": PROTOCOL,
    "chunk-no-crlf": PROTOCOL,
    "chunk-empty-size": PROTOCOL,
    "chunk-lf": "200|http_protocol_error *",
    "chunk-truncated": INCOMPLETE,
    "chunk-truncated-rst": CUT + "|http_response_incomplete *",
    "chunk-no-last": INCOMPLETE,
    "chunk-no-end": INCOMPLETE,
    "chunk-stall": TIMEOUT_BODY,
    "chunk-ext": "200",
    "chunk-ext-flood": TIMEOUT_BODY + "|http_protocol_error *|200",
    "chunk-ext-endless": TIMEOUT_BODY + "|http_protocol_error *",
    "chunk-1-byte": "200",
    "chunk-1-byte-endless": TIMEOUT_BODY + "|200",
    "trailer-flood": HEAD_SIZE,
    "trailer-endless-line": PROTOCOL + "|http_response_header_section_size *",
    "trailer-bad": PROTOCOL + "|200",
    "gzip-empty": "200",
    "gzip-garbage": CODING,
    "gzip-truncated": "200|http_response_content_coding *|http_response_incomplete *",
    "gzip-bad-crc": CODING,
    "gzip-trailing": CODING + "|200",
    "gzip-members": CODING + "|200",
    "gzip-twice": "200",
    "gzip-six": CODING,
    "gzip-1000": CODING + "|http_response_header_section_size *",
    "gzip-bomb-4m": "200",
    "gzip-bomb-twice": "200",
    "gzip-plain": "200|http_response_content_coding *",
    "x-gzip": "200",
    "deflate-garbage": CODING,
    "br-garbage": CODING,
    "zstd-garbage": CODING,
    "coding-unknown": CODING + "|200",
    "coding-identity": "200",
    "coding-empty": "200",
    "location-none": "302",
    "location-empty": BAD_LOCATION + "|302|200",
    "location-self": "too_many_redirects receive",
    "location-file": BAD_LOCATION,
    "location-gopher": BAD_LOCATION,
    "location-ftp": BAD_LOCATION,
    "location-dict": BAD_LOCATION,
    "location-javascript": BAD_LOCATION,
    "location-data": BAD_LOCATION,
    "location-metadata": DENIED,
    "location-private": DENIED,
    "location-v6-loopback": "connection_refused connect",
    "location-decimal": DENIED,
    "location-mapped": DENIED,
    "location-userinfo": BAD_LOCATION,
    "location-64k": HEAD_SIZE + "|404",
    "location-two": "200|http_protocol_error *",
    "location-crlf": "404|200",
    "location-space": BAD_LOCATION + "|404",
    "location-ctl": BAD_LOCATION + "|404",
    "location-bad-utf8": "200",
    "location-nul": PROTOCOL,
    "location-backslash": BAD_LOCATION + "|404",
    "location-scheme-relative": DENIED,
    "location-port-0": BAD_LOCATION,
    "location-port-bad": BAD_LOCATION,
    "location-fragment": "200",
    "location-dot-dot": "200",
    "location-query": "too_many_redirects receive",
    "location-on-200": "200",
    "location-on-304": "304",
    "location-300": "300|200",
    "redirect-big-body": "200",
    "redirect-short-body": INCOMPLETE + "|200|connection_terminated *",
    "101-stall": PROTOCOL,
    "101-then-200": PROTOCOL,
    "fields-900": "200",
    "fields-1001": HEAD_SIZE,
    "cookie-flood": HEAD_SIZE,
    "cl-two-short": PROTOCOL,
    "cl-list-differs": PROTOCOL,
    "cl-list-empty": PROTOCOL,
    "cl-digits-and-text": PROTOCOL,
    "cl-zeros": "200",
    "trailer-location": "302",
    "trailer-length": "200",
    "trailer-status": "200",
    "trailer-coding": "200",
    "gzip-bomb-1000": "200",
    "deflate-bomb": "200",
    "br-bomb": "200",
    "zstd-bomb": "200",
    "br-truncated": "200",
    "zstd-truncated": "200",
    "gzip-three": CODING,
    "gzip-three-fields": CODING,
    "gzip-in-br": CODING,
    "zstd-twice": CODING,
    "te-and-ce-three": CODING,
    "gzip-name-three": CODING,
    "gzip-name-twice": CODING,
    "gzip-empty-blocks": "200",
    "location-16k": "404",
    "location-20k": HEAD_SIZE,
    "location-64k-on-200": "200",
}
TRUNCATED = {name for name in WEIRD if "infinite" in name or "bomb" in name}
SCRIPTS = {
    "/never": TIMEOUT_HEAD,
    "/reset": GONE,
    "/close/before-head": GONE,
    "/reset/after/0": CUT + "|http_response_incomplete *",
    "/reset/after/10": CUT + "|http_response_incomplete *",
    "/cut/after/10": INCOMPLETE,
    "/stall/after/10": TIMEOUT_BODY,
    "/stall/after/0": TIMEOUT_BODY,
    "/short/100/5": INCOMPLETE,
    "/drip/30/5": "200",
    "/drip/300/50": TIMEOUT_BODY,
    "/delay/100/size/10": "200",
    "/delay/5000/size/10": TIMEOUT_HEAD,
    "/1xx/20/size/5": "200",
    "/headers/200/size/5": "200",
    "/trailers/50/size/5": "200",
    "/chunked/100000": "200",
    "/http10/size/100": "200",
    "/close-delimited/size/100": "200",
    "/close-after/size/5": "200",
    "/status/204": "204",
    "/status/304": "304",
    "/status/400": "400",
    "/status/500": "500",
    "/status/599": "599",
    "/gzip/size/50000": "200",
    "/deflate/size/50000": "200",
    "/raw-deflate/size/50000": "200|http_response_content_coding *",
    "/br/size/50000": "200",
    "/zstd/size/50000": "200",
    "/gzip/chunked/50000": "200",
    "/gzip/bomb/30000000": "200",
    "/redirect/20/to/size/1": "too_many_redirects receive",
    "/size/2000000": "200",
}
PORTS = {
    "reset-accept": "connection_terminated *",
    "close-accept": "connection_terminated *",
    "silent": TIMEOUT_HEAD,
    "close-data": GONE,
    "reset-data": GONE,
    "garbage": PROTOCOL_WAIT,
    "bad-request": "400",
}
TLS_PORTS = {
    "reset-accept": "connection_terminated *",
    "close-accept": "connection_terminated tls",
    "silent": "connection_timeout tls",
    "close-data": "connection_terminated tls",
    "reset-data": "connection_terminated tls",
    "garbage": "tls_protocol_error tls",
    "bad-request": "tls_protocol_error tls",
    "http": "connection_timeout tls",
}


def cap_of(name):
    """Of what has no end one limit must come first."""
    return {"max_response_bytes": 10 << 20} if name == "chunk-1-byte-endless" else {}


def limits_of(name):
    """libcurl takes 0.8 s for a copy of that, whatever gatherd is built with."""
    return dict(cap_of(name), timeout_ms=SHORT_MS // 2) if cap_of(name) else {}


@pytest.mark.parametrize("name", sorted(WEIRD))
def test_weird(gatherd, origin, name):
    method = "HEAD" if name.endswith("-head") and name.startswith("body-on") else "GET"
    url = origin.url("/weird/" + name)
    for result in judge(gatherd, origin, url, WEIRD[name], method=method, **limits_of(name)):
        assert result["truncated"] is (name in TRUNCATED), result
        if result["truncated"]:
            assert result["size_delivered"] == 1 << 20
    assert "X-Injected" not in str([s.headers for s in origin.seen])


def test_every_hostile_reply_has_an_expectation():
    assert set(WEIRD) == set(hostile.WEIRD)


@pytest.mark.parametrize("path", sorted(SCRIPTS))
def test_scripted(gatherd, origin, path):
    judge(gatherd, origin, origin.url(path), SCRIPTS[path])


@pytest.mark.parametrize("kind", sorted(PORTS))
def test_ports(gatherd, origin, kind):
    judge(gatherd, origin, origin.url("/", port=origin.listen(kind)), PORTS[kind])


@pytest.mark.parametrize("kind", sorted(TLS_PORTS))
def test_tls_ports(gatherd, origin, kind):
    url = origin.url("/", port=origin.listen(kind), scheme="https")
    judge(gatherd, origin, url, TLS_PORTS[kind])


def test_refused(gatherd, origin, refused):
    url = "http://127.0.0.1:%d/" % refused
    result = judge(gatherd, origin, url, "connection_refused connect")[0]
    assert result["error"]["os_errno"] == 111 and result["error"]["exitcode"] == 7
    assert result["error"]["sent"] is False and result["retryable"] is True


def test_refused_on_ipv6(gatherd, origin):
    closed = origin_module.ClosedPort("::1")
    judge(gatherd, origin, "http://[::1]:%d/" % closed.port, "connection_refused connect")
    closed.close()


def test_dropped(gatherd, origin, blackhole):
    url = "http://127.0.0.1:%d/" % blackhole
    result = judge(gatherd, origin, url, "connection_timeout connect")[0]
    assert result["error"]["sent"] is False and result["timings_ms"]["connect"] >= CONNECT_MS - 10
    assert CONNECT_MS - 10 <= result["total_ms"] <= CONNECT_MS + 1200 * proc.scale()


def test_ipv6_works(gatherd, origin):
    port = origin.listen(host="::1")
    result = gatherd.one(origin.url("/size/5", port=port, host="::1"))
    assert result["ok"] is True and result["remote_ip"] == "::1"


def test_upload_that_nobody_reads(gatherd, origin):
    """The upstream resets in the middle of a large upload."""
    judge(
        gatherd,
        origin,
        origin.url("/", port=origin.listen("reset-data")),
        "connection_terminated *",
        copies=3,
        body="x" * 1000000,
    )


def test_all_at_once_twice(gatherd, origin):
    """Everything in one batch, neighbours between: each outcome is what it was, both times, also of what
    was sent again because a neighbour's connection died."""
    names = sorted(WEIRD)
    members = []
    for name in names:
        patience = 2000 if "timeout" in WEIRD[name] else 20000
        members += [
            member(
                origin.url("/weird/" + name), WEIRD[name], timeout_ms=patience,
                connect_timeout_ms=20000, **cap_of(name),
            ),
            origin.url("/size/%d" % len(members)),
        ]
    runs = [gatherd.batch(members)["results"] for _ in range(2)]
    origin.unknown.clear()
    for results in runs:
        for index, result in enumerate(results):
            if index % 2:
                assert result["ok"] is True and result["size_delivered"] == index - 1
            elif cap_of(names[index // 2]) and result["truncated"]:
                pass  # what has no end has come to its cap first
            elif names[index // 2] != "body-on-head":
                assert matches(outcome(result), WEIRD[names[index // 2]]), (
                    names[index // 2],
                    outcome(result),
                )


POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"


def framed(framing, size):
    body = b"x" * size
    if framing == "chunked":
        return hostile.CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
    return hostile.OK + b"Content-Length: %d\r\n\r\n%s" % (size, body)


# HTTP/1.1 in each of its ways: alone on offer, or what the server takes where HTTP/2 is on offer, too.
LANES = {
    "http": ("http", "1.1"),
    "https": ("https", "1.1"),
    "https-chosen": ("https", "2"),
}


def ask_after_poison(gatherd, origin, where, version, turns=proc.form(5, 100)):
    """After each poisoned answer the connection is left; who comes next has an answer of its own."""
    for _ in range(turns):
        members = [
            {"url": origin.url(path, **where), "http_version": version}
            for path in ("/raw/poison", "/size/3", "/size/4")
        ]
        doc = gatherd.batch(members, concurrency=1, include=["body"])
        assert [r.get("body") for r in doc["results"]][1:] == ["abc", "abcd"]


@pytest.mark.parametrize("size", [0, 10, 1500, 2048, 3000, 10000, 16384, 100000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("lane", sorted(LANES))
def test_reply_of_one_member_never_reaches_another(gatherd, origin, tls_ports, lane, framing, size):
    """Bytes after a complete reply are not the next member's answer, however long the reply was: they
    may still be in the socket, or in the last record of TLS, when the connection is kept."""
    scheme, version = LANES[lane]
    where = {"scheme": scheme, "port": tls_ports.port() if scheme == "https" else origin.port}
    origin.raw("poison", framed(framing, size) + POISON, "keep")
    ask_after_poison(gatherd, origin, where, version)


def packed(coding, size):
    """As many bytes, packed without getting fewer."""
    body = random.Random(size).randbytes(size)
    body = bombs.brotli_stored(body) if coding == "br" else gzip.compress(body, 0)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\n" % coding.encode()
    return head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize("size", [10, 300, 1500, 2048, 3000, 10000, 15000, 40000])
@pytest.mark.parametrize("coding", ["gzip", "br"])
@pytest.mark.parametrize("lane", sorted(LANES))
def test_a_packed_reply_never_reaches_another(gatherd, origin, tls_ports, lane, coding, size):
    """The same of a body that is taken in pieces while it is unpacked."""
    scheme, version = LANES[lane]
    where = {"scheme": scheme, "port": tls_ports.port() if scheme == "https" else origin.port}
    origin.raw("poison", packed(coding, size) + POISON, "keep")
    ask_after_poison(gatherd, origin, where, version)


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)])
@pytest.mark.parametrize("lane", sorted(LANES))
def test_a_word_on_an_idle_connection(gatherd, origin, authority, lane, alpn):
    """The same when they come later, while nobody uses the connection: it is closed at once."""
    scheme, version = LANES[lane]
    tls = authority.context(alpn=alpn) if scheme == "https" else None
    for _ in range(proc.form(3, 30)):
        where = {"scheme": scheme, "port": origin.listen(tls=tls)}
        origin.raw("late", framed("length", 10), 0.02, POISON, "keep")
        first = {"url": origin.url("/raw/late", **where), "http_version": version}
        assert gatherd.one(first)["ok"] is True
        (spoke,) = [c for c in origin.connections if c.port == where["port"]]
        assert origin.wait(lambda spoke=spoke: spoke.fin_at is not None, 5 * proc.scale())
        second = {"url": origin.url("/size/3", **where), "http_version": version}
        assert gatherd.one(second, include=["body"])["body"] == "abc"


# Answers whose end libcurl finds without taking what comes in one piece with it for anything.
WHOLE = {
    "HEAD": hostile.OK + b"Content-Length: 23\r\n\r\n",
    "HEAD, LF": b"HTTP/1.1 200 OK\nContent-Length: 23\n\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "204 after a 103": b"HTTP/1.1 103 E\r\nContent-Length: 1\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 23\r\n\r\n",
    "length 0": hostile.OK + b"Content-Length: 0\r\n\r\n",
    "length": framed("length", 7),
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /size/5\r\nContent-Length: 0\r\n\r\n",
    "chunks": framed("chunked", 7),
    "no chunk": hostile.CHUNKED + b"0\r\n\r\n",
    "trailers": hostile.CHUNKED + b"2\r\nok\r\n0\r\nX: a\r\nY:\r\n\r\n",
}


SURPLUSES = {"x": b"x", "CRLF": b"\r\n", "line": b"x\r\n\r\n", "answer": POISON, "part": POISON[:-3]}
SEEN = [  # a line looks like more trailers, see SECURITY.md
    (name, surplus)
    for name in sorted(WHOLE)
    for surplus in sorted(SURPLUSES)
    if (name, surplus) != ("trailers", "line")
]


def whole_member(origin, lane, port, name, path):
    scheme, version = LANES[lane]
    method = "HEAD" if name.startswith("HEAD") else "GET"
    url = origin.url(path, scheme=scheme, port=port)
    return {"url": url, "http_version": version, "method": method}


@pytest.mark.parametrize("cut", [None, -2, -1])
@pytest.mark.parametrize("name, surplus", SEEN)
@pytest.mark.parametrize("lane", sorted(LANES))
def test_a_surplus_in_one_piece_with_the_end(gatherd, origin, authority, lane, name, surplus, cut):
    """What libcurl drops is seen all the same: its rest, which may come when the next request has been
    sent, would be the answer to that. The connection is closed at once."""
    port = origin.listen(tls=authority.context() if lane != "http" else None)
    before, end = (WHOLE[name][:cut], WHOLE[name][cut:]) if cut else (b"", WHOLE[name])
    origin.raw("surplus", before, 0.01, end + SURPLUSES[surplus], "keep")
    member = whole_member(origin, lane, port, name, "/raw/surplus")
    assert gatherd.one(member)["state"] == "done"
    spoke = next(c for c in origin.connections if c.port == port)
    assert origin.wait(lambda: spoke.fin_at is not None, 5 * proc.scale())


@pytest.mark.parametrize("name", sorted(WHOLE))
@pytest.mark.parametrize("lane", sorted(LANES))
def test_a_surplus_while_others_wait_for_the_connection(gatherd, origin, authority, lane, name):
    """They may be next in the same call of libcurl that took the answer; they get a new one."""
    port = origin.listen(tls=authority.context() if lane != "http" else None)
    origin.raw("surplus", WHOLE[name] + b"x", "keep")
    members = [
        whole_member(origin, lane, port, name, "/raw/surplus") for _ in range(proc.form(30, 300))
    ]
    doc = gatherd.batch(members, concurrency=16)
    assert doc["counts"]["done"] == len(members)
    spoilt = set()
    for seen in origin.seen:
        assert seen.conn not in spoilt
        if seen.path == "/raw/surplus":
            spoilt.add(seen.conn)
    assert len(spoilt) == len(members)


@pytest.mark.parametrize("pieces", ["one", "bytes"])
@pytest.mark.parametrize("name", sorted(WHOLE))
@pytest.mark.parametrize("lane", sorted(LANES))
def test_a_connection_without_a_surplus_is_kept(gatherd, origin, authority, lane, name, pieces):
    """However its answers were cut into pieces."""
    port = origin.listen(tls=authority.context() if lane != "http" else None)
    steps = [WHOLE[name]]
    if pieces == "bytes":
        steps = [step for byte in WHOLE[name] for step in (bytes([byte]), 0.001)]
    origin.raw("clean", *steps, "keep")
    for turn in range(3):
        result = gatherd.one(whole_member(origin, lane, port, name, "/raw/clean"))
        assert (result["state"], result["num_connects"]) == ("done", int(turn == 0))


# None of them is of a connection of HTTP/1.1.
FALSE_VERSIONS = ["HTTP/2", "HTTP/2.0", "HTTP/3", "HTTP/0.9", "HTTP/1.2", "HTTP/1", "http/2", "HTTP/x"]
FALSE_PLACES = {
    "at once": b"%s 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "after a 1xx": b"HTTP/1.1 103 Hints\r\n\r\n%s 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "in a 1xx": b"%s 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "in a redirect": b"%s 302 Found\r\nLocation: /size/3\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("place", sorted(FALSE_PLACES))
@pytest.mark.parametrize("line", FALSE_VERSIONS)
@pytest.mark.parametrize("lane", sorted(LANES))
def test_a_status_line_of_another_version(gatherd, origin, tls_ports, lane, line, place):
    """A head that does not say HTTP/1.0 or 1.1 on an HTTP/1.1 connection is no answer."""
    scheme, version = LANES[lane]
    port = tls_ports.port(alpn=("http/1.1",)) if scheme == "https" else origin.port
    origin.raw("false", FALSE_PLACES[place] % line.encode(), "keep")
    url = origin.url("/raw/false", port=port, scheme=scheme)
    result = gatherd.one({"url": url, "http_version": version})
    assert result["state"] == "failed" and result["error"]["type"] == "http_protocol_error"
    assert result["http_version"] not in ("2", "3") and origin.paths() == {"/raw/false": 1}
    assert origin.wait(lambda: all(c.closed_at is not None for c in origin.connections))


# Lines of a head: the fields that a member is told.
FOLDED = {
    "plain": (b"X: a\r\n b", [["X", "a b"]]),
    "tabs and blanks": (b"X: a  \r\n\t \t b \t\r\n c", [["X", "a b c"]]),
    "blank lines": (b"X: a\r\n \r\n\t\r\n b\r\n ", [["X", "a b"]]),
    "empty first": (b"X:\r\n a", [["X", "a"]]),
    "like a field": (
        b"X: a\r\n Content-Length: 9\r\n Location: /x",
        [["X", "a Content-Length: 9 Location: /x"]],
    ),
    "no name": (b"X: a\r\n: b\r\n c", [["X", "a"]]),
    "next one": (b"X: a\r\n b\r\nY: c", [["X", "a b"], ["Y", "c"]]),
    "empty length": (b"Content-Length: 2\r\n ", [["Content-Length", "2"]]),
}


@pytest.mark.parametrize("name", sorted(FOLDED))
def test_folded_lines(gatherd, origin, name):
    """They go on with the field before, after one space."""
    lines, fields = FOLDED[name]
    if "empty length" not in name:
        lines += b"\r\nContent-Length: 2"
        fields = fields + [["Content-Length", "2"]]
    url = origin.raw("folded", b"HTTP/1.1 200 OK\r\n%s\r\n\r\nok" % lines, "keep")
    result = gatherd.one(url, include=["headers", "body"])
    assert result["headers"] == fields and result["body"] == "ok"


def test_folded_lines_that_we_read(gatherd, origin):
    """A redirect, a Retry-After, a type with its charset, of a 1xx answer and of the last one."""
    origin.raw("on", b"HTTP/1.1 302 F\r\nLocation:\r\n /size/3\r\n\t\r\nContent-Length: 0\r\n\r\n", "keep")
    origin.raw("later", b"HTTP/1.1 503 L\r\nRetry-After:\r\n 7\r\nContent-Length: 0\r\n\r\n", "keep")
    origin.raw("never", b"HTTP/1.1 503 L\r\nRetry-After: 7\r\n x\r\nContent-Length: 0\r\n\r\n", "keep")
    origin.raw(
        "typed",
        b"HTTP/1.1 103 H\r\nContent-Type: a/b;\r\n c=d\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain;\r\n  charset=utf-16le\r\n"
        b"Content-Length: 4\r\n\r\no\0k\0",
        "keep",
    )
    origin.raw(
        "typed-late",
        b"HTTP/1.1 200 OK\r\nContent-Type: a/b;\r\n c=d\r\nContent-Type:\r\n text/html\r\n"
        b"Content-Length: 2\r\n\r\nok",
        "keep",
    )
    names = ("on", "later", "never", "typed", "typed-late")
    urls = [origin.url("/raw/" + name) for name in names]
    on, later, never, typed, late = gatherd.batch(urls, include=["text_length"])["results"]
    assert on["ok"] is True and on["size_delivered"] == 3 and on["num_redirects"] == 1
    assert later["retry_after_ms"] == 7000 and never["retry_after_ms"] is None
    assert typed["content_type"] == "text/plain; charset=utf-16le" and typed["text_length"] == 2
    assert late["content_type"] == "text/html"


FOLDED_BADLY = {
    "length": (b"Content-Length: 2\r\n 0", PROTOCOL),
    "length, empty": (b"Content-Length:\r\n 2", PROTOCOL),
    "chunked": (b"Transfer-Encoding:\r\n chunked", PROTOCOL + "|http_protocol_error wait"),
    "chunked, second": (b"Transfer-Encoding: gzip,\r\n chunked", PROTOCOL),
    "coding": (b"Content-Length: 2\r\nContent-Encoding:\r\n gzip", PROTOCOL),
    "first, after a 1xx": (b"X: y\r\n\r\nHTTP/1.1 200 OK\r\n z\r\nContent-Length: 2", PROTOCOL),
    "many": (b"Content-Length: 2\r\nX: a" + 1001 * b"\r\n b", HEAD_SIZE),
    "many, blank": (b"Content-Length: 2\r\nX: a" + 1001 * b"\r\n ", HEAD_SIZE),
    "long Location": (b"Content-Length: 2\r\nLocation: /" + 20 * (b"\r\n " + 1000 * b"a"), HEAD_SIZE),
}


@pytest.mark.parametrize("name", sorted(FOLDED_BADLY))
def test_folded_lines_that_are_refused(gatherd, origin, name):
    """Of fields that say how the body is to be read, which libcurl reads without them; and caps hold."""
    lines, expected = FOLDED_BADLY[name]
    status = b"103 Hints" if "1xx" in name else b"302 Found" if "Location" in name else b"200 OK"
    url = origin.raw("badly", b"HTTP/1.1 %s\r\n%s\r\n\r\nok" % (status, lines), "keep")
    judge(gatherd, origin, url, expected, include=["headers"])


def test_folded_trailers(gatherd, origin):
    """They are told as fields are, and say nothing to us; one before any is nobody's."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
    url = origin.raw("late", chunked + b"X: a\r\n b\r\nContent-Length: 4\r\n 2\r\n\r\n", "keep")
    result = gatherd.one(url, include=["headers", "body"])
    assert result["headers"][1:] == [["X", "a b"], ["Content-Length", "4 2"]] and result["body"] == "ok"
    url = origin.raw("first", chunked + b" a: b\r\nX: c\r\n\r\n", "keep")
    result = gatherd.one(url, include=["headers", "body"])
    assert result["headers"] == [["Transfer-Encoding", "chunked"], ["X", "c"]]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
NUL_AT_BEGIN = {
    "whole": [HEAD + b"\0X: y\r\n\r\nok"],
    "before": [HEAD, 0.02, b"\0X: y\r\n\r\nok"],
    "behind": [HEAD + b"\0", 0.02, b"X: y\r\n\r\nok"],
    "alone": [HEAD, 0.02, b"\0", 0.02, b"X: y\r\n\r\nok"],
    "after-the-line": [HEAD + b"\0X: y\r\n", 0.02, b"\r\nok"],
    "hides": [HEAD + b"\0Content-Encoding: gzip\r\nLocation: /\r\n", 0.02, b"\r\nok"],
    "blank-line": [HEAD + b"\0\r\n\r\nok"],
    "informational": [b"HTTP/1.1 103 Early\r\n\0X: y\r\n\r\n", 0.02, HEAD + b"\r\nok"],
}


@pytest.mark.parametrize("end", ["keep", "fin"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_nul_where_a_line_begins(spawn, origin, authority, end, scheme):
    """However it is cut: libcurl drops what follows it in the same read, and goes on with the next."""
    daemon = spawn("fetch.ca_file=" + authority.ca_file)
    port = origin.listen(tls=authority.context("good")) if scheme == "https" else origin.port
    for name, steps in NUL_AT_BEGIN.items():
        origin.raw("nul-" + name, *steps, end)
    urls = [origin.url("/raw/nul-" + name, port=port, scheme=scheme) for name in NUL_AT_BEGIN]
    fine = origin.raw("nul-body", HEAD.replace(b": 2", b": 4") + b"\r\n\0\0ok", end)
    results = daemon.batch([*urls, fine])["results"]
    assert results[-1]["ok"] and results[-1]["size_delivered"] == 4
    for name, result in zip(NUL_AT_BEGIN, results):
        error = result["error"]
        assert error and (error["type"], error["phase"]) == ("http_protocol_error", "receive"), (name, result)
        assert error["message"] == "Nul byte in header", name
