# SPDX-License-Identifier: MIT
"""HTTP/2 to upstreams: when it is spoken, many members on one connection, and each way in which a stream
or a connection ends. Where libcurl 7.88 and later ones differ and both are right by the contract, both
outcomes stand there, divided by `|`."""
import re
import signal
import subprocess
import threading
import time

import pytest

from lib import contract, proc

try:
    from lib import http2
except ImportError:
    http2 = None

pytestmark = pytest.mark.skipif(http2 is None, reason="python3-h2 is not installed")

ALPN = ("h2", "http/1.1")
GONE = "connection_terminated wait"
INCOMPLETE = "http_response_incomplete receive"
PROTOCOL = "http_protocol_error wait|http_protocol_error receive"
HEAD_SIZE = "http_response_header_section_size receive|http_response_header_section_size wait"
TIMEOUT_HEAD = "http_response_timeout wait"
TIMEOUT_BODY = "http_response_timeout receive"

# Of the stream alone: a neighbour on the same connection is not disturbed.
STREAM_OUTCOMES = {
    "/never": TIMEOUT_HEAD,
    "/stall/after/10": TIMEOUT_BODY,
    "/drip/300/50": TIMEOUT_BODY,
    "/status/404/size/3": "404",
    "/status/503/size/3": "503",
    "/trailers/50/size/5": "200",
    "/1xx/20/size/5": "200",
    "/headers/200/size/5": "200",
    "/h2/rst/0": GONE,
    "/h2/rst/1": PROTOCOL,
    "/h2/rst/2": GONE,
    "/h2/rst/3": PROTOCOL,
    "/h2/rst/5": PROTOCOL,
    "/h2/rst/8": GONE,
    "/h2/rst/11": GONE,
    "/h2/rst/12": PROTOCOL,
    # a head that comes together with the reset is dropped by libcurl 7.88
    "/h2/rst-after/10/0": INCOMPLETE + "|" + GONE,
    "/h2/rst-after/10/1": PROTOCOL,
    "/h2/rst-after/10/2": INCOMPLETE + "|" + GONE,
    "/h2/rst-after/10/8": INCOMPLETE + "|" + GONE,
    # No END_STREAM: libcurl 7.88 loses what comes with the reset in one read.
    "/h2/rst-complete/10": "200|" + INCOMPLETE,
    "/h2/length/100/10": PROTOCOL,
    "/h2/length/10/100": PROTOCOL,
    "/h2/fields/60/1000": "200",
    # libcurl 7.88 may hand on the end of a head of more than 64 KB before its beginning
    "/h2/fields/70/1000": HEAD_SIZE + "|" + PROTOCOL,
    "/h2/fields/6000/1": HEAD_SIZE + "|" + PROTOCOL,
    "/h2/trailers/100/10": "200",
    "/h2/trailers/70/1000": HEAD_SIZE,
    "/h2/hints": HEAD_SIZE + "|" + PROTOCOL,
    "/h2/frame/unknown-kind": "200",
    "/h2/frame/end-twice": "200",
}
STREAM_OUTCOMES.update(("/h2/head/" + name, PROTOCOL) for name in getattr(http2, "HEADS", ()))

# With the stream the connection ends, and every stream on it.
CONNECTION_OUTCOMES = {
    "/close": GONE,
    "/reset": GONE,
    "/cut/after/10": INCOMPLETE,
    "/reset/after/10": "connection_terminated receive",
    "/h2/rst/7": GONE,  # libcurl tries again on other connections, five times
    "/h2/goaway-before/0": GONE,
    "/h2/goaway-before/2": GONE,
    "/h2/goaway-within/0": INCOMPLETE,
    "/h2/goaway-within/11": INCOMPLETE,
    "/h2/fields/1000/1000": HEAD_SIZE + "|" + PROTOCOL,
    "/h2/fields/1/70000": "|".join((GONE, PROTOCOL, HEAD_SIZE, INCOMPLETE)),
    "/h2/trailers/1000/1000": HEAD_SIZE + "|" + PROTOCOL,
    "/h2/continuation": HEAD_SIZE + "|" + PROTOCOL,
    "/h2/flood/ping": TIMEOUT_HEAD + "|" + PROTOCOL,
    "/h2/flood/settings": TIMEOUT_HEAD + "|" + PROTOCOL,
    "/h2/flood/empty-data": TIMEOUT_BODY + "|" + PROTOCOL,
}
# libcurl 7.88 ends a connection that breaks the protocol without a word, later ones may wait for more.
CONNECTION_OUTCOMES.update(
    ("/h2/frame/" + name, "|".join((GONE, PROTOCOL, TIMEOUT_HEAD)))
    for name in getattr(http2, "FRAMES", ())
    if "/h2/frame/" + name not in STREAM_OUTCOMES
)


@pytest.fixture(scope="module")
def ports(origin_server, authority):
    """Opens ports that speak HTTP/2: all streams that libcurl would use, or few."""

    class Few(http2.Http2):
        max_streams = 3

    context = authority.context(alpn=ALPN)
    return {
        kind: origin_server.listen(tls=context, protocol=kind) for kind in (http2.Http2, Few)
    } | {"few": Few}


@pytest.fixture
def url(origin, ports):
    return lambda path, **more: origin.url(
        path, **dict(dict(port=ports[http2.Http2], scheme="https"), **more)
    )


def member(url, expected="", **more):
    """One that waits for its time-out only where that is what is expected."""
    patience = int((800 if "timeout" in expected else 20000) * proc.scale())
    return dict({"url": url, "http_version": "2", "timeout_ms": patience}, **more)


def outcome(result):
    if result["state"] == "done":
        return str(result["status"])
    return "%s %s" % (result["error"]["type"], result["error"]["phase"])


def libcurl_version():
    said = subprocess.run([proc.program(), "-V"], capture_output=True, text=True, check=True).stdout
    return tuple(int(n) for n in re.search(r"libcurl (\d+)\.(\d+)", said).groups())


# when it is spoken


@pytest.mark.parametrize("asked, spoken", [("2", "2"), ("1.1", "1.1"), ("auto", None)])
def test_negotiation(gatherd, origin, url, asked, spoken):
    if spoken is None:
        spoken = "2" if libcurl_version() >= (8, 1) else "1.1"
    result = gatherd.one({"url": url("/size/5"), "http_version": asked})
    assert result["ok"] is True and result["http_version"] == spoken
    assert origin.seen[0].raw.startswith(b"GET /size/5 HTTP/" + spoken.encode() + b"\r\n")


def test_both_at_once_have_connections_of_their_own(gatherd, origin, url):
    doc = gatherd.batch([member(url("/size/5")), member(url("/size/6"), http_version="1.1")] * 5)
    assert [r["http_version"] for r in doc["results"]] == ["2", "1.1"] * 5


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)])
def test_a_server_without_it(gatherd, origin, authority, url, alpn):
    port = origin.listen(tls=authority.context(alpn=alpn))
    result = gatherd.one(member(url("/size/5", port=port)))
    assert result["ok"] is True and result["http_version"] == "1.1"


def test_without_tls_it_is_never_spoken(gatherd, origin):
    result = gatherd.one(member(origin.url("/size/5")))
    assert result["ok"] is True and result["http_version"] == "1.1"


def test_a_server_that_wants_http1_for_one_path(gatherd, origin, url):
    """HTTP_1_1_REQUIRED: that member gets it, and no other."""
    before = gatherd.one(member(url("/size/5")))
    result = gatherd.one(member(url("/h2/once/13/size/6")))
    after = gatherd.one(member(url("/size/7")))
    assert result["ok"] is True and result["http_version"] == "1.1" and result["num_retries"] == 1
    assert before["http_version"] == after["http_version"] == "2"


@pytest.mark.parametrize("by", ["a status line", "another connection"])
def test_a_busy_http1_connection_is_not_shared(spawn, origin, authority, url, by):
    """A server chooses HTTP/1.1 for one connection, which is in use, and then says HTTP/2: falsely, in a
    status line, or for another connection. Who asks next is not put on the first."""
    gatherd = spawn()
    context = authority.context(alpn=("http/1.1",))
    port = origin.listen(tls=context, protocol=http2.Http2)
    box = []
    asked = member(url("/gate/a/size/9", port=port))
    waits = threading.Thread(target=lambda: box.append(gatherd.one(asked, include=["body"])))
    waits.start()
    assert origin.wait(lambda: len(origin.seen) == 1)
    if by == "a status line":
        origin.raw("false", b"HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok", "keep")
        path, error = "/raw/false", "http_protocol_error"
    else:
        context.set_alpn_protocols(["h2"])
        path, error = "/size/2", None
    said = gatherd.one(member(url(path, port=port), fresh_connection=True))
    context.set_alpn_protocols(["http/1.1"])
    for count in (3, 4, 5):  # while the first still waits
        target = url("/size/%d?n=%d" % (count, count), port=port)
        result = gatherd.one(member(target), include=["body"])
        assert result["state"] == "done" and result["body"] == "abcde"[:count]
        assert result["num_retries"] == 0
    origin.release("a")
    waits.join(30 * proc.scale())
    assert box[0]["body"] == "abcdefghi" and (said["error"] or {}).get("type") == error
    assert max(origin.paths().values()) == 1


def test_crowds_are_told_falsely(spawn, origin, authority, url):
    """Many at a time, of several batches: to each its own answer or an error."""
    gatherd = spawn()
    port = origin.listen(tls=authority.context(alpn=("http/1.1",)))
    origin.raw("false", b"HTTP/2 200 OK\r\nContent-Length: 2\r\n", 0.01, b"\r\nok", "keep")
    box = []

    def ask(turn):
        paths = ["/raw/false" if n % 4 == 0 else "/delay/5/size/%d?n=%d" % (n, turn) for n in range(40)]
        members = [member(url(path, port=port)) for path in paths]
        box.append(gatherd.batch(members, include=["body"], concurrency=10)["results"])

    threads = [threading.Thread(target=ask, args=(turn,)) for turn in range(proc.form(4, 40))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120 * proc.scale())
    assert len(box) == len(threads)
    for results in box:
        for n, result in enumerate(results):
            if n % 4 == 0:
                assert outcome(result) == "http_protocol_error receive"
            else:
                assert result["size_delivered"] == n and result["http_version"] == "1.1"


# many on one connection


def test_many_at_once_on_one_connection(spawn, origin, url):
    """All are under way at the same time, on one connection; nothing is answered before that."""
    daemon = spawn()
    requests = [member(url("/gate/all/size/%d" % n)) for n in range(50)]
    box = []
    thread = threading.Thread(target=lambda: box.append(daemon.post({"requests": requests})))
    thread.start()
    assert origin.wait(lambda: len(origin.seen) == 50)
    assert origin.accepted == 1
    origin.release("all")
    thread.join(60)
    doc = contract.check(box[0].body, requests)
    assert doc["counts"]["ok"] == 50 and origin.accepted == 1
    assert [r["size_delivered"] for r in doc["results"]] == list(range(50))
    assert {r["http_version"] for r in doc["results"]} == {"2"}
    assert sum(r["num_connects"] for r in doc["results"]) == 1


def test_a_kept_connection_is_used_again(gatherd, origin, url):
    gatherd.one(member(url("/size/1")))
    before = origin.accepted
    doc = gatherd.batch([member(url("/size/%d" % n)) for n in range(20)])
    assert doc["counts"]["ok"] == 20 and doc["counts"]["reused_connections"] == 20
    assert origin.accepted == before
    for result in doc["results"]:
        assert result["num_connects"] == 0 and result["timings_ms"]["tls"] is None


def test_a_kept_connection_costs_no_connecting(spawn, origin, authority, url, dns):
    """However long its name was looked up, for which ttl 0 is a second. Only a wait of more than 1 ms after
    that is one for a connection, and a busy machine may take as long."""
    gatherd = spawn()
    dns.add("h2-slow.wild.test", a=["127.0.0.1"], ttl=0, delay=0.1)
    port = origin.listen(tls=authority.context("names", alpn=ALPN), protocol=http2.Http2)
    looked_up = []
    deadline = time.monotonic() + 60 * proc.scale()
    while len(looked_up) < proc.form(3, 10) and time.monotonic() < deadline:
        result = gatherd.one(member(url("/size/3", port=port, host="h2-slow.wild.test")))
        assert result["ok"] is True and result["http_version"] == "2"
        if result["timings_ms"]["dns"] is not None:
            looked_up.append(result["timings_ms"])
        time.sleep(0.05)
    assert len(looked_up) == proc.form(3, 10) and origin.accepted == 1
    assert all(t["dns"] >= 90 for t in looked_up)
    assert all(t["connect"] is None or t["connect"] > 1 for t in looked_up[1:])


def test_fewer_streams_than_members(gatherd, origin, ports, url):
    port = ports[ports["few"]]
    doc = gatherd.batch([member(url("/delay/5/size/%d" % n, port=port)) for n in range(20)])
    assert doc["counts"]["ok"] == 20
    assert [r["size_delivered"] for r in doc["results"]] == list(range(20))


def test_large_bodies_share_the_connection(gatherd, origin, url):
    sizes = [300000 + n for n in range(8)]
    doc = gatherd.batch(
        [member(url("/size/%d" % size)) for size in sizes], include=["body_sha256"]
    )
    assert [r["size_delivered"] for r in doc["results"]] == sizes
    assert len({r["body_sha256"] for r in doc["results"]}) == len(sizes)


# the same as over HTTP/1.1


@pytest.mark.parametrize(
    "path",
    [
        "/ok",
        "/size/0",
        "/size/1000",
        "/size/200000",
        "/chunked/1000",
        "/gzip/size/10000",
        "/status/404/size/3",
        "/status/204",
        "/headers/20/size/5",
        "/trailers/3/size/5",
        "/1xx/3/size/5",
        "/redirect/2/to/size/9",
        "/delay/20/size/5",
        "/size/5?header=X-A:b&retry-after=7",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_result_is_that_of_http1(gatherd, origin, url, path, method):
    """Sums and sizes are asserted for each answer by lib/contract.py; here, that they are the same."""
    include = ["headers", "body_sha256"]
    requests = [
        member(url(path), http_version=version, method=method, fresh_connection=True)
        for version in ("1.1", "2")
    ]
    if method == "POST":
        for request in requests:
            request["body"] = "x" * 3000
    one, two = gatherd.batch(requests, include=include, concurrency=1)["results"]
    assert (one["http_version"], two["http_version"]) == ("1.1", "2")
    for name in (
        *("state", "ok", "status", "content_type", "truncated", "retryable", "retry_after_ms"),
        *("num_redirects", "num_retries", "num_connects", "body_sha256", "url_effective"),
        *("size_upload", "size_download", "size_delivered"),
    ):
        assert one[name] == two[name], name
    assert [name for name, value in one["timings_ms"].items() if value is None] == [
        name for name, value in two["timings_ms"].items() if value is None
    ]
    assert two["timings_ms"]["tls"] > 0 and two["size_header"] > 0 and two["size_request"] > 0
    fields = [
        sorted(
            (name.lower(), value)
            for name, value in result["headers"]
            if name.lower() not in ("transfer-encoding", "trailer")
        )
        for result in (one, two)
    ]
    assert fields[0] == fields[1]


def test_a_request_arrives_as_it_was_asked_for(gatherd, origin, url):
    body = "é" * 100000
    result = gatherd.one(
        member(
            url("/echo?q=1"),
            method="PUT",
            body=body,
            headers={"X-One": "1", "Content-Type": "text/x"},
                   )
    )
    seen = origin.seen[0]
    assert result["ok"] is True and result["size_upload"] == len(body.encode())
    assert seen.method == "PUT" and seen.target == "/echo?q=1" and seen.body == body.encode()
    assert seen.header("x-one") == ["1"] and seen.header("content-type") == ["text/x"]
    for name in ("connection", "transfer-encoding", "upgrade", "http2-settings", "te"):
        assert not seen.header(name), name


# how it ends


def check_failure(result):
    if result["state"] == "failed":
        assert result["error"]["sent"] is True and result["total_ms"] < 5000
        if result["error"]["type"].startswith("http_"):
            assert result["error"]["os_errno"] is None, result["error"]
        if result["error"]["type"] != "http_protocol_error":
            assert "framing" not in result["error"]["message"], result["error"]
        gone = result["error"]["type"] in ("connection_terminated", "http_response_incomplete")
        assert result["retryable"] is (gone or result["error"]["type"] == "http_response_timeout")


@pytest.mark.parametrize("path", sorted(STREAM_OUTCOMES))
def test_a_stream_ends(gatherd, origin, url, path):
    """One stable outcome, and the neighbours on the same connection get their answers."""
    gatherd.one(member(url("/size/1")))
    before = origin.accepted
    doc = gatherd.batch(
        [
            member(url("/delay/50/size/7")),
            member(url(path), STREAM_OUTCOMES[path]),
            member(url("/size/8")),
        ]
    )
    first, bad, last = doc["results"]
    assert first["ok"] is True and first["size_delivered"] == 7 and first["num_retries"] == 0
    assert last["ok"] is True and last["size_delivered"] == 8 and last["num_retries"] == 0
    assert outcome(bad) in STREAM_OUTCOMES[path].split("|"), (outcome(bad), bad["error"])
    assert bad["http_version"] == ("2" if bad["status"] else None)
    # libcurl 7.88 that reads a reset together with the answer before it has given up, and asks again
    assert origin.accepted - before <= bad["num_retries"] <= (1 if "/rst-" in path else 0)
    check_failure(bad)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("path", sorted(CONNECTION_OUTCOMES))
def test_a_connection_ends(gatherd, origin, url, path, kept):
    """One stable outcome, on a connection of its own and on a kept one; the origin is fetched from as
    before."""
    if kept:
        gatherd.one(member(url("/size/1")))
    bad = gatherd.one(member(url(path), CONNECTION_OUTCOMES[path], fresh_connection=not kept))
    assert outcome(bad) in CONNECTION_OUTCOMES[path].split("|"), (outcome(bad), bad["error"])
    check_failure(bad)
    after = gatherd.one(member(url("/size/8")))
    assert after["ok"] is True and after["size_delivered"] == 8 and after["http_version"] == "2"


@pytest.mark.parametrize("name", sorted(getattr(http2, "BREAKS", ())))
def test_a_broken_connection_ends_no_answer_well(gatherd, origin, url, name):
    """Neither that of the stream on which it broke, nor that of one which did nothing. Who had all of his
    keeps it. libcurl 8 says by itself that the connection was broken."""
    ended = (INCOMPLETE,) if libcurl_version() < (8, 1) else (INCOMPLETE, "http_protocol_error receive")
    gatherd.one(member(url("/size/1")))
    paths = ["/chunked/9", "/h2/part/a", "/h2/part/b", "/h2/broken/%s/2" % name]
    doc = gatherd.batch([member(url(path)) for path in paths], include=["body"])
    whole, *parts = doc["results"]
    assert whole["ok"] is True and whole["body"] == "abcdefghi"
    assert {seen.conn for seen in origin.seen} == {origin.seen[0].conn}
    for result in parts:
        assert outcome(result) in ended, (outcome(result), result["error"])
        check_failure(result)
    after = gatherd.one(member(url("/size/8")))
    assert after["ok"] is True and after["size_delivered"] == 8 and after["http_version"] == "2"


@pytest.mark.parametrize("name", sorted(getattr(http2, "BREAKS", ())))
def test_a_broken_connection_that_stays_open(gatherd, url, name):
    """Those who share it learn of it as soon as the one on whose stream it broke."""
    gatherd.one(member(url("/size/1")))
    paths = ["/h2/part/a", "/never", "/never?2", "/h2/left-open/%s/1" % name]
    start = time.monotonic()
    doc = gatherd.batch([member(url(path), method="POST", body="x") for path in paths])
    assert time.monotonic() - start < 6 * proc.scale()
    for result in doc["results"]:
        assert outcome(result) in (GONE, INCOMPLETE, *PROTOCOL.split("|")), (outcome(result), result["error"])
        check_failure(result)
    assert gatherd.one(member(url("/size/8")))["ok"] is True


@pytest.mark.parametrize("size", [300000, 100])
def test_an_upload_whose_window_is_shut_does_not_spin(spawn, origin, authority, size):
    """Its socket can be written to all the time, and nothing may be."""

    class Shut(http2.NoWindow, http2.Http2):
        pass

    daemon = spawn("fetch.ca_file=" + authority.ca_file, "fetch.http_version=2")
    port = origin.listen(tls=authority.context("good", alpn=["h2"]), protocol=Shut)
    target = origin.url("/size/3", port=port, scheme="https")
    upload = {"url": target, "method": "POST", "body": "x" * size, "timeout_ms": 2000}
    before = daemon.cpu_s()
    doc = daemon.batch([upload] * 3)
    used = daemon.cpu_s() - before
    if size > 65535:
        assert {outcome(result) for result in doc["results"]} <= {"connection_write_timeout send", TIMEOUT_HEAD}
    else:
        assert doc["ok"] is True
    assert used < 0.5 * proc.scale(), used


@pytest.mark.parametrize("name", sorted(getattr(http2, "BREAKS", ())))
def test_what_had_ended_before_is_an_answer(gatherd, origin, url, name):
    """Whatever comes with it. Later libcurls may fail it together with the connection."""
    result = gatherd.one(member(url("/h2/last/" + name)), include=["body"])
    if libcurl_version() < (8, 1) or result["state"] == "done":
        assert outcome(result) == "200" and result["body"] == "ok"
    assert gatherd.one(member(url("/size/8")))["ok"] is True


@pytest.mark.parametrize("path", ["/h2/half/200/-", "/h2/half/200/gzip", "/h2/half/302/-"])
def test_a_reset_without_an_error_is_no_end(gatherd, origin, url, path):
    """An answer without a length has one end, END_STREAM."""
    gatherd.one(member(url("/size/1")))
    doc = gatherd.batch([member(url("/delay/20/chunked/7")), member(url(path))])
    other, half = doc["results"]
    assert outcome(half) == INCOMPLETE and half["error"]["exitcode"] is None
    assert half["num_redirects"] == 0 and half["error"]["message"] == (
        "the answer's HTTP/2 stream was broken off"
    )
    check_failure(half)
    assert other["ok"] is True and other["size_delivered"] == 7 and other["num_retries"] == 0


@pytest.mark.parametrize("name", [*getattr(http2, "WHOLE", ()), *getattr(http2, "LENGTHS", ())])
def test_whole_answers_stay_answers(gatherd, origin, url, name):
    """In each way in which one may end, whatever comes behind it."""
    result = gatherd.one(member(url("/h2/whole/" + name)))
    status = {"204": "204", "304": "304", "error": "500"}.get(name, "200")
    empty = ("head", "long-head", "empty-data", "length-0", "204", "304")
    size = 0 if name in empty else 7 if name == "redirect" else 2
    assert (outcome(result), result["size_delivered"]) == (status, size), result["error"]
    assert result["num_redirects"] == (name == "redirect") and result["num_retries"] == 0


@pytest.mark.parametrize("name", ["nothing", "length-0", "204", "304"])
def test_an_answer_to_head_ends_with_its_head(gatherd, origin, url, name):
    result = gatherd.one(member(url("/h2/whole/" + name), method="HEAD"))
    assert outcome(result) == (name if name in ("204", "304") else "200"), result["error"]


def test_a_body_without_a_length_that_is_cut_is_done(gatherd, origin, url):
    """By gatherd: max_response_bytes, and the body of a redirect that is too long to be read."""
    cut = gatherd.one(member(url("/chunked/300000"), max_response_bytes=1000))
    assert cut["state"] == "done" and cut["truncated"] is True and cut["size_delivered"] == 1000
    moved = gatherd.one(member(url("/chunked/300000?status=302&header=Location:/size/5")))
    assert moved["ok"] is True


@pytest.mark.parametrize("path", ["/close", "/reset", "/cut/after/10", "/h2/goaway-within/0"])
def test_a_connection_ends_under_many(gatherd, origin, url, path):
    """Who had no answer yet is told so or is sent again; who had a part is told that. Nobody waits for
    his time-out."""
    gatherd.one(member(url("/size/1")))
    paths = ["/stall/after/10?n=%d" % n for n in range(5)] + ["/never?n=%d" % n for n in range(5)]
    requests = [member(url(p)) for p in paths]
    box = []
    body = {"requests": requests, "deadline_ms": 15000}
    thread = threading.Thread(target=lambda: box.append(gatherd.post(body)))
    thread.start()
    assert origin.wait(lambda: len(origin.seen) == 11)
    assert len({seen.conn for seen in origin.seen}) == 1
    ending = gatherd.one(member(url(path)))
    assert ending["state"] == "failed", ending
    origin.wait(lambda: bool(box), 1)
    again = {seen.target for seen in origin.seen[11:]}  # on a connection that goes on
    origin.close_all()
    thread.join(60)
    results = contract.check(box[0].body, requests)["results"]
    assert all(r["total_ms"] < 10000 for r in results)
    for path_of_one, result in zip(paths, results):
        partly = result["size_delivered"] == 10
        assert result["error"]["type"] in ("connection_terminated", "http_response_incomplete")
        assert result["error"]["phase"] == ("receive" if partly else "wait"), result["error"]
        assert partly or result["error"]["type"] == "connection_terminated"
        assert not partly or path_of_one.startswith("/stall")
        assert path_of_one not in again or result["num_retries"] >= 1


def test_dead_connections_behind_a_refused_stream(spawn, origin, authority):
    """HTTP/1.1 is asked for, of which nine connections are kept, and dead: it goes to a new one."""
    daemon = spawn("daemon.loops=1", "fetch.ca_file=" + authority.ca_file)
    context = authority.context(alpn=ALPN)
    port = origin.listen(tls=context, protocol=http2.Http2)

    def one(path, **more):
        return member(origin.url(path, port=port, scheme="https"), **more)

    assert daemon.one(one("/size/1", fresh_connection=True))["http_version"] == "2"
    context.set_alpn_protocols(["http/1.1"])
    members = [one("/delay/200/size/%d" % n, fresh_connection=True) for n in range(9)]
    assert {r["http_version"] for r in daemon.batch(members)["results"]} == {"1.1"}
    result = daemon.one(one("/h2/once/13/kept/cut/size/6"))
    assert (result["status"], result["num_connects"]) == (200, 1), result["error"]
    assert 1 <= result["num_retries"] <= 2


def test_a_new_connection_for_a_dead_one_is_kept(gatherd, origin, authority, url):
    """Of a server without HTTP/2: nothing was downgraded."""
    port = origin.listen(tls=authority.context(alpn=("http/1.1",)))
    for path in ("/size/1", "/kept/cut/size/3", "/size/2"):
        assert gatherd.one(member(url(path, port=port)))["ok"] is True
    assert origin.seen[-1].conn == origin.seen[-2].conn != origin.seen[0].conn


def test_a_connection_of_a_third_address_is_kept(spawn, origin, authority, dns):
    """Two addresses refuse, and the number of the first one's socket is that of the third one."""
    daemon = spawn("policy.default.allow=127.0.0.0/8")
    dns.add("third.wild.test", a=["127.0.0.2", "127.0.0.3", "127.0.0.1"])
    port = origin.listen(tls=authority.context("names", alpn=("http/1.1",)))
    target = origin.url("/size/3", port=port, scheme="https", host="third.wild.test")
    results = [daemon.one(member(target)) for _ in range(3)]
    assert [(r["ok"], r["num_connects"]) for r in results] == [(True, 1), (True, 0), (True, 0)]


def test_a_broken_connection_is_not_the_one_after_it(gatherd, origin, url):
    """That of the second sending, which often has its number. libcurl 8 does not send it again."""
    for n in range(proc.form(10, 100)):
        gatherd.one(member(url("/size/1")))
        result = gatherd.one(member(url("/h2/flood-once/size/%d" % n)))
        if libcurl_version() < (8, 1) or result["state"] == "done":
            assert (outcome(result), result["num_retries"]) == ("200", 1), result["error"]
        else:
            assert outcome(result) in (GONE, *PROTOCOL.split("|")), result["error"]


def test_what_http2_was_left_for_is_read_as_http1(gatherd, origin, url):
    """A line of the head that begins with a NUL, behind which libcurl 7.88 drops what it has read."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
    origin.raw("nul", head + b"\0X: y\r\nY: 1\r\n\r\nhi", 0.2, b"Z: 1\r\n\r\nxx", "keep")
    result = gatherd.one(member(url("/h2/once/13/raw/nul")))
    assert outcome(result) == "http_protocol_error receive" and result["num_retries"] == 1, result


def test_goaway_lets_the_last_streams_end(gatherd, origin, url):
    """What was asked is answered; the next member has a new connection."""
    gatherd.one(member(url("/size/1")))
    conn = origin.seen[-1].conn
    result = gatherd.one(member(url("/h2/goaway/0/delay/20/size/9")))
    after = gatherd.one(member(url("/size/2")))
    assert result["ok"] is True and result["size_delivered"] == 9 and result["num_retries"] == 0
    assert after["ok"] is True and origin.seen[-2].conn == conn and origin.seen[-1].conn != conn


def test_goaway_before_a_stream_was_looked_at(gatherd, origin, url):
    """libcurl 8 sends it again on another connection, 7.88 leaves that to the client."""
    result = gatherd.one(member(url("/h2/goaway-once/0/size/9")))
    if libcurl_version() >= (8, 1):
        assert result["ok"] is True and result["num_retries"] >= 1
    else:
        assert outcome(result) == GONE and result["retryable"] is True
        assert gatherd.one(member(url("/h2/goaway-once/0/size/9")))["ok"] is True


def test_a_refused_stream_is_sent_again(gatherd, origin, url):
    result = gatherd.one(member(url("/h2/once/7/size/9")))
    assert result["ok"] is True and result["num_retries"] == 1
    assert origin.count("/h2/once/7/size/9") == 2


def test_figures_of_a_stream_that_is_refused_twice(gatherd, origin, url):
    """Each sending is counted, and each connection."""
    path = "/h2/first/2/7/size/9"
    opened = gatherd.metrics()["gatherd_fetch_connects_total"]
    before = origin.accepted
    result = gatherd.one(member(url(path), method="PUT", body="0123456789", fresh_connection=True))
    connections = origin.accepted - before
    assert result["ok"] is True and result["num_retries"] == 2 and origin.count(path) == 3
    assert result["num_connects"] == connections >= 2
    assert gatherd.metrics()["gatherd_fetch_connects_total"] == opened + connections
    assert result["size_upload"] == 30


@pytest.mark.parametrize("code", [7, 13])
def test_a_refused_post_is_not_sent_again(gatherd, origin, url, code):
    path = "/h2/once/%d/size/9" % code
    result = gatherd.one(member(url(path), body="pay"))
    assert origin.count(path) == 1
    assert result["error"]["type"] == "connection_terminated" and result["error"]["sent"] is True


@pytest.mark.parametrize("count, size", [(60, 20), (12, 500), (3, 1200), (2, 1200)])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_answers_in_one_record(spawn, url, method, count, size):
    """Of all streams of a connection at once, without bodies, in one record of TLS, which is read in
    pieces: whoever reads the first piece, the others get theirs."""
    gatherd = spawn("limits.per_host=100")
    gatherd.one(member(url("/size/1")))
    for _ in range(proc.form(3, 30)):
        paths = ["/h2/together/%d/%d?n=%d" % (count, size, n) for n in range(count)]
        doc = gatherd.batch([member(url(path), method=method) for path in paths], concurrency=count)
        assert [outcome(r) for r in doc["results"]] == ["204"] * count


@pytest.mark.parametrize("how", ["hint", "head", "body"])
@pytest.mark.parametrize("code", [7, 13])
def test_an_answer_that_is_broken_off_is_not_asked_for_again(gatherd, origin, url, code, how):
    """It would be put before the next one, whose head nobody would look at."""
    path = "/h2/once-after/%s/%d/size/6" % (how, code)
    result = gatherd.one(member(url(path)), include=["body", "headers"])
    assert result["state"] == "failed" and result["num_retries"] == 0, result
    assert origin.count(path) == 1
    assert gatherd.one(member(url("/size/3")), include=["body"])["body"] == "abc"


@pytest.mark.parametrize("size", [1, 16384, 65535, 66000, 131072, 400000])
@pytest.mark.parametrize("code", [7, 13])
def test_a_body_that_is_sent_again_is_sent_from_its_beginning(gatherd, origin, url, code, size):
    body = "".join("%07d\n" % n for n in range(size // 8 + 1))[:size]
    path = "/h2/once/%d/size/6" % code
    result = gatherd.one(member(url(path), method="PUT", body=body), include=["body"])
    assert result["ok"] is True and result["body"] == "abcdef" and result["num_retries"] == 1
    assert origin.seen[-1].body == body.encode()


def test_brotli_is_for_http1(gatherd, origin, url, authority):
    """Streams of a connection are unpacked in pieces of 64 KiB, which brotli can make dear. Who asks for it
    by a field of its own has it as it comes."""
    for coding in ("br", "gzip,gzip"):
        result = gatherd.one(member(url("/h2/coded/" + coding)))
        assert outcome(result) == "http_response_content_coding receive"
        assert "over HTTP/2" in result["error"]["message"]
    own = gatherd.one(member(url("/size/3"), headers={"Accept-Encoding": "br"}))
    port = origin.listen(tls=authority.context(alpn=("http/1.1",)))
    other = gatherd.one(member(url("/size/3", port=port), http_version="1.1"))
    assert own["ok"] is True and other["ok"] is True
    offered = [set(seen.header("Accept-Encoding")[0].replace(" ", "").split(",")) for seen in origin.seen]
    assert offered[2] == {"br"} and offered[3] == offered[0] | {"br"}


def test_an_upload_that_is_refused(gatherd, origin, url):
    """A reset in the middle of a large upload, with nothing read before."""
    result = gatherd.one(member(url("/h2/early/8"), body="x" * 2000000))
    assert outcome(result) in ("connection_terminated send", "connection_terminated wait"), result
    assert result["error"]["sent"] is True and result["retryable"] is True


def test_an_upload_that_is_answered_early(gatherd, origin, url):
    """The whole answer and a reset without an error while the body is on its way: libcurl 8 reads it,
    7.88 loses it, which is not the upstream's fault."""
    for _ in range(5):
        result = gatherd.one(member(url("/h2/answered"), body="x" * 2000000))
        if libcurl_version() >= (8, 1):
            assert outcome(result) == "413"
        else:
            assert outcome(result) in ("413", "connection_terminated send"), result
            assert result["state"] == "done" or result["retryable"] is True


@pytest.mark.parametrize("path", ["/never", "/stall/after/10"])
@pytest.mark.parametrize("how", ["timeout", "deadline"])
def test_a_stream_that_is_given_up_ends_the_connection(spawn, origin, url, path, how):
    """The upstream is told at once that nobody waits any more."""
    gatherd = spawn()
    gatherd.one(member(url("/size/1")))
    (conn,) = origin.connections
    if how == "timeout":
        late = gatherd.one(member(url(path), timeout_ms=200))
        assert late["error"]["type"] == "http_response_timeout"
    else:
        late = gatherd.batch([member(url(path))], deadline_ms=200)["results"][0]
        assert late["state"] == "cancelled" and late["error"]["type"] == "deadline_exceeded"
    assert origin.wait(lambda: conn.closed_at is not None)
    assert gatherd.one(member(url("/size/3")))["ok"] is True and origin.accepted == 2


@pytest.mark.parametrize("how", ["timeout", "deadline"])
def test_but_not_while_others_use_it(spawn, origin, url, how):
    """Then it is the stream that is reset, with what is sent next."""
    gatherd = spawn()
    gatherd.one(member(url("/size/1")))
    (conn,) = origin.connections
    box = []
    waits = threading.Thread(target=lambda: box.append(gatherd.one(member(url("/gate/a/size/9")))))
    waits.start()
    assert origin.wait(lambda: len(origin.seen) == 2)
    if how == "timeout":
        assert gatherd.one(member(url("/never"), timeout_ms=500))["state"] == "failed"
    else:
        assert gatherd.batch([member(url("/never"))], deadline_ms=500)["counts"]["cancelled"] == 1
    assert origin.paths()["/never"] == 1
    for n in range(20):  # what is cancelled is taken out in slices, after the answer
        assert gatherd.one(member(url("/size/3?n=%d" % n)))["ok"] is True
        if origin.wait(lambda: len(conn.resets) == 1, 0.2):
            break
    assert len(conn.resets) == 1
    origin.release("a")
    waits.join(30)
    assert box[0]["ok"] is True and box[0]["num_retries"] == 0
    assert origin.accepted == 1 and conn.closed_at is None


def test_a_long_body_is_cut(spawn, origin, url):
    """What is beyond max_response_bytes is not waited for by the next member."""
    gatherd = spawn()
    result = gatherd.one(member(url("/size/9000000"), max_response_bytes=100000))
    assert result["state"] == "done" and result["truncated"] is True
    assert result["size_delivered"] == 100000
    assert origin.wait(lambda: origin.connections[0].closed_at is not None)
    assert gatherd.one(member(url("/size/3")))["ok"] is True


# policy


def test_denied_addresses_are_not_dialled(gatherd, origin, url, dns):
    dns.add("h2-denied.test", a=["10.0.0.1"])
    dns.add("h2-partly.test", a=["10.0.0.1", "127.0.0.1"])
    doc = gatherd.batch(
        [
            member("https://10.0.0.1/"),
            member("https://[::ffff:10.0.0.1]/"),
            member(url("/size/1", host="h2-denied.test")),
            member(url("/redirect-to?url=https://169.254.169.254/")),
        ]
    )
    assert doc["errors"] == {"destination_ip_prohibited": 4} and doc["counts"]["denied"] == 4
    assert all(r["error"]["rule"] and r["retryable"] is False for r in doc["results"])
    partly = gatherd.one(member(url("/size/1", host="h2-partly.test")))
    assert partly["error"]["type"] == "tls_certificate_error"  # dialled: the address that is allowed


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_kept_connection_is_judged_again(spawn, origin, url, tmp_path, version):
    """The policy changes while a connection is kept: it is used no more."""
    conf = tmp_path / "conf"
    conf.write_text("[policy default]\nallow = 127.0.0.1\n")
    daemon = spawn(loopback=False, args=("-c", str(conf)))
    assert daemon.one(member(url("/size/1"), http_version=version))["http_version"] == version
    conf.write_text("[policy default]\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("reloaded")
    result = daemon.one(member(url("/size/2"), http_version=version))
    assert result["state"] == "denied" and result["error"]["type"] == "destination_ip_prohibited"
    assert origin.paths() == {"/size/1": 1}
