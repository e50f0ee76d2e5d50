# SPDX-License-Identifier: MIT
"""Who may ask, and what shape a request may have. Nothing that is refused reaches an upstream."""
import contextlib
import itertools
import json
import re
import socket
import threading
import time

import pytest

from lib import contract, proc


def head(target="/v1/batch", method="POST", host="localhost", *fields):
    lines = (
        ["%s %s HTTP/1.1" % (method, target)]
        + (["Host: " + host] if host is not None else [])
        + list(fields)
    )
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def posting(origin, *fields, host="localhost", target="/v1/batch", path="/ok"):
    body = json.dumps([origin.url(path)]).encode()
    return (
        head(
            target,
            "POST",
            host,
            "Content-Type: application/json",
            "Content-Length: %d" % len(body),
            "Connection: close",
            *fields
        )
        + b"\r\n"
        + body
    )


def answer(daemon, data):
    return proc.parse_reply(daemon.raw(data))


# The size of the head


@pytest.mark.parametrize("fields", [1, 20, 40, 95])
def test_heads_up_to_the_limit(gatherd, origin, fields):
    """What is let in is also answered: libmicrohttpd keeps the head, 64 bytes for each field, and
    the answer's head in one piece of memory. With few fields the limit is limits.head_bytes."""
    statuses = []
    for size in range(11000, 19000, 333):
        line = "X-F%02d: %s"
        each = [size // fields - 9] * fields
        data = posting(origin, *(line % (n, "a" * each[n]) for n in range(fields)))
        before = len(origin.seen)
        raw = gatherd.raw(data)
        status = proc.parse_reply(raw).status
        assert status in (200, 431), status
        assert len(origin.seen) - before == (status == 200)
        statuses.append(status)
    assert statuses[0] == 200 and statuses == sorted(statuses, key=lambda s: s != 200)
    if fields <= 20:
        assert statuses.count(200) == len([s for s in range(11000, 16384 - 190, 333)])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("fields", proc.form([3, 60], [3, 20, 60, 99]))
def test_every_head_that_is_too_large_is_answered(spawn, fields, method):
    """Ours while libmicrohttpd can tell us of the head, then its own. In between the head is whole and leaves
    no room for an answer's, 224 bytes: byte by byte at both ends of that."""
    daemon, statuses = spawn("limits.head_bytes=8K"), []
    memory = 8192 + 2560  # of a connection, see http_front.c
    full = memory - 64 * fields  # from there on it has no room for the fields
    whole = range(8192 - 64 if fields <= 20 else full - 1100, memory + 64)
    begin = "%s /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" % method
    begin += "".join("X-%02d:\r\n" % n for n in range(fields - 3)) + "X: "
    edges = [*range(full - 236, full - 212), *range(full - 212, full - 12, 25), *range(full - 12, full + 12)]
    for size in proc.form(edges, whole):
        data = daemon.raw(begin.encode() + b"a" * (size - len(begin) - 4) + b"\r\n\r\n")
        assert data, "%d bytes: no answer" % size
        reply = proc.parse_reply(data)
        statuses.append(reply.status)
        if reply.status == 431 and size < full - 12:
            assert reply.type == "application/problem+json" and reply.header("Date")
            assert reply.header("Connection") == "close" and reply.header("Cache-Control") == "no-store"
            assert method == "HEAD" or len(reply.body) == int(reply.header("Content-Length"))
            assert method == "HEAD" or reply.json()["status"] == 431
    assert set(statuses) <= {200, 431} and statuses == sorted(statuses) and statuses[-1] == 431
    refused = daemon.metrics()['gatherd_http_refused_total{reason="head"}']
    assert refused == statuses.count(431)


# Host


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:4284",
        "LOCALHOST",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:4284",
        "10.0.0.1:80",
        "192.168.1.5",
        "[fd00::1]:1",
    ],
)
def test_good_hosts(gatherd, origin, host):
    assert answer(gatherd, posting(origin, host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:4284",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost.",
        "gatherd.internal",
        "xlocalhost",
        "127.0.0.1.nip.io",
        "1.2.3.4.5",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::1",
        "::1]",
        "local host",
    ],
)
@pytest.mark.parametrize("target", ["/v1/batch", "/-/healthy", "/metrics"])
def test_rebinding_hosts(gatherd, origin, host, target):
    data = (
        posting(origin, host=host)
        if target == "/v1/batch"
        else head(target, "GET", host, "Connection: close") + b"\r\n"
    )
    reply = answer(gatherd, data)
    assert reply.status in (421, 400), reply
    if host[0].isalpha() and " " not in host:
        assert reply.status == 421
        contract.problem(reply, 421)
    assert not origin.seen


def test_host_missing_empty_and_twice(gatherd, origin):
    assert answer(gatherd, posting(origin, host=None)).status == 400
    assert answer(gatherd, posting(origin, host="")).status in (400, 421)
    assert answer(gatherd, posting(origin, "Host: localhost")).status == 400
    assert answer(gatherd, posting(origin, "host: evil.example")).status == 400
    assert not origin.seen


def test_configured_hosts(spawn, origin):
    daemon = spawn("listener.default.hosts=gather.internal other.internal")
    assert answer(daemon, posting(origin, host="gather.internal")).status == 200
    assert answer(daemon, posting(origin, host="OTHER.internal:99")).status == 200
    assert answer(daemon, posting(origin, host="third.internal")).status == 421


def test_absolute_form(gatherd, origin):
    """A request as to a proxy: the target's host may not get past the check either."""
    reply = answer(gatherd, posting(origin, target="http://evil.example/v1/batch"))
    assert reply.status in (400, 404, 421) and not origin.seen


# Origin, Sec-Fetch-Site

SITES = [
    None,
    "same-origin",
    "none",
    "same-site",
    "cross-site",
    "",
    "nonsense",
    "Same-Origin ",
    "none, cross-site",
]
ORIGINS = [
    None,
    "own",
    "null",
    "http://evil.example",
    "https://localhost",
    "http://localhost.evil.example",
    "http://127.0.0.1:1",
    "file://",
    "",
    "chrome-extension://x",
]


@pytest.mark.parametrize("site, who", list(itertools.product(SITES, ORIGINS)))
def test_cross_site_requests(gatherd, origin, site, who):
    host = "127.0.0.1:%d" % gatherd.port
    fields = [] if site is None else ["Sec-Fetch-Site: " + site]
    if who is not None:
        fields.append("Origin: " + ("http://" + host if who == "own" else who))
    reply = answer(gatherd, posting(origin, *fields, host=host))
    # Blanks around a value are no part of it (RFC 9110), and an empty one is not one of the good ones.
    good = (site is None or site.strip() in ("same-origin", "none")) and who in (None, "own")
    if site == "Same-Origin ":
        assert reply.status in (200, 403)
    elif good:
        assert reply.status == 200
    else:
        assert reply.status == 403 and not origin.seen, reply
        contract.problem(reply, 403)
    assert not [n for n, _ in reply.headers if n.lower().startswith("access-control")]


def test_preflight_gets_nothing(gatherd):
    reply = answer(
        gatherd,
        head(
            "/v1/batch",
            "OPTIONS",
            "localhost",
            "Origin: http://evil.example",
            "Access-Control-Request-Method: POST",
            "Connection: close",
        )
        + b"\r\n",
    )
    assert reply.status in (403, 405) and not [
        n for n, _ in reply.headers if n.lower().startswith("access-control")
    ]


# token


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, base_options):
    path = tmp_path_factory.mktemp("token") / "tokens"
    path.write_text("ci:correct-horse-battery\nother:another-token-00000\n")
    path.chmod(0o600)
    with proc.Gatherd(
        "policy.default.allow=127.0.0.1",
        "listener.default.token_file=%s" % path,
        *base_options,
        start=False
    ) as daemon:
        yield daemon.start()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer correct",
        "Bearer correct-horse-batterx",
        "Bearer correct-horse-battery2",
        "Basic Y2k6Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5",
        "correct-horse-battery",
        "Bearer ci:correct-horse-battery",
        "Bearer CORRECT-HORSE-BATTERY",
        "Bearer " + "x" * 5000,
    ],
)
def test_wrong_tokens(guarded, origin, value):
    reply = answer(
        guarded, posting(origin, *([] if value is None else ["Authorization: " + value]))
    )
    problem = contract.problem(reply, 401)
    assert reply.header("WWW-Authenticate").startswith("Bearer")
    first = contract.problem(answer(guarded, posting(origin)), 401)
    assert problem["detail"] == first["detail"] and not origin.seen


@pytest.mark.parametrize(
    "value",
    ["Bearer correct-horse-battery", "bearer correct-horse-battery", "Bearer another-token-00000"],
)
def test_right_tokens(guarded, origin, value):
    assert answer(guarded, posting(origin, "Authorization: " + value)).status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/metrics",
        "/v1/batch",
        "/v1/nothing",
        "/-/healthy/",
        "/-/healthy%2f",
        "/x/../-/healthy",
        "//-/healthy",
        "/-/metrics",
    ],
)
def test_everything_else_asks_for_the_token(guarded, target):
    assert answer(
        guarded, head(target, "GET", "localhost", "Connection: close") + b"\r\n"
    ).status in (401, 404)
    assert (
        answer(guarded, head("/metrics", "GET", "localhost", "Connection: close") + b"\r\n").status
        == 401
    )


def test_two_authorization_fields(guarded, origin):
    reply = answer(
        guarded,
        posting(
            origin, "Authorization: Bearer wrong", "Authorization: Bearer correct-horse-battery"
        ),
    )
    assert reply.status in (400, 401) and not origin.seen


def test_open_bind_needs_a_token(base_options):
    daemon = proc.Gatherd(*base_options, bind="0.0.0.0:0", start=False)
    daemon.start_nowait()
    assert daemon.wait_exit(10) in (64, 69, 78)
    assert "token" in daemon.log()
    daemon.stopped = True


# routes


@pytest.mark.parametrize(
    "target",
    [
        "/nothing",
        "/v1",
        "/v1/",
        "/v1/batch/",
        "/v1//batch",
        "/V1/batch",
        "/v1%2fbatch",
        "/v1/./batch",
        "/v1/batch%00",
        "/-/",
        "/-/health",
        "/metrics/",
        "/..",
        "/%2e%2e/x",
        "*",
    ],
)
def test_unknown_paths_are_404(gatherd, origin, target):
    for method in ("GET", "POST"):
        reply = answer(
            gatherd,
            head(target, method, "localhost", "Content-Length: 0", "Connection: close") + b"\r\n",
        )
        assert reply.status in ((404, 400) if target in ("*", "/v1/batch%00") else (404,)), reply
    assert not origin.seen


@pytest.mark.parametrize(
    "target, methods",
    [
        ("/v1/batch", ["POST"]),
        ("/-/healthy", ["GET", "HEAD"]),
        ("/-/ready", ["GET", "HEAD"]),
        ("/metrics", ["GET", "HEAD"]),
    ],
)
@pytest.mark.parametrize(
    "method", ["GET", "PUT", "DELETE", "PATCH", "POST", "OPTIONS", "get", "FOO", "HEAD"]
)
def test_methods(gatherd, target, methods, method):
    data = gatherd.raw(
        head(target, method, "localhost", "Content-Length: 0", "Connection: close") + b"\r\n"
    )
    reply = proc.parse_reply(data)
    if method in methods:
        assert reply.status in (200, 400)
        return
    assert reply.status == 405, reply
    assert (
        set(x.strip() for x in reply.header("Allow").split(",")) == set(methods)
        or reply.header("Allow").split(",")[0] == methods[0]
    )
    if method != "HEAD":
        contract.problem(reply, 405)


@pytest.mark.parametrize("target", ["/-/healthy", "/-/ready", "/metrics"])
def test_head_is_get_without_the_body(gatherd, target):
    data = gatherd.raw(head(target, "HEAD", "localhost", "Connection: close") + b"\r\n")
    assert data.startswith(b"HTTP/1.1 200") and data.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("length", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_only_a_batch_has_a_body(spawn, origin, tmp_path, length):
    """Nobody, with a token or without, makes gatherd hold bytes that no path has a use for."""
    path = tmp_path / "tokens"
    path.write_text("ci:correct-horse-battery\n")
    path.chmod(0o600)
    token = "Authorization: Bearer correct-horse-battery"
    daemon = spawn("listener.default.token_file=%s" % path, "limits.body_bytes=100K",
                   "limits.request_bytes=100K")  # fmt: skip
    part = b"x" * 50000
    part = part if length.startswith("C") else b"%x\r\n%b\r\n" % (len(part), part)
    held = []
    for target, method, fields in itertools.product(
        ["/-/healthy", "/-/ready", "/metrics", "/"], ["GET", "HEAD"], [[], [token]]
    ):
        sock = daemon.connect(10 * proc.scale())
        sock.sendall(head(target, method, "localhost", length, *fields) + b"\r\n")
        with contextlib.suppress(OSError):  # it has been refused
            sock.sendall(part)
        held.append(sock)
        code = 413 if fields or target.startswith("/-/") else 401
        assert sock.recv(13) == b"HTTP/1.1 %d " % code, (target, method, fields)
    value = contract.metrics(daemon.get("/metrics", {"Authorization": token[15:]}))
    assert value["gatherd_request_bytes"] == 0
    assert answer(daemon, posting(origin, token)).status == 200
    for sock in held:
        sock.close()


# sizes


def test_body_too_large(spawn, origin):
    daemon = spawn("limits.body_bytes=10K")
    data = json.dumps([origin.url("/ok?" + "x" * 20000)]).encode()
    contract.problem(daemon.post(data), 413)
    fields = (
        head(
            "/v1/batch",
            "POST",
            "localhost",
            "Content-Type: application/json",
            "Content-Length: 99999999999",
            "Connection: close",
        )
        + b"\r\n"
    )
    assert answer(daemon, fields).status == 413
    chunked = head(
        "/v1/batch",
        "POST",
        "localhost",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        "Connection: close",
    )
    assert (
        answer(
            daemon,
            chunked
            + b"\r\n"
            + b"400\r\n"
            + b" " * 1024
            + b"\r\n"
            + b"\r\n".join([b"400\r\n" + b" " * 1024] * 60)
            + b"\r\n0\r\n\r\n",
        ).status
        == 413
    )
    assert not origin.seen
    assert daemon.one(origin.url("/size/1"))["ok"] is True


def test_413_before_the_body_is_sent(spawn):
    """With Expect: 100-continue the refusal comes instead of the 100."""
    daemon = spawn("limits.body_bytes=10K")
    data = daemon.raw(
        head(
            "/v1/batch",
            "POST",
            "localhost",
            "Content-Type: application/json",
            "Content-Length: 20000",
            "Expect: 100-continue",
        )
        + b"\r\n"
    )
    assert data.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("shape", ["one", "many", "target", "name"])
def test_head_too_large(gatherd, shape):
    fields = {
        "one": ["X-A: " + "a" * 40000],
        "many": ["X-%d: a" % n for n in range(6000)],
        "target": [],
        "name": ["X" * 40000 + ": a"],
    }[shape]
    target = "/-/healthy" + ("?" + "a" * 40000 if shape == "target" else "")
    data = gatherd.raw(head(target, "GET", "localhost", *fields, "Connection: close") + b"\r\n")
    assert data == b"" or data.split(b" ")[1] in (b"400", b"413", b"414", b"431"), data[:200]
    assert gatherd.get("/-/healthy").status == 200


def test_head_of_8k_is_fine(gatherd, origin):
    assert answer(gatherd, posting(origin, "X-A: " + "a" * 8000)).status == 200


# shapes that smuggle

BODY = b'["http://127.0.0.1:1/"]'
SMUGGLE = {
    "two-cl": ["Content-Length: %d" % len(BODY), "Content-Length: 0"],
    "two-cl-same": ["Content-Length: %d" % len(BODY)] * 2,
    "cl-list": ["Content-Length: 23, 23"],
    "cl-plus": ["Content-Length: +23"],
    "cl-minus": ["Content-Length: -1"],
    "cl-hex": ["Content-Length: 0x17"],
    "cl-huge": ["Content-Length: 99999999999999999999999999"],
    "cl-blank": ["Content-Length: 2 3"],
    "cl-text": ["Content-Length: abc"],
    "cl-te": ["Content-Length: 23", "Transfer-Encoding: chunked"],
    "te-cl": ["Transfer-Encoding: chunked", "Content-Length: 23"],
    "two-te": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    "te-identity": ["Transfer-Encoding: identity"],
    "te-gzip": ["Transfer-Encoding: gzip, chunked"],
    "te-odd": ["Transfer-Encoding: xchunked"],
    "te-twice": ["Transfer-Encoding: chunked, chunked"],
    "te-quoted": ['Transfer-Encoding: "chunked"'],
    "te-param": ["Transfer-Encoding: chunked;a=b"],
    "space-colon": ["Content-Length : 23"],
    "name-space": ["X Y: 1", "Content-Length: 23"],
    "name-ctl": ["X\x01Y: 1", "Content-Length: 23"],
    "name-empty": [": 1", "Content-Length: 23"],
    "value-ctl": ["X-A: a\x01b", "Content-Length: 23"],
    "value-del": ["X-A: a\x7fb", "Content-Length: 23"],
    "nul": ["X-A: a\0b", "Content-Length: 23"],
    "folded": ["X-A: a\r\n b", "Content-Length: 23"],
    "folded-tab": ["X-A: a\r\n\tb", "Content-Length: 23"],
    "bare-lf": ["X-A: a\nX-B: b", "Content-Length: 23"],
    "bare-cr": ["X-A: a\rX-B: b", "Content-Length: 23"],
    "name-parens": ["X(Y): 1", "Content-Length: 23"],
    "no-colon": ["nothing", "Content-Length: 23"],
}


@pytest.mark.parametrize("name", sorted(SMUGGLE))
def test_smuggling_shapes(gatherd, name):
    """Refused, and the connection is closed: the pipelined request behind it is never answered."""
    before = gatherd.metrics()["gatherd_batches_total"]
    data = (
        head("/v1/batch", "POST", "localhost", "Content-Type: application/json", *SMUGGLE[name])
        + b"\r\n"
        + BODY
    )
    got = gatherd.raw(data + head("/-/healthy", "GET", "localhost") + b"\r\n")
    assert got == b"" or got.split(b" ")[1] in (b"400", b"411", b"413", b"501"), got[:300]
    assert set(re.findall(rb"HTTP/1\.1 (\d)", got)) <= {b"4", b"5"}
    assert gatherd.metrics()["gatherd_batches_total"] == before


@pytest.mark.parametrize("behind", [b"", b"yyyy", head("/-/ready", "GET", "localhost") + b"\r\n"])
@pytest.mark.parametrize("length", [[], ["Content-Length: 0"]])
def test_a_continue_asked_for_without_content(gatherd, length, behind):
    """It is not said, the request is answered, and what is behind it is neither a body nor answered."""
    first = head("/-/healthy", "GET", "localhost", "Expect: 100-continue", *length) + b"\r\n"
    got = gatherd.raw(first + behind)
    assert re.findall(rb"HTTP/1\.1 (\d+)", got) == [b"200"] and got.endswith(b"ok\n"), got
    assert b"\r\nConnection: close\r\n" in got


@pytest.mark.parametrize(
    "line",
    [
        "POST /v1/batch",
        "POST /v1/batch HTTP/2.0",
        "POST /v1/batch HTTP/0.9",
        "POST  /v1/batch HTTP/1.1",
        "POST /v1/batch  HTTP/1.1",
        "POST\t/v1/batch\tHTTP/1.1",
        "POST /v1/batch HTTP/1.1 x",
        "P\x01ST /v1/batch HTTP/1.1",
        "/v1/batch HTTP/1.1",
        "POST /v1 /batch HTTP/1.1",
        "PRI * HTTP/2.0",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_bad_request_lines(gatherd, line):
    got = gatherd.raw(
        line.encode("latin-1")
        + b"\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        % len(BODY)
        + BODY
    )
    assert (
        got == b"" or not got.startswith(b"HTTP/1.1 200") or line.count("  ") or "\t" in line
    ), got[:200]


def test_chunked_faults(gatherd):
    fields = (
        head(
            "/v1/batch",
            "POST",
            "localhost",
            "Content-Type: application/json",
            "Transfer-Encoding: chunked",
        )
        + b"\r\n"
    )
    for body in (
        b"xyz\r\n",
        b"-1\r\n",
        b"ffffffffffffffffff\r\nx",
        b"2\r\n[]XX0\r\n\r\n",
        b"0x2\r\n[]\r\n0\r\n\r\n",
    ):
        got = gatherd.raw(
            fields + body + head("/-/healthy", "GET", "localhost", "Connection: close") + b"\r\n"
        )
        assert b"HTTP/1.1 200" not in got, got[:300]


def test_errors_close_the_connection(gatherd):
    for data in (
        posting_bad(),
        head("/nothing", "GET", "localhost") + b"\r\n",
        head("/v1/batch", "GET", "localhost") + b"\r\n",
    ):
        got = gatherd.raw(data, timeout=5)
        assert got.split(b" ")[1][:1] == b"4" and b"connection: close" in got.lower()


def posting_bad():
    return (
        head(
            "/v1/batch",
            "POST",
            "evil.example",
            "Content-Type: application/json",
            "Content-Length: 2",
        )
        + b"\r\n[]"
    )


# slow clients


def closed_after(sock, drip=None, every=0.1, limit=20):
    """Seconds until gatherd closes; meanwhile bytes of `drip` are sent one by one."""
    start = time.monotonic()
    sock.settimeout(every)
    while time.monotonic() - start < limit:
        if drip:
            try:
                sock.sendall(drip[:1])
                drip = drip[1:]
            except OSError:
                break
        try:
            if not sock.recv(4096):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - start


def test_slow_head_body_and_idle(spawn):
    daemon = spawn(
        "listener.default.head_timeout=1s",
        "listener.default.body_timeout=1s",
        "listener.default.keep_alive=1s",
    )
    socks = {
        name: daemon.connect() for name in ("nothing", "head", "drip", "body", "body-drip", "idle")
    }
    fields = (
        head(
            "/v1/batch",
            "POST",
            "localhost",
            "Content-Type: application/json",
            "Content-Length: 1000",
        )
        + b"\r\n"
    )
    socks["head"].sendall(b"GET /-/healthy HTTP/1.1\r\nHost: loc")
    socks["body"].sendall(fields + b"[")
    socks["body-drip"].sendall(fields)
    socks["idle"].sendall(head("/-/healthy", "GET", "localhost") + b"\r\n")
    drips = {"drip": b"GET / HTTP/1.1\r\nX-A: " + b"a" * 500, "body-drip": b" " * 500}
    took = {}

    def watch(name):
        took[name] = closed_after(socks[name], drips.get(name))

    threads = [threading.Thread(target=watch, args=(name,)) for name in socks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, seconds in took.items():
        assert 0.4 < seconds < 2.5 * proc.scale(), (name, took)


def test_a_client_that_reads_nothing(spawn, origin):
    """Its answer is larger than all buffers: it is cut after send_timeout, and others are served."""
    daemon = spawn("listener.default.send_timeout=1s")
    body = json.dumps(
        {"requests": [origin.url("/size/2000000?n=%d" % n) for n in range(10)], "include": ["body"]}
    ).encode()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", daemon.port))
    sock.sendall(
        head(
            "/v1/batch",
            "POST",
            "localhost",
            "Content-Type: application/json",
            "Content-Length: %d" % len(body),
        )
        + b"\r\n"
        + body
    )
    assert origin.wait(lambda: len(origin.seen) == 10)
    deadline = time.monotonic() + 15 * proc.scale()
    while daemon.descriptors()["client"]:
        assert time.monotonic() < deadline, "the client that reads nothing is not cut"
        time.sleep(0.05)
    sock.close()
    assert daemon.one(origin.url("/size/3"))["ok"] is True


def test_many_idle_connections(gatherd, origin):
    socks = [gatherd.connect() for _ in range(300)]
    assert gatherd.one(origin.url("/size/3"))["ok"] is True
    for sock in socks:
        sock.close()


def test_half_closed_client(gatherd, origin):
    """A client that shuts down its sending side counts as gone; gatherd lives on either way."""
    with gatherd.connect() as sock:
        sock.sendall(posting(origin, path="/delay/100/size/3"))
        sock.shutdown(socket.SHUT_WR)
        data = proc.read_all(sock)
    assert data == b"" or data.startswith(b"HTTP/1.1 200")


def test_unix_socket(spawn, origin, tmp_path):
    path = tmp_path / "socket"
    daemon = spawn(bind="unix:%s" % path)
    assert daemon.one(origin.url("/size/3"))["ok"] is True
    assert answer(daemon, posting(origin, host="any.name.at.all")).status == 200
    assert path.stat().st_mode & 0o777 == 0o660
    daemon.stop()
    assert not path.exists()
