# SPDX-License-Identifier: MIT
"""The request body and the query: every form that is taken, every fault and how it is named."""
import base64
import json

import pytest

from lib import contract, proc, script


def urls(doc):
    return [r["url"] for r in doc["results"]]


def decoded(reply):
    assert reply.status == 200, reply
    return contract.check(reply.body)


# forms of body


@pytest.mark.parametrize(
    "type", ["application/json", "application/json; charset=utf-8", "Application/JSON"]
)
def test_json_array(gatherd, origin, type):
    members = [origin.url("/size/1"), {"url": origin.url("/size/2"), "id": "b"}]
    doc = decoded(gatherd.post(members, type=type))
    assert urls(doc) == [origin.url("/size/1"), origin.url("/size/2")]
    assert [r["id"] for r in doc["results"]] == [None, "b"]


def test_json_object(gatherd, origin):
    doc = gatherd.batch([origin.url("/size/1")], concurrency=3)
    assert doc["counts"]["ok"] == 1 and doc["concurrency"]["limit"] == 3


def test_json_with_bom_or_blanks(gatherd, origin):
    assert decoded(gatherd.post(' \r\n\t["%s"] \n' % origin.url("/size/1")))["ok"] is True


@pytest.mark.parametrize("type", ["application/x-ndjson", "application/x-ndjson; charset=utf-8"])
def test_ndjson(gatherd, origin, type):
    body = (
        json.dumps(origin.url("/size/1"))
        + "\n"
        + json.dumps({"url": origin.url("/size/2"), "id": "x"})
        + "\n\n"
    )
    doc = decoded(gatherd.post(body, type=type))
    assert urls(doc) == [origin.url("/size/1"), origin.url("/size/2")]
    assert doc["results"][1]["id"] == "x"


def test_ndjson_last_line_without_end(gatherd, origin):
    body = "\n".join(json.dumps(origin.url("/size/%d" % n)) for n in (1, 2))
    assert len(decoded(gatherd.post(body, type="application/x-ndjson"))["results"]) == 2


@pytest.mark.parametrize("type", ["text/uri-list", "text/plain", "text/plain;charset=utf-8"])
def test_uri_list(gatherd, origin, type):
    body = "# a comment\r\n%s\r\n\r\n%s\n" % (origin.url("/size/1"), origin.url("/size/2"))
    assert urls(decoded(gatherd.post(body, type=type))) == [
        origin.url("/size/1"),
        origin.url("/size/2"),
    ]


@pytest.mark.parametrize("type", ["application/x-www-form-urlencoded", None])
@pytest.mark.parametrize(
    "make",
    [
        lambda a, b: json.dumps([a, b]),
        lambda a, b: " \n" + json.dumps({"requests": [a, b]}),
        lambda a, b: "%s\n%s" % (a, b),
    ],
    ids=["array", "object", "list"],
)
def test_curl_d(gatherd, origin, type, make):
    """What `curl -d` sends: JSON when it looks like JSON, else a list of URLs."""
    wanted = [origin.url("/size/1"), origin.url("/size/2?a=b")]
    assert urls(decoded(gatherd.post(make(*wanted), type=type))) == wanted


@pytest.mark.parametrize(
    "type",
    [
        "application/xml",
        "multipart/form-data; boundary=x",
        "image/png",
        "application/jsonx",
        "text/html",
        "image/png; x=" + "a" * 300,
        "a" * 300 + "/b",
    ],
    ids=lambda type: type[:40],
)
def test_other_types_are_415(gatherd, origin, type):
    problem = gatherd.refused("[]", 415, type=type)
    assert "curl --json" in json.dumps(problem)
    assert not origin.seen


def test_chunked_request_body(gatherd, origin):
    body = json.dumps([origin.url("/size/3")]).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"

    reply = proc.parse_reply(
        gatherd.raw(
            b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks
        )
    )
    assert decoded(reply)["ok"] is True


def test_expect_100(gatherd, origin):
    body = json.dumps([origin.url("/size/3")]).encode()
    with gatherd.connect() as sock:
        sock.sendall(
            b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n" % len(body)
        )
        assert sock.recv(1000).startswith(b"HTTP/1.1 100")
        sock.sendall(body)

        assert decoded(proc.parse_reply(proc.read_all(sock)))["ok"] is True


# members


def echo(gatherd, origin, member, **fields):
    """What the origin saw of a member."""
    result = gatherd.one(dict(member, url=origin.url("/echo")), **fields)
    assert result["state"] == "done" and result["status"] == 200, result
    return origin.seen[-1]


def test_method(gatherd, origin):
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
        assert echo(gatherd, origin, {"method": method}).method == method


def test_head_has_no_body(gatherd, origin):
    result = gatherd.one({"url": origin.url("/size/1000"), "method": "HEAD"})
    assert result["status"] == 200 and result["size_delivered"] == 0 and result["method"] == "HEAD"
    assert origin.seen[-1].method == "HEAD"


def test_post_is_the_default_with_a_body(gatherd, origin):
    seen = echo(gatherd, origin, {"body": "a=b"})
    assert (seen.method, seen.body) == ("POST", b"a=b")
    assert echo(gatherd, origin, {"body": "x", "method": "PUT"}).method == "PUT"
    assert echo(gatherd, origin, {}).method == "GET"


def test_body_forms(gatherd, origin):
    raw = bytes(range(256))
    assert echo(gatherd, origin, {"body": "grüße\n"}).body == "grüße\n".encode()
    assert echo(gatherd, origin, {"body_base64": base64.b64encode(raw).decode()}).body == raw
    seen = echo(gatherd, origin, {"json": {"b": 1, "a": [True, None, "ü", 9007199254740993, -1]}})
    assert seen.body == '{"b":1,"a":[true,null,"ü",9007199254740993,-1]}'.encode()
    assert seen.header("Content-Type") == ["application/json"]


def test_empty_body_is_a_body(gatherd, origin):
    seen = echo(gatherd, origin, {"body": ""})
    assert (seen.method, seen.body, seen.header("Content-Length")) == ("POST", b"", ["0"])


def test_large_body(gatherd, origin):
    result = gatherd.one({"url": origin.url("/size/2"), "body": "x" * 1000000})
    assert result["size_upload"] == 1000000 and len(origin.seen[-1].body) == 1000000


def test_headers(gatherd, origin):
    seen = echo(
        gatherd,
        origin,
        {"headers": {"X-One": "1", "X-Two": ["a", "b"], "X-Empty": "", "accept": "text/x"}},
    )
    assert seen.header("X-One") == ["1"] and seen.header("X-Two") == ["a", "b"]
    assert seen.header("X-Empty") == [""] and seen.header("Accept") == ["text/x"]


def test_own_accept_encoding_is_not_decoded(gatherd, origin):
    plain = gatherd.one(origin.url("/gzip/size/1000"))
    assert plain["size_delivered"] == 1000 and plain["size_download"] < 1000
    assert "gzip" in origin.seen[-1].header("Accept-Encoding")[0]
    own = gatherd.one(
        {"url": origin.url("/gzip/size/1000"), "headers": {"Accept-Encoding": "gzip"}}
    )
    assert origin.seen[-1].header("Accept-Encoding") == ["gzip"]
    assert own["size_delivered"] == own["size_download"] == plain["size_download"]


def test_user_agent(gatherd, origin):
    assert echo(gatherd, origin, {}).header("User-Agent")[0].startswith("gatherd/")
    assert echo(gatherd, origin, {"headers": {"User-Agent": "me"}}).header("User-Agent") == ["me"]


def test_client_headers_are_not_forwarded(gatherd, origin):
    gatherd.batch(
        [origin.url("/size/1")],
        headers={"X-Private": "1", "Cookie": "a=b", "Authorization": "Basic eA=="},
    )
    seen = origin.seen[-1]
    assert (
        not seen.header("X-Private")
        and not seen.header("Cookie")
        and not seen.header("Authorization")
    )


def test_traceparent_is_forwarded_with_a_new_span(gatherd, origin):
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    gatherd.batch([origin.url("/size/1")], headers={"traceparent": "00-%s-%s-01" % (trace, span)})
    version, got, child, flags = origin.seen[-1].header("traceparent")[0].split("-")
    assert (version, got, flags) == ("00", trace, "01") and child != span and len(child) == 16


@pytest.mark.parametrize("version", ["auto", "1.1", "2"])
def test_http_version(gatherd, origin, tls_origin, version):
    result = gatherd.one({"url": tls_origin.url("/size/1"), "http_version": version})
    assert result["status"] == 200 and result["http_version"] == "1.1"


def test_fresh_connection(gatherd, origin):
    gatherd.one(origin.url("/size/1"))
    assert (
        gatherd.one({"url": origin.url("/size/1"), "fresh_connection": True})["num_connects"] == 1
    )


def test_defaults(gatherd, origin):
    doc = gatherd.batch(
        [
            {"url": origin.url("/echo")},
            {"url": origin.url("/echo"), "method": "PUT", "headers": {"X-Own": "1"}},
        ],
        defaults={"method": "DELETE", "headers": {"X-All": "1"}, "max_redirects": 0},
    )
    assert [r["method"] for r in doc["results"]] == ["DELETE", "PUT"]
    first = [s for s in origin.seen if s.method == "DELETE"][0]
    assert first.header("X-All") == ["1"]


def test_query_is_defaults_and_the_body_wins(gatherd, origin):
    members = [
        {"url": origin.url("/redirect/2/to/size/1")},
        {"url": origin.url("/redirect/2/to/size/1"), "max_redirects": 5},
    ]
    doc = gatherd.batch(members, query="max_redirects=0&concurrency=7&include=headers")
    assert [r["status"] for r in doc["results"]] == [302, 200]
    assert doc["concurrency"]["limit"] == 7 and doc["results"][0]["headers"]
    doc = gatherd.batch(
        members, query="concurrency=7&max_redirects=0", concurrency=3, defaults={"max_redirects": 1}
    )
    assert doc["concurrency"]["limit"] == 3
    assert doc["results"][0]["error"]["type"] == "too_many_redirects"


def test_concurrency_is_lowered_and_said(gatherd, origin):
    assert gatherd.batch([origin.url("/size/1")], concurrency=100000)["concurrency"]["limit"] == 256


def test_id_is_echoed(gatherd, origin):
    names = ["", "a", "ü 🙂", "x" * 200, '"quoted\\"', "line\nbreak", "0"]
    members = [{"url": origin.url("/size/1"), "id": name} for name in names]
    assert [r["id"] for r in gatherd.batch(members)["results"]] == names


# faults: (what is posted, the pointer that names it)
U = "http://127.0.0.1:1/"


@pytest.mark.parametrize(
    "body, pointer",
    [
        ([], ""),
        ({}, ""),
        ({"requests": []}, "/requests"),
        ({"requests": {}}, "/requests"),
        ({"requests": None}, "/requests"),
        ("null", ""),
        ("5", ""),
        ('"http://a/"', ""),
        ("true", ""),
        ([5], "/0"),
        ([None], "/0"),
        ([[U]], "/0"),
        ([{}], "/0"),
        ([U, {"id": "x"}], "/1"),
        ([{"url": 5}], "/0/url"),
        ([{"url": None}], "/0/url"),
        ([{"url": [U]}], "/0/url"),
        ([{"url": U, "unknown": 1}], "/0/unknown"),
        ({"requests": [U], "unknown": 1}, "/unknown"),
        ([{"url": U, "a/b~c": 1}], "/0/a~1b~0c"),
        ({"requests": [U, U, U, {"url": U, "timeout_ms": "5"}]}, "/requests/3/timeout_ms"),
        ([{"url": U, "timeout_ms": -1}], "/0/timeout_ms"),
        ([{"url": U, "timeout_ms": 0}], "/0/timeout_ms"),
        ([{"url": U, "timeout_ms": 1e99}], "/0/timeout_ms"),
        ([{"url": U, "timeout_ms": True}], "/0/timeout_ms"),
        ([{"url": U, "timeout_ms": 2**63 - 1}], "/0/timeout_ms"),
        ([{"url": U, "connect_timeout_ms": []}], "/0/connect_timeout_ms"),
        ([{"url": U, "queue_timeout_ms": -5}], "/0/queue_timeout_ms"),
        ([{"url": U, "max_redirects": -1}], "/0/max_redirects"),
        ([{"url": U, "max_redirects": 1.5}], "/0/max_redirects"),
        ([{"url": U, "max_redirects": "many"}], "/0/max_redirects"),
        ([{"url": U, "max_response_bytes": -1}], "/0/max_response_bytes"),
        ([{"url": U, "http_version": "3"}], "/0/http_version"),
        ([{"url": U, "http_version": 2}], "/0/http_version"),
        ([{"url": U, "fresh_connection": 1}], "/0/fresh_connection"),
        ([{"url": U, "id": 5}], "/0/id"),
        ([{"url": U, "id": "a"}, {"url": U, "id": "a"}], "/1/id"),
        ([{"url": U, "method": ""}], "/0/method"),
        ([{"url": U, "method": "GET POST"}], "/0/method"),
        ([{"url": U, "method": "GE\r\nT"}], "/0/method"),
        ([{"url": U, "method": "CONNECT"}], "/0/method"),
        ([{"url": U, "method": "TRACE"}], "/0/method"),
        ([{"url": U, "method": "trace"}], "/0/method"),
        ([{"url": U, "method": "Ü"}], "/0/method"),
        ([{"url": U, "method": 1}], "/0/method"),
        ([{"url": U, "headers": []}], "/0/headers"),
        ([{"url": U, "headers": {"X-A": 1}}], "/0/headers/X-A"),
        ([{"url": U, "headers": {"X-A": [1]}}], "/0/headers/X-A/0"),
        ([{"url": U, "headers": {"X-A": "a\r\nX-B: c"}}], "/0/headers/X-A"),
        ([{"url": U, "headers": {"X-A": "a\nb"}}], "/0/headers/X-A"),
        ([{"url": U, "headers": {"X-A": "a\rb"}}], "/0/headers/X-A"),
        ([{"url": U, "headers": {"X A": "b"}}], "/0/headers/X A"),
        ([{"url": U, "headers": {"": "b"}}], "/0/headers/"),
        ([{"url": U, "headers": {"X:": "b"}}], "/0/headers/X:"),
        ([{"url": U, "headers": {"X\r\nY": "b"}}], "/0/headers/X\r\nY"),
        ([{"url": U, "body": "a", "json": 1}], "/0/json"),
        ([{"url": U, "body": "a", "body_base64": "YQ=="}], "/0/body_base64"),
        ([{"url": U, "body": 5}], "/0/body"),
        ([{"url": U, "body_base64": "%%%"}], "/0/body_base64"),
        ([{"url": U, "body_base64": "YQ"}], "/0/body_base64"),
        ({"requests": [U], "concurrency": 0}, "/concurrency"),
        ({"requests": [U], "concurrency": -1}, "/concurrency"),
        ({"requests": [U], "concurrency": "5"}, "/concurrency"),
        ({"requests": [U], "concurrency": 1.5}, "/concurrency"),
        ({"requests": [U], "concurrency_per_host": 0}, "/concurrency_per_host"),
        ({"requests": [U], "deadline_ms": 0}, "/deadline_ms"),
        ({"requests": [U], "deadline_ms": "x"}, "/deadline_ms"),
        ({"requests": [U], "stop_on_error": "yes"}, "/stop_on_error"),
        ({"requests": [U], "fail": "some"}, "/fail"),
        ({"requests": [U], "include": "body"}, "/include"),
        ({"requests": [U], "include": ["nothing"]}, "/include/0"),
        ({"requests": [U], "include": ["body", 5]}, "/include/1"),
        ({"requests": [U], "include": [None]}, "/include/0"),
        ({"requests": [U], "include": [["body"]]}, "/include/0"),
        ({"requests": [U], "defaults": []}, "/defaults"),
        ({"requests": [U], "defaults": {"url": U}}, "/defaults/url"),
        ({"requests": [U], "defaults": {"id": "x"}}, "/defaults/id"),
        ({"requests": [U], "defaults": {"nope": 1}}, "/defaults/nope"),
        ({"requests": [U], "defaults": {"timeout_ms": "x"}}, "/defaults/timeout_ms"),
    ],
)
def test_faults_are_400_with_a_pointer(gatherd, body, pointer):
    problem = gatherd.refused(body)
    assert problem.get("pointer", "") == pointer, problem
    assert problem["detail"]


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Proxy-Authorization",
        "proxy-connection",
        "Proxy-X",
    ],
)
def test_refused_headers(gatherd, origin, name):
    problem = gatherd.refused([{"url": origin.url("/ok"), "headers": {name: "x"}}])
    assert problem["pointer"] == "/0/headers/" + name and not origin.seen


def test_nul_in_strings(gatherd, origin):
    for member in (
        {"headers": {"X": "a\0b"}},
        {"headers": {"X\0Y": "a"}},
        {"method": "GET\0"},
        {"id": "a\0"},
    ):
        gatherd.refused([dict(member, url=origin.url("/ok"))])
    assert not origin.seen


@pytest.mark.parametrize(
    "member, limit", [({"max_response_bytes": 10 * 1024 * 1024 + 1}, "limits.response_bytes")]
)
def test_above_a_limit_names_the_key(gatherd, member, limit):
    problem = gatherd.refused([dict(member, url=U)])
    assert limit in problem["detail"], problem


def test_too_many_members(spawn):
    daemon = spawn("limits.requests=3")
    problem = daemon.refused([U] * 4)
    assert "limits.requests" in problem["detail"] and "3" in problem["detail"]
    problem = daemon.refused("\n".join([U] * 4), type="text/uri-list")
    assert "limits.requests" in problem["detail"]


@pytest.mark.parametrize(
    "body, offset",
    [
        ("[", 1),
        ('["a"', 4),
        ('["a",]', 5),
        ('{"requests": [}', 14),
        ("[1 2]", 3),
        ('["a\\x"]', 4),
        ("{'a': 1}", 1),
        ("[nul]", 1),
        ('["a"]x', 5),
    ],
)
def test_syntax_faults_have_an_offset(gatherd, body, offset):
    problem = gatherd.refused(body)
    assert abs(problem["offset"] - offset) <= 4, (problem, offset)
    assert 0 <= problem["offset"] <= len(body)


def test_ndjson_fault_names_its_line(gatherd, origin):
    body = '"%s"\n{"url": "%s", "timeout_ms": "x"}\n' % (origin.url("/ok"), origin.url("/ok"))
    assert gatherd.refused(body, type="application/x-ndjson")["pointer"] == "/1/timeout_ms"
    problem = gatherd.refused(
        '"%s"\n{"url": \n"x"\n' % origin.url("/ok"), type="application/x-ndjson"
    )
    first = len(origin.url("/ok")) + 3
    assert first <= problem["offset"] <= first + 9, problem
    assert not origin.seen


def test_duplicate_keys(gatherd, origin):
    gatherd.refused('[{"url": "%s", "url": "%s"}]' % (origin.url("/ok"), origin.url("/ok")))
    assert not origin.seen


def test_depth_and_bytes_that_are_no_json(gatherd):
    gatherd.refused("[" * 100000)
    gatherd.refused("[" * 70 + "]" * 70)
    gatherd.refused(b'["\xff\xfe"]')
    gatherd.refused(b'["\xed\xa0\x80"]')
    gatherd.refused(b"\0" * 100)


@pytest.mark.parametrize(
    "query",
    [
        "nonsense=1",
        "timeout_ms=x",
        "timeout_ms=-1",
        "timeout_ms=",
        "concurrency=0",
        "include=nothing",
        "include=body,nothing",
        "url=http%3A%2F%2Fa%2F",
        "id=x",
        "headers=a",
        "requests=1",
        "stop_on_error=maybe",
        "fail=some",
        "format=xml",
        "%66ormat=ndjson",
        "form%61t=json&format=text",
        "timeout_ms=5&timeout_ms=6x",
        "concurrency=5x",
        "deadline_ms=0",
    ],
)
def test_query_faults(gatherd, origin, query):
    reply = gatherd.post([origin.url("/ok")], query)
    contract.problem(reply, 406 if query == "format=xml" and reply.status == 406 else 400)
    assert not origin.seen


def test_query_values_are_decoded(gatherd, origin):
    doc = gatherd.batch([origin.url("/size/1")], query="include=headers%2Cbody&concurrency=%35")
    assert doc["concurrency"]["limit"] == 5


# what later parts bring is refused now, and says so


@pytest.mark.parametrize(
    "fields",
    [
        {"until": "any"},
        {"until": {"ok": 1}},
        {"rate": "5/s"},
        {"dedupe": True},
        {"not_before": "2030-01-01T00:00:00Z"},
        {"include": ["attempts"]},
        {"include": ["tls"]},
        {"defaults": {"max_retries": 2}},
        {"defaults": {"expect": {"status": "200"}}},
    ],
    ids=str,
)
def test_batch_fields_not_supported_yet(gatherd, origin, fields):
    problem = gatherd.refused(dict(fields, requests=[origin.url("/ok")]))
    assert "not supported" in problem["detail"] and not origin.seen


@pytest.mark.parametrize(
    "field",
    [{"max_retries": 2}, {"retry_non_idempotent": True}, {"expect": {"status": "200"}}],
    ids=str,
)
def test_member_fields_not_supported_yet(gatherd, origin, field):
    problem = gatherd.refused([dict(field, url=origin.url("/ok"))])
    assert "not supported" in problem["detail"] and problem["pointer"] == "/0/" + list(field)[0]
    assert not origin.seen


def prefer(gatherd, origin, values):
    body = json.dumps([origin.url("/ok")]).encode()
    fields = [("Content-Type", "application/json")] + [("Prefer", value) for value in values]
    return gatherd.request("POST", "/v1/batch", body, fields)


@pytest.mark.parametrize(
    "values",
    [
        ["respond-async"],
        ["Respond-Async"],
        ["wait=5", "respond-async"],
        ["wait=5 , RESPOND-ASYNC;x=y"],
        ['a="b,c\\"", respond-async=""'],
        ["x=" + "a" * 300 + ",respond-async"],
    ],
    ids=lambda values: " + ".join(values)[:40],
)
def test_respond_async_is_not_supported_yet(gatherd, origin, values):
    """The name in any case, anywhere in the list that all fields are."""
    problem = contract.problem(prefer(gatherd, origin, values), 400)
    assert "not supported" in problem["detail"] and not origin.seen


@pytest.mark.parametrize("values", [["wait=5"], ["respond-asynchronously"], ['a="b, respond-async"']], ids=str)
def test_other_preferences_are_passed_over(gatherd, origin, values):
    assert prefer(gatherd, origin, values).status == 200


def test_long_types_are_read_whole(gatherd, origin):
    line = json.dumps({"url": origin.url("/size/1")})
    reply = gatherd.post(line + "\n" + line, type="application/x-ndjson; x=" + "a" * 300)
    assert len(decoded(reply)["results"]) == 2


# URLs: the batch runs, the member fails


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "http://",
        "http:///x",
        "://a",
        "127.0.0.1:1/",
        "http://a b/",
        "http://127.0.0.1:1/a b",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:65536/",
        "http://127.0.0.1:x/",
        "http://127.0.0.1:1/\\x",
        "http://127.0.0.1\\@a/",
        "http://[::1/",
        "http://[::1%25lo]:1/",
        "http://[fe80::1%lo]/",
        "http://127.0.0.1:1/\tx",
        "http://127.0.0.1:1/\n",
        "http://127.0.0.1:1/\x7f",
        "http://" + "a" * 64 + ".test/",
        "http://" + ".".join(["a" * 50] * 6) + "/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:1/",
        "ftp://127.0.0.1/",
        "javascript:alert(1)",
        "data:,x",
        "dict://127.0.0.1:1/",
        "HTTP:/a",
        "http://..test/",
        "//127.0.0.1/",
    ],
)
def test_bad_urls_are_members_failures(gatherd, origin, url):
    doc = gatherd.batch([url, origin.url("/size/1")])
    bad, good = doc["results"]
    assert bad["state"] in ("failed", "denied") and not bad["error"]["sent"], bad
    assert bad["error"]["type"] in ("url_invalid", "http_request_denied"), bad["error"]
    assert good["ok"] is True
    assert len(origin.seen) == 1


def test_userinfo_is_refused_and_not_echoed(gatherd, origin):
    url = origin.url("/ok").replace("http://", "http://user:secret@")
    result = gatherd.one(url)
    assert result["state"] in ("failed", "denied") and not origin.seen
    assert "secret" not in str(result)


def test_scheme_and_host_case(gatherd, origin):
    result = gatherd.one("HTTP://LOCALHOST:%d/size/3" % origin.port)
    assert result["ok"] is True and result["scheme"] == "http"


def test_fragment_is_not_sent(gatherd, origin):
    gatherd.one(origin.url("/size/3#frag"))
    assert origin.seen[-1].target == "/size/3"


def test_ten_megabytes_of_body_is_413(gatherd):
    gatherd.refused(b"[" + b" " * (5 << 20) + b"]", 413)


def test_sent_body_is_the_same_bytes(gatherd, origin):
    assert script.pattern(10) == b"abcdefghij"
    body = gatherd.batch([origin.url("/size/10")], include=["body"])["results"][0]["body"]
    assert body == "abcdefghij"
