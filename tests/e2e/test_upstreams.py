# SPDX-License-Identifier: MIT
"""Hostile upstreams: each behaviour gives one stable outcome, and its neighbour is unhurt.

EXPECTED says for each script of the origin either the status of a `done` member, or
"error.type phase"; where two outcomes are right by the contract, both stand there, divided by
`|`. DETAILS adds fields of the result that must have these values.
"""
import pytest

from lib import hostile, origin as origin_module

INCOMPLETE = "http_response_incomplete receive"
PROTOCOL = "http_protocol_error wait|http_protocol_error receive"
HEAD_SIZE = "http_response_header_section_size wait|http_response_header_section_size receive"
GONE = "connection_terminated wait"
CUT = "connection_terminated receive|http_response_incomplete receive"
CODING = "http_response_content_coding receive|http_response_content_coding wait"
TIMEOUT_HEAD = "http_response_timeout wait|connection_read_timeout wait"
TIMEOUT_BODY = "http_response_timeout receive|connection_read_timeout receive"
BAD_LOCATION = "url_invalid *|http_request_denied *|http_protocol_error *"
DENIED = "destination_ip_prohibited *"

WEIRD = {
    "empty": GONE,
    "half-status-line": GONE + "|http_response_incomplete wait|http_response_incomplete receive",
    "half-head": GONE + "|" + INCOMPLETE,
    "half-head-rst": GONE + "|" + CUT,
    "half-head-stall": TIMEOUT_HEAD + "|" + TIMEOUT_BODY,
    "http09": PROTOCOL,
    "h2-preface": PROTOCOL,
    "h2-settings": PROTOCOL,
    "ssh": PROTOCOL,
    "smtp": PROTOCOL,
    "garbage": PROTOCOL,
    "tls-alert": PROTOCOL,
    "status-text": PROTOCOL,
    "status-0": PROTOCOL,
    "status-20": PROTOCOL,
    "status-2000": PROTOCOL,
    "status-negative": PROTOCOL,
    "status-600": "600|" + PROTOCOL,
    "status-999": "999|" + PROTOCOL,
    "status-no-reason": "200",
    "version-1.9": PROTOCOL,
    "version-2.0": "200|" + PROTOCOL,
    "version-3": PROTOCOL,
    "version-7.7": PROTOCOL,
    "101-unsolicited": GONE + "|" + PROTOCOL + "|" + CUT,
    "lf-only": "200",
    "blank-lines-first": "200|" + PROTOCOL,
    "endless-head": HEAD_SIZE,
    "endless-line": HEAD_SIZE + "|" + PROTOCOL,
    "endless-status-line": HEAD_SIZE + "|" + PROTOCOL,
    "head-100k-fields": HEAD_SIZE,
    "head-60k": "200",
    "head-70k": HEAD_SIZE,
    "head-drip": HEAD_SIZE,
    "header-nul": PROTOCOL,
    "header-cr": "200|" + PROTOCOL,
    "header-folded": "200",
    "header-folded-first": PROTOCOL,
    "header-no-colon": PROTOCOL,
    "header-no-name": "200|" + PROTOCOL,
    "header-space-colon": "200|" + PROTOCOL,
    "header-latin1": "200",
    "header-bad-utf8": "200",
    "header-utf8": "200",
    "header-ctl": "200|" + PROTOCOL,
    "header-empty": "200",
    "header-twice": "200",
    "content-type-bad": "200",
    "1xx-flood": HEAD_SIZE,
    "100-flood": HEAD_SIZE,
    "1xx-stall": TIMEOUT_HEAD + "|" + TIMEOUT_BODY,
    "1xx-fin": GONE + "|" + INCOMPLETE + "|connection_terminated receive",
    "cl-negative": PROTOCOL,
    "cl-2-63": "200|" + PROTOCOL + "|" + INCOMPLETE,
    "cl-huge": "200|" + PROTOCOL + "|" + INCOMPLETE,
    "cl-max": INCOMPLETE + "|" + PROTOCOL,
    "cl-two": PROTOCOL + "|" + INCOMPLETE,
    "cl-two-same": "200",
    "cl-list": "200|" + PROTOCOL,
    "cl-text": PROTOCOL,
    "cl-plus": "200|" + PROTOCOL,
    "cl-hex": "200|" + PROTOCOL,
    "cl-empty": "200|" + PROTOCOL,
    "cl-and-te": "200|" + PROTOCOL,
    "te-and-cl": "200|" + PROTOCOL,
    "te-unknown": CODING + "|" + PROTOCOL,
    "te-identity": "200",
    "te-gzip-chunked": "200|" + CODING,
    "te-chunked-twice": "200|" + PROTOCOL,
    "infinite-body": "200",
    "infinite-chunked": "200",
    "body-short-fin": INCOMPLETE,
    "body-short-rst": CUT,
    "body-short-stall": TIMEOUT_BODY,
    "body-none-fin": "http_response_incomplete receive|http_response_incomplete wait",
    "body-close-delimited": "200",
    "body-close-delimited-rst": CUT,
    "reply-then-rst": "200",
    "body-long": "200",
    "body-then-reply": "200",
    "body-on-204": "204",
    "body-on-304": "304",
    "body-on-head": "200",
    "304-large-cl": "304",
    "chunk-overflow": PROTOCOL,
    "chunk-max": INCOMPLETE + "|" + PROTOCOL,
    "chunk-bad-hex": PROTOCOL,
    "chunk-negative": PROTOCOL,
    "chunk-no-crlf": PROTOCOL,
    "chunk-empty-size": PROTOCOL,
    "chunk-lf": "200|" + PROTOCOL,
    "chunk-truncated": INCOMPLETE,
    "chunk-truncated-rst": CUT,
    "chunk-no-last": INCOMPLETE,
    "chunk-no-end": INCOMPLETE,
    "chunk-stall": TIMEOUT_BODY,
    "chunk-ext": "200",
    "chunk-ext-flood": TIMEOUT_BODY + "|" + PROTOCOL + "|200",
    "chunk-ext-endless": TIMEOUT_BODY + "|" + TIMEOUT_HEAD + "|" + PROTOCOL,
    "chunk-1-byte": "200",
    "chunk-1-byte-endless": "200|" + TIMEOUT_BODY,
    "trailer-flood": HEAD_SIZE,
    "trailer-endless-line": HEAD_SIZE + "|" + PROTOCOL,
    "trailer-bad": "200|" + PROTOCOL,
    "gzip-empty": "200",
    "gzip-garbage": CODING,
    "gzip-truncated": CODING + "|200|" + INCOMPLETE,
    "gzip-bad-crc": CODING,
    "gzip-trailing": "200|" + CODING,
    "gzip-members": "200|" + CODING,
    "gzip-twice": "200",
    "gzip-six": CODING,
    "gzip-1000": CODING + "|" + HEAD_SIZE,
    "gzip-bomb-4m": "200",
    "gzip-bomb-twice": "200",
    "gzip-plain": "200|" + CODING,
    "x-gzip": "200",
    "deflate-garbage": CODING,
    "br-garbage": CODING,
    "zstd-garbage": CODING,
    "coding-unknown": CODING + "|200",
    "coding-identity": "200",
    "coding-empty": "200",
    "location-none": "302",
    "location-empty": "302|200|" + BAD_LOCATION + "|too_many_redirects *",
    "location-self": "too_many_redirects *",
    "location-file": BAD_LOCATION,
    "location-gopher": BAD_LOCATION,
    "location-ftp": BAD_LOCATION,
    "location-dict": BAD_LOCATION,
    "location-javascript": BAD_LOCATION,
    "location-data": BAD_LOCATION,
    "location-metadata": DENIED,
    "location-private": DENIED,
    "location-v6-loopback": "connection_refused connect|" + DENIED,
    "location-decimal": DENIED,
    "location-mapped": DENIED,
    "location-userinfo": BAD_LOCATION,
    "location-64k": "404|" + HEAD_SIZE,
    "location-two": "200|" + DENIED + "|" + PROTOCOL,
    "location-crlf": "404|200|" + BAD_LOCATION,
    "location-space": "404|" + BAD_LOCATION,
    "location-ctl": "404|" + BAD_LOCATION,
    "location-bad-utf8": "200|" + BAD_LOCATION,
    "location-nul": PROTOCOL,
    "location-backslash": BAD_LOCATION + "|" + DENIED + "|404",
    "location-scheme-relative": DENIED,
    "location-port-0": BAD_LOCATION,
    "location-port-bad": BAD_LOCATION,
    "location-fragment": "200",
    "location-dot-dot": "200",
    "location-query": "too_many_redirects *",
    "location-on-200": "200",
    "location-on-304": "304",
    "location-300": "300|200",
    "redirect-big-body": "200",
    "redirect-short-body": "200|" + INCOMPLETE + "|" + GONE,
}
TRUNCATED = ("infinite-body", "infinite-chunked", "gzip-bomb-4m", "gzip-bomb-twice")
SCRIPTS = {
    "/never": TIMEOUT_HEAD,
    "/reset": GONE,
    "/close/before-head": GONE,
    "/reset/after/0": CUT + "|" + GONE,
    "/reset/after/10": CUT,
    "/cut/after/10": INCOMPLETE,
    "/stall/after/10": TIMEOUT_BODY,
    "/stall/after/0": TIMEOUT_BODY + "|" + TIMEOUT_HEAD,
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
    "/raw-deflate/size/50000": "200|" + CODING,
    "/br/size/50000": "200",
    "/zstd/size/50000": "200",
    "/gzip/chunked/50000": "200",
    "/gzip/bomb/30000000": "200",
    "/redirect/20/to/size/1": "too_many_redirects *",
    "/size/2000000": "200",
}
PORTS = {
    "reset-accept": "connection_terminated *|connection_refused *",
    "close-accept": GONE + "|connection_terminated send",
    "silent": TIMEOUT_HEAD,
    "close-data": GONE,
    "reset-data": GONE,
    "garbage": PROTOCOL + "|" + GONE,
}
TLS_PORTS = {
    "reset-accept": "connection_terminated tls|connection_terminated connect|tls_protocol_error tls",
    "close-accept": "tls_protocol_error tls|connection_terminated tls",
    "silent": "connection_timeout tls",
    "close-data": "tls_protocol_error tls|connection_terminated tls",
    "reset-data": "tls_protocol_error tls|connection_terminated tls",
    "garbage": "tls_protocol_error tls",
    "http": "tls_protocol_error tls|connection_timeout tls",
}


def outcome(result):
    if result["state"] == "done":
        return str(result["status"])
    return "%s %s" % (result["error"]["type"], result["error"]["phase"])


def matches(got, expected):
    for one in expected.split("|"):
        if one == got or (one.endswith(" *") and got.startswith(one[:-1])):
            return True
    return False


def member(url, **more):
    return dict(
        {"url": url, "timeout_ms": 400, "connect_timeout_ms": 300, "max_response_bytes": 1 << 20},
        **more
    )


def judge(gatherd, origin, url, expected, **more):
    """Fetches url beside a well-behaved neighbour; the outcome is as expected."""
    doc = gatherd.batch([member(url, **more), origin.url("/size/777")])
    bad, neighbour = doc["results"]
    assert neighbour["ok"] is True and neighbour["size_delivered"] == 777
    assert matches(outcome(bad), expected), (outcome(bad), bad["error"])
    if bad["state"] == "failed":
        assert bad["total_ms"] < 5000
        if bad["error"]["type"].startswith("http_"):  # no system call failed
            assert bad["error"]["os_errno"] is None, bad["error"]
    origin.unknown.clear()  # a followed Location may lead to a path that is no script
    return bad


@pytest.mark.parametrize("name", sorted(WEIRD))
def test_weird(gatherd, origin, name):
    method = "HEAD" if name.endswith("-head") and name.startswith("body-on") else "GET"
    result = judge(gatherd, origin, origin.url("/weird/" + name), WEIRD[name], method=method)
    endless = name == "chunk-1-byte-endless"  # cut by whichever limit comes first
    assert result["truncated"] is (name in TRUNCATED) or endless, result
    if result["truncated"]:
        assert result["size_delivered"] == 1 << 20
    assert "X-Injected" not in str([s.headers for s in origin.seen])


def test_every_hostile_reply_has_an_expectation():
    assert set(WEIRD) == set(hostile.WEIRD)


@pytest.mark.parametrize("path", sorted(SCRIPTS))
def test_scripted(gatherd, origin, path):
    # the origin takes its time to compress a bomb
    patience = {"timeout_ms": 5000} if "/bomb/" in path else {}
    result = judge(gatherd, origin, origin.url(path), SCRIPTS[path], **patience)
    if result["state"] == "failed" and result["error"]["phase"] in ("wait", "receive"):
        assert result["error"]["sent"] is True


@pytest.mark.parametrize("kind", sorted(PORTS))
def test_ports(gatherd, origin, kind):
    judge(gatherd, origin, origin.url("/", port=origin.listen(kind)), PORTS[kind])


@pytest.mark.parametrize("kind", sorted(TLS_PORTS))
def test_tls_ports(gatherd, origin, kind):
    result = judge(
        gatherd, origin, origin.url("/", port=origin.listen(kind), scheme="https"), TLS_PORTS[kind]
    )
    assert result["error"]["sent"] is False


def test_refused(gatherd, origin, refused):
    result = judge(gatherd, origin, "http://127.0.0.1:%d/" % refused, "connection_refused connect")
    assert result["error"]["os_errno"] == 111 and result["error"]["exitcode"] == 7
    assert result["error"]["sent"] is False and result["retryable"] is True


def test_refused_on_ipv6(gatherd, origin):
    closed = origin_module.ClosedPort("::1")
    judge(gatherd, origin, "http://[::1]:%d/" % closed.port, "connection_refused connect")
    closed.close()


def test_dropped(gatherd, origin, blackhole):
    result = judge(
        gatherd, origin, "http://127.0.0.1:%d/" % blackhole, "connection_timeout connect"
    )
    assert result["error"]["sent"] is False and 290 <= result["total_ms"] <= 1500
    assert 290 <= result["timings_ms"]["connect"]


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
        "connection_terminated send|connection_terminated wait",
        body="x" * 2000000,
    )


def test_all_at_once_twice(gatherd, origin):
    """Everything in one batch, neighbours between: each outcome is what it was, both times, also of what
    was sent again because a neighbour's connection died."""
    names = sorted(WEIRD)
    members = []
    for name in names:
        members += [
            member(origin.url("/weird/" + name), timeout_ms=2000),
            origin.url("/size/%d" % len(members)),
        ]
    runs = [gatherd.batch(members)["results"] for _ in range(2)]
    origin.unknown.clear()
    for results in runs:
        for index, result in enumerate(results):
            if index % 2:
                assert result["ok"] is True and result["size_delivered"] == index - 1
            elif names[index // 2] != "body-on-head":
                assert matches(outcome(result), WEIRD[names[index // 2]]), (
                    names[index // 2],
                    outcome(result),
                )


def test_reply_of_one_member_never_reaches_another(gatherd, origin):
    """Bytes after a complete reply are not the next member's answer."""
    for _ in range(5):
        doc = gatherd.batch(
            [origin.url("/weird/body-then-reply"), origin.url("/size/3"), origin.url("/size/4")],
            concurrency=1,
            include=["body"],
        )
        assert [r["body"] for r in doc["results"]] == ["ok", "abc", "abcd"]
