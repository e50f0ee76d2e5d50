# SPDX-License-Identifier: MIT
"""The answer: each view, each included field, and what Accept picks."""
import base64
import hashlib
import http.client
import json
import re

import pytest

from lib import contract, proc, script

MIXED = [
    "/size/10",
    "/delay/20/size/5",
    "/status/404",
    "/status/503?retry-after=1.5",
    "/redirect/2/to/size/3",
    "/reset",
]


def mixed(origin, refused):
    return [origin.url(p) for p in MIXED] + [
        "http://127.0.0.1:%d/" % refused,
        "http://10.0.0.1/",
        "not a url",
    ]


def test_json(gatherd, origin, refused):
    doc = gatherd.batch(mixed(origin, refused))
    assert [r["status"] for r in doc["results"]] == [
        200,
        200,
        404,
        503,
        200,
        None,
        None,
        None,
        None,
    ]
    assert [r["state"] for r in doc["results"]] == ["done"] * 5 + [
        "failed",
        "failed",
        "denied",
        "failed",
    ]
    assert doc["ok"] is False and doc["complete"] is True
    assert doc["counts"]["http_error"] == 2 and doc["status_codes"] == {
        "200": 3,
        "404": 1,
        "503": 1,
    }
    assert doc["errors"] == {
        "connection_terminated": 1,
        "connection_refused": 1,
        "destination_ip_prohibited": 1,
        "url_invalid": 1,
    }
    assert doc["results"][3]["retryable"] is True and doc["results"][3]["retry_after_ms"] == 1500
    assert doc["results"][2]["retryable"] is False and doc["results"][2]["retry_after_ms"] is None


def test_a_good_result(gatherd, origin):
    result = gatherd.one({"url": origin.url("/size/1234?x=1"), "id": "me"})
    wanted = {
        "index": 0,
        "id": "me",
        "ok": True,
        "state": "done",
        "url": origin.url("/size/1234?x=1"),
        "url_effective": origin.url("/size/1234?x=1"),
        "method": "GET",
        "scheme": "http",
        "status": 200,
        "http_version": "1.1",
        "content_type": "text/plain",
        "remote_ip": "127.0.0.1",
        "remote_port": origin.port,
        "num_redirects": 0,
        "num_retries": 0,
        "size_upload": 0,
        "size_download": 1234,
        "size_delivered": 1234,
        "truncated": False,
        "retryable": False,
        "retry_after_ms": None,
        "error": None,
    }
    assert {k: result[k] for k in wanted} == wanted
    assert result["size_request"] == len(origin.seen[0].raw)
    assert result["size_header"] > 50 and result["speed_download"] > 0
    assert result["timings_ms"]["tls"] is None and result["timings_ms"]["dns"] is None


def test_head_with_a_body(gatherd, origin, tls_origin):
    """The answer to HEAD ends with its head, whatever was sent along and whatever length it names."""
    answer = origin.raw(
        "head", b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "stall"
    )
    chunked = origin.raw("chunked", b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n", "stall")
    plain = {"method": "HEAD", "body": "hello", "timeout_ms": 2000}
    urls = (answer, chunked, origin.url("/redirect/1/to/size/9"), tls_origin.url("/size/7"))
    results = gatherd.batch([dict(plain, url=url) for url in urls], include=["body"])["results"]
    assert [r["status"] for r in results] == [200, 404, 200, 200], [r["error"] for r in results]
    assert all(not r["truncated"] and not r["error"] and r["body"] == "" for r in results)
    assert all(r["size_upload"] == 5 * (1 + r["num_redirects"]) for r in results)


def test_the_type_is_of_the_final_answer(gatherd, origin):
    hints = b"HTTP/1.1 103 Early Hints\r\nContent-Type: text/html; charset=utf-16\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
    urls = (
        origin.raw("untyped", hints + head + b"\r\nok", "keep"),
        origin.raw("typed", hints + head + b"Content-Type: a/b\r\n\r\nok", "keep"),
    )
    results = gatherd.batch(list(urls), include=["text_length"])["results"]
    assert [r["content_type"] for r in results] == [None, "a/b"]
    assert [r["text_length"] for r in results] == [2, 2]


def test_retry_after_of_no_time(gatherd, origin):
    """A date that is no number of microseconds is none; libcurl reads years up to 2^31."""
    head = "HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: %s\r\n\r\n"
    dates = ["Fri, 31 Dec %d 23:59:59 GMT" % year for year in (1999, 999999, 2147483647)]
    urls = [
        origin.raw("later-%d" % n, (head % date).encode(), "keep") for n, date in enumerate(dates)
    ]
    assert [r["retry_after_ms"] for r in gatherd.batch(urls)["results"]] == [0, None, None]


def test_new_and_kept_connection(gatherd, origin):
    first = gatherd.one({"url": origin.url("/size/1"), "fresh_connection": True})
    assert first["num_connects"] == 1 and first["timings_ms"]["connect"] is not None
    second = gatherd.batch([origin.url("/size/1")])
    result = second["results"][0]
    assert result["num_connects"] == 0 and result["timings_ms"]["connect"] is None
    assert second["counts"]["reused_connections"] == 1


def test_where_time_goes(gatherd, origin):
    """A delay before the head is `wait`; between bytes of the body it is `receive`."""
    slow_head, drip = gatherd.batch([origin.url("/delay/200/size/1"), origin.url("/drip/10/40")])[
        "results"
    ]
    assert 190 <= slow_head["timings_ms"]["wait"] < 2000 and slow_head["ttfb_ms"] >= 190
    assert (
        150 <= drip["timings_ms"]["receive"] < 2000
        and drip["timings_ms"]["receive"] > drip["timings_ms"]["wait"]
    )


def test_gathered_is_faster(gatherd, origin):
    urls = [origin.url("/delay/100/size/1?n=%d" % n) for n in range(8)]
    doc = gatherd.batch(urls)
    assert doc["concurrency"]["peak"] == 8 and doc["concurrency"]["speedup"] > 2
    path = doc["critical_path"]
    assert path["phase"] == "wait" and path["ms"] >= 95
    doc = gatherd.batch(urls[:3], concurrency=1)
    assert doc["concurrency"]["peak"] == 1 and doc["total_ms"] >= 295
    assert doc["results"][2]["timings_ms"]["queue"] >= 190


def test_critical_path_saves(gatherd, origin):
    doc = gatherd.batch(
        [origin.url("/size/1"), origin.url("/delay/800/size/1"), origin.url("/delay/100/size/1")]
    )
    assert doc["critical_path"]["index"] == 1
    first, second, third = doc["results"]
    saves = doc["total_ms"] - max(r["start_offset_ms"] + r["total_ms"] for r in (first, third))
    assert abs(doc["critical_path"]["saves_ms"] - saves) < 0.01 and saves >= 200


def test_empty_population(gatherd):
    doc = gatherd.batch(["nothing", "http://10.0.0.1/"])
    assert doc["latency_ms"]["count"] == 0 and doc["ok"] is False


def test_keys_stand_in_the_documented_order(gatherd, origin):
    doc = gatherd.batch([origin.url("/size/1")])
    assert tuple(doc) == contract.TOP
    assert tuple(doc["results"][0]) == contract.RESULT


def test_one_thousand_in_order(gatherd, origin):
    urls = [origin.url("/size/%d?n=%d" % (n % 50, n)) for n in range(1000)]
    doc = gatherd.batch(urls)
    assert [r["url"] for r in doc["results"]] == urls
    assert [r["size_delivered"] for r in doc["results"]] == [n % 50 for n in range(1000)]
    assert doc["sizes"]["size_delivered"] == sum(n % 50 for n in range(1000))


# include


def test_include_headers(gatherd, origin):
    origin.raw(
        "fields",
        b"HTTP/1.1 200 OK\r\nX-B: 1\r\nx-a:  two words \r\nX-B: 2\r\nX-Empty:\r\nX-L: gr\xfc\r\nContent-Length: 0\r\n\r\n",
        "keep",
    )
    result = gatherd.batch([origin.url("/raw/fields")], include=["headers"])["results"][0]
    assert result["headers"] == [
        ["X-B", "1"],
        ["x-a", "two words"],
        ["X-B", "2"],
        ["X-Empty", ""],
        ["X-L", "gr\ufffd"],
        ["Content-Length", "0"],
    ]


def test_include_body(gatherd, origin):
    origin.raw("binary", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\x00\xfe\x01", "keep")
    origin.raw("controls", b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na"\\\x01\n', "keep")
    paths = [
        "/size/20",
        "/raw/binary",
        "/raw/controls",
        "/charset/utf-8",
        "/gzip/size/100",
        "/status/204",
        "/status/404/size/3",
    ]
    results = gatherd.batch([origin.url(p) for p in paths], include=["body"])["results"]
    assert results[0]["body"] == script.pattern(20).decode()
    assert "body" not in results[1] or results[1]["body"] is None
    assert base64.b64decode(results[1]["body_base64"]) == b"\xff\x00\xfe\x01"
    assert results[2]["body"] == 'a"\\\x01\n'
    assert results[3]["body"] == script.charset_text("utf-8")
    assert results[4]["body"] == script.pattern(100).decode()
    assert results[5]["body"] == "" and results[6]["body"] == "abc"


def test_include_on_failure_is_null(gatherd, refused):
    result = gatherd.batch(
        ["http://127.0.0.1:%d/" % refused],
        include=["headers", "body", "body_sha256", "text_length", "redirects", "curl"],
    )["results"][0]
    assert result["headers"] is None and result.get("body") is None
    assert result["body_sha256"] is None and result["text_length"] is None


def test_include_sha256(gatherd, origin):
    paths = {"/size/1000": 1000, "/gzip/size/5000": 5000, "/size/0": 0}
    results = gatherd.batch([origin.url(p) for p in paths], include=["body_sha256"])["results"]
    for result, size in zip(results, paths.values()):
        assert result["body_sha256"] == hashlib.sha256(script.pattern(size)).hexdigest()
        assert "body" not in result


@pytest.mark.parametrize(
    "charset",
    [
        "utf-8",
        "iso-8859-1",
        "windows-1252",
        "koi8-r",
        "shift_jis",
        "gb18030",
        "utf-16",
        "utf-16le",
        "us-ascii",
    ],
)
def test_text_length_by_charset(gatherd, origin, charset):
    result = gatherd.batch([origin.url("/charset/" + charset)], include=["text_length"])["results"][
        0
    ]
    assert result["text_length"] == len(script.charset_text(charset)), result


@pytest.mark.parametrize(
    "type, body, length",
    [
        ("text/plain", "grüße".encode(), 5),
        ('text/plain; charset="UTF-8"', "grüße".encode(), 5),
        ("text/plain", b"\xef\xbb\xbfabc", None),
        ("text/plain", b"a\xffb\xfe", 4),
        ("text/plain; charset=utf-8", b"\xf0\x9f\x99", None),
        ("text/plain; charset=no-such-charset", b"abc", -1),
        ("text/plain", b"", 0),
        ("text/plain", b"\xff\xfea\0b\0", None),
        ("text/html; charset=ISO-8859-1", b"\xff\xfe\xfd", 3),
    ],
)
def test_text_length_of_odd_bytes(gatherd, origin, type, body, length):
    origin.raw(
        "text",
        b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        % (type.encode(), len(body)),
        body or 0,
        "keep",
    )
    got = gatherd.batch([origin.url("/raw/text")], include=["text_length"])["results"][0][
        "text_length"
    ]
    if length is None:
        assert isinstance(got, int) and 0 < got <= 4
    else:
        assert got == (None if length == -1 else length)


def test_include_redirects(gatherd, origin):
    result = gatherd.batch([origin.url("/redirect/3/to/size/5")], include=["redirects"])["results"][
        0
    ]
    assert result["num_redirects"] == 3 and len(result["redirects"]) == 3
    hops = result["redirects"]
    assert [h["status"] for h in hops] == [302] * 3
    assert hops[0]["url"] == origin.url("/redirect/3/to/size/5")
    assert result["url_effective"] == origin.url("/size/5")
    none = gatherd.batch([origin.url("/size/5")], include=["redirects"])["results"][0]
    assert none["redirects"] == []


def test_include_curl(gatherd, origin):
    result = gatherd.batch(
        [{"url": origin.url("/delay/50/size/5"), "fresh_connection": True}], include=["curl"]
    )["results"][0]
    marks = result["curl"]
    assert (
        marks["time_total"]
        >= marks["time_starttransfer"]
        >= marks["time_pretransfer"]
        >= marks["time_connect"]
        >= 0
    )
    assert 0.045 < marks["time_total"] < 5


def test_query_include(gatherd, origin):
    doc = gatherd.batch([origin.url("/size/5")], query="include=body,headers,body_sha256")
    assert doc["results"][0]["body"] == "abcde" and doc["results"][0]["headers"]


def test_answer_bytes_cut_bodies(spawn, origin):
    daemon = spawn("limits.answer_bytes=1M")
    doc = daemon.batch(
        [origin.url("/size/600000?n=%d" % n) for n in range(4)], include=["body"], concurrency=1
    )
    kept = [r for r in doc["results"] if r["body"] is not None]
    assert 1 <= len(kept) < 4 and all(len(r["body"]) == 600000 for r in kept)
    for result in doc["results"]:
        assert result["state"] == "done" and result["size_delivered"] == 600000
        assert result["truncated"] is (result["body"] is None)


# views


@pytest.mark.parametrize(
    "accept, type",
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/plain", "text/plain"),
        ("text/*", "text/plain"),
        ("text/html, text/plain;q=0.5", "text/plain"),
        ("text/plain;q=0.4, application/json;q=0.5", "application/json"),
        ("application/json;q=0, */*", "application/x-ndjson"),
        ("APPLICATION/JSON", "application/json"),
        ("text/plain, application/x-ndjson;q=0.9", "text/plain"),
        ("image/png, */*;q=0.1", "application/json"),
        ("", "application/json"),
    ],
)
def test_accept(gatherd, origin, accept, type):
    reply = gatherd.post(
        [origin.url("/size/1")], headers={} if accept is None else {"Accept": accept}
    )
    assert (reply.status, reply.type) == (200, type)


@pytest.mark.parametrize(
    "accept",
    [
        "image/png",
        "text/html",
        "application/json;q=0",
        "application/xml, text/html;q=0.9",
        "*/*;q=0",
    ],
)
def test_not_acceptable(gatherd, origin, accept):
    problem = gatherd.refused([origin.url("/size/1")], 406, headers={"Accept": accept})
    assert "application/json" in problem["detail"] and not origin.seen


@pytest.mark.parametrize(
    "format, type",
    [("json", "application/json"), ("ndjson", "application/x-ndjson"), ("text", "text/plain")],
)
def test_format_overrides_accept(gatherd, origin, format, type):
    reply = gatherd.post([origin.url("/size/1")], "format=" + format, {"Accept": "image/png"})
    assert (reply.status, reply.type) == (200, type)


def test_ndjson(gatherd, origin, refused):
    urls = mixed(origin, refused)
    results, summary = contract.ndjson(
        gatherd.post(urls, headers={"Accept": "application/x-ndjson"}), urls
    )
    assert len(results) == len(urls) and summary["counts"]["requests"] == len(urls)


def test_ndjson_lines_come_as_members_end(gatherd, origin):
    """The fast members' lines are read while the slow one is held back at a gate."""
    body = json.dumps(
        [origin.url("/gate/g/size/1"), origin.url("/size/2"), origin.url("/size/3")]
    ).encode()
    connection = http.client.HTTPConnection("127.0.0.1", gatherd.port, timeout=20)
    connection.request(
        "POST", "/v1/batch?format=ndjson", body, {"Content-Type": "application/json"}
    )
    response = connection.getresponse()
    first = [json.loads(response.readline()) for _ in range(2)]
    assert {line["index"] for line in first} == {1, 2} and all(
        line["type"] == "result" for line in first
    )
    origin.release("g")
    rest = [json.loads(line) for line in response.read().splitlines()]
    assert [line["type"] for line in rest] == ["result", "summary"] and rest[0]["index"] == 0
    connection.close()


def test_text_is_a_table(gatherd, origin, refused):
    reply = gatherd.post(mixed(origin, refused), headers={"Accept": "text/plain"})
    text = reply.body.decode()
    assert reply.type == "text/plain"
    for path in MIXED:
        assert path.split("?")[0][:10] in text  # a long URL is cut at the line's end
    assert "404" in text and "connection_refused" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)


def test_text_is_safe_for_terminals(gatherd, origin):
    origin.raw(
        "esc", b"HTTP/1.1 200 OK\r\nContent-Type: \x1b[31mred\r\nContent-Length: 0\r\n\r\n", "keep"
    )
    reply = gatherd.post([{"url": origin.url("/raw/esc"), "id": "\x1b]0;title\x07"}], "format=text")
    assert b"\x1b" not in reply.body and b"\x07" not in reply.body


def test_json_is_valid_whatever_came(gatherd, origin):
    names = [
        "header-bad-utf8",
        "header-ctl",
        "header-latin1",
        "content-type-bad",
        "location-bad-utf8",
        "status-999",
    ]
    reply = gatherd.post(
        {
            "requests": [origin.url("/weird/" + n) for n in names],
            "include": ["headers", "body", "redirects"],
        }
    )
    reply.body.decode("utf-8")
    contract.check(reply.body, None, {"include": ["headers", "body", "redirects"]})


# fields of the HTTP answer


def test_request_id(gatherd, origin):
    assert (
        gatherd.post([origin.url("/size/1")], headers={"X-Request-Id": "abc-123"}).header(
            "X-Request-Id"
        )
        == "abc-123"
    )
    made = {gatherd.post([origin.url("/size/1")]).header("X-Request-Id") for _ in range(3)}
    assert len(made) == 3 and all(made)


def test_request_id_cannot_inject(gatherd, origin):
    for bad in ("a" * 10000, "a\tb", "ü", '"<script>'):
        reply = gatherd.post([origin.url("/size/1")], headers={"X-Request-Id": bad.encode("utf-8")})
        assert reply.status in (200, 400, 431)
        got = reply.header("X-Request-Id")
        assert got is None or len(got) <= 10000


def test_server_timing(gatherd, origin):
    value = gatherd.post([origin.url("/size/1")]).header("Server-Timing")
    assert re.search(r"\bqueue;dur=[0-9.]+", value) and re.search(
        r"\bfetch;dur=[0-9.]+", value
    ), value
    assert gatherd.post([origin.url("/size/1")], "format=ndjson").header("Server-Timing") is None


def test_no_cors_fields(gatherd, origin):
    reply = gatherd.post([origin.url("/size/1")])
    assert not [n for n, _ in reply.headers if n.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "fail, bad, status",
    [
        ("never", 1, 200),
        ("never", 2, 200),
        ("any", 0, 200),
        ("any", 1, 502),
        ("any", 2, 502),
        ("all", 1, 200),
        ("all", 2, 502),
        ("all", 0, 200),
    ],
)
def test_fail(gatherd, origin, refused, fail, bad, status):
    members = ["http://127.0.0.1:%d/" % refused] * bad + [origin.url("/size/1")] * (2 - bad)
    doc = gatherd.batch(members, status=status, fail=fail)
    assert doc["counts"]["failed"] == bad
    assert gatherd.post(members, "fail=" + fail).status == status


@pytest.mark.parametrize("fail", ["any", "all"])
def test_fail_and_ndjson_exclude_each_other(gatherd, origin, fail):
    gatherd.refused([origin.url("/size/1")], query="format=ndjson&fail=" + fail)
    gatherd.refused(
        [origin.url("/size/1")], query="fail=" + fail, headers={"Accept": "application/x-ndjson"}
    )
    assert not origin.seen


def test_keep_alive_of_the_client(gatherd, origin):
    connection = http.client.HTTPConnection("127.0.0.1", gatherd.port, timeout=20)
    connection.connect()
    sock = connection.sock
    for n in range(20):
        body = json.dumps([origin.url("/size/%d" % n)]).encode()
        reply = proc.exchange(
            connection, "POST", "/v1/batch", body, {"Content-Type": "application/json"}
        )
        assert contract.check(reply.body)["results"][0]["size_delivered"] == n
        assert connection.sock is sock
    connection.close()


def test_http10_client(gatherd, origin):
    body = json.dumps([origin.url("/size/5")]).encode()
    for format in ("json", "ndjson"):
        data = gatherd.raw(
            b"POST /v1/batch?format=%s HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % (format.encode(), len(body)) + body
        )
        reply = proc.parse_reply(data)
        summary = reply.json() if format == "json" else reply.lines[-1]
        assert reply.status == 200 and summary["counts"]["ok"] == 1


def test_pipelined_requests(gatherd, origin):
    body = json.dumps([origin.url("/size/5")]).encode()
    one = (
        b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        % len(body)
    )
    data = gatherd.raw((one + b"\r\n" + body) * 3 + one + b"Connection: close\r\n\r\n" + body)
    assert data.count(b"HTTP/1.1 200") == 4
