# SPDX-License-Identifier: MIT
"""URLs with a user name and a password, where the policy has `userinfo = yes`: what is sent, to whom, and
that nothing that gatherd says has them."""
import base64
import json
import re
import urllib.parse

import pytest

from lib import contract, proc

try:
    from lib import http2
except ImportError:
    http2 = None

# As they stand in a URL and what is meant; none of the words occurs anywhere else.
USER, PASSWORD = "us3r-n4me", "pa55%2Bw0rd%40x"
HOST = "127.0.0.1:%d"
SECRETS = ("us3r-n4me", "pa55", "w0rd", base64.b64encode(b"us3r-n4me:pa55+w0rd@x").decode())


@pytest.fixture(scope="module")
def daemon(base_options):
    """One for the module, at level debug, with all of its log kept."""
    running = proc.Gatherd(
        "policy.default.allow=127.0.0.1 ::1",
        "policy.default.userinfo=yes",
        "daemon.log_level=debug",
        *base_options,
    )
    yield running
    try:
        running.stop()
        assert_silent(running.log())
    finally:
        running.kill()


def with_login(url, login=USER + ":" + PASSWORD):
    return url.replace("://", "://%s@" % login, 1)


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


def assert_silent(text, what=SECRETS):
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    for secret in what:
        assert secret not in text, text


@pytest.mark.parametrize(
    "login, sent",
    [
        (USER + ":" + PASSWORD, "us3r-n4me:pa55+w0rd@x"),
        ("u", "u:"),
        ("u:", "u:"),
        (":p", ":p"),
        ("", ":"),
        (":", ":"),
        ("u:p:q", "u:p:q"),
        ("u:p%3Aq", "u:p:q"),
        ("a%20b:c%2Fd%3F%23", "a b:c/d?#"),
        ("a+b:%2B", "a+b:+"),
        ("%C3%BC:%E2%82%AC", "ü:€"),
        ("ü:€", "ü:€"),
        ("u:50%", "u:50%"),
        ("u:%zz", "u:%zz"),
        ("u;x=1:!$&'()*,=~", "u;x=1:!$&'()*,=~"),
        ("u:" + "p" * 8000, "u:" + "p" * 8000),
    ],
)
def test_what_is_sent(daemon, origin, login, sent):
    """As the curl tool does it, by each kind of body."""
    url = with_login(origin.url("/echo?x=1#f"), login)
    ways = {
        "application/json": json.dumps([url, {"url": url, "id": "a"}, {"url": url, "method": "PUT"}]),
        "application/x-ndjson": json.dumps(url) + "\n" + json.dumps({"url": url, "id": "a"}) + "\n",
        "text/uri-list": url + "\n",
    }
    for kind, body in ways.items():
        origin.reset()
        reply = daemon.post(body.encode(), type=kind)
        for result in contract.check(reply.body)["results"]:
            assert result["ok"], result
            assert result["url"] == origin.url("/echo?x=1#f")
            assert result["url_effective"] == origin.url("/echo?x=1")
        for seen in origin.seen:
            assert seen.header("Authorization") == [basic(sent)]
            assert seen.target == "/echo?x=1" and seen.header("Host") == [HOST % origin.port]


@pytest.mark.parametrize(
    "login, why",
    [
        ("a@b", "percent-encode"),
        ("a@b:c", "percent-encode"),
        ("u%3Av:p", "colon"),
        ("u:%00", "control"),
        ("u%0d%0aX:p", "control"),
        ("u:p%0aX-Evil:%201", "control"),
        ("%7f:p", "control"),
        ("u:" + "p" * 8192, "longer"),
    ],
)
def test_what_is_refused(daemon, origin, login, why):
    """That member alone; nothing is sent."""
    doc = daemon.batch([with_login(origin.url("/size/1"), login), origin.url("/size/2")])
    bad, good = doc["results"]
    assert bad["state"] == "failed" and bad["error"]["type"] == "url_invalid", bad
    assert why in bad["error"]["message"] and not bad["error"]["sent"]
    assert good["ok"] and len(origin.seen) == 1
    assert "@" not in bad["url"]


def test_no_is_as_it_was(gatherd, origin):
    for login in ("u:secret", "u", "", ":"):
        bad, good = gatherd.batch([with_login(origin.url("/ok"), login), origin.url("/size/1")])["results"]
        assert bad["error"]["type"] == "url_invalid" and "secret" not in str(bad)
        assert good["ok"]
    assert origin.count("/ok") == 0


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
def test_an_authorization_beside_it(daemon, origin, name):
    """Nobody would know which of the two was meant."""
    url, more = with_login(origin.url("/echo")), {name: "Bearer x"}
    for body, pointer in (
        ([origin.url("/ok"), {"url": url, "headers": more}], "/1/url"),
        ({"requests": [url], "defaults": {"headers": more}}, "/requests/0"),
        ({"requests": [{"url": url}], "defaults": {"headers": more}}, "/requests/0/url"),
    ):
        problem = daemon.refused(body)
        assert problem["pointer"] == pointer and "Authorization" in problem["detail"]
        assert_silent(problem)
    assert not origin.seen
    # one that takes it away again, or a batch where only others have one, is right
    removed = {"requests": [{"url": url, "headers": {name: []}}], "defaults": {"headers": more}}
    assert daemon.post(removed).json()["results"][0]["ok"]
    both = daemon.batch([{"url": url}, {"url": origin.url("/echo"), "headers": more}])["results"]
    assert [r["ok"] for r in both] == [True, True]
    sent = sorted(s.header("Authorization") for s in origin.seen[1:])
    assert sent == sorted([["Bearer x"], [basic("us3r-n4me:pa55+w0rd@x")]])


def test_each_member_has_its_own(daemon, origin):
    """On kept connections and handles: whoever has none sends none, and no other's."""
    members = []
    for i in range(60):
        path = "/echo?n=%d" % i
        login = [None, "u%d:p" % (i % 4), "same:same"][i % 3]
        members.append(with_login(origin.url(path), login) if login else origin.url(path))
    for concurrency in (1, 20):
        origin.reset()
        doc = daemon.batch(members, concurrency=concurrency)
        assert doc["counts"]["ok"] == 60
        for seen in origin.seen:
            i = int(seen.target.split("=")[1])
            login = [None, "u%d:p" % (i % 4), "same:same"][i % 3]
            assert seen.header("Authorization") == ([basic(login)] if login else [])


@pytest.mark.skipif(http2 is None, reason="python3-h2 is not installed")
def test_over_http2(daemon, origin, origin_server, authority):
    """Streams of one connection: each has its own."""
    context = authority.context(alpn=("h2", "http/1.1"))
    port = origin_server.listen(tls=context, protocol=http2.Http2)
    members = []
    for i in range(30):
        url = origin.url("/size/3?n=%d" % i, port=port, scheme="https")
        members.append({"url": with_login(url, "u%d:p" % i) if i % 2 else url, "http_version": "2"})
    doc = daemon.batch(members)
    assert doc["counts"]["ok"] == 30
    for seen in origin.seen:
        i = int(seen.target.split("n=")[1])
        assert seen.header("authorization") == ([basic("u%d:p" % i)] if i % 2 else [])


def redirect(origin, url, code=307):
    return origin.url("/redirect-to?url=%s&code=%d" % (urllib.parse.quote(url, safe=""), code))


@pytest.mark.parametrize("change", ["port", "host", "scheme"])
def test_it_does_not_cross_an_origin(daemon, origin, tls_origin, change):
    """Nor comes it back with a redirect to the first one."""
    back = urllib.parse.quote(origin.url("/echo"), safe="")
    if change == "scheme":
        other = tls_origin.url("/redirect-to?url=%s&code=307" % back)
    else:
        port = origin.listen() if change == "port" else origin.port
        host = "localhost" if change == "host" else "127.0.0.1"
        other = "http://%s:%d/redirect-to?url=%s&code=307" % (host, port, back)
    result = daemon.one(with_login(redirect(origin, other)))
    assert result["ok"] and result["num_redirects"] == 2, result
    assert [bool(s.header("Authorization")) for s in origin.seen] == [True, False, False]


def test_within_the_origin_it_goes_on(daemon, origin):
    for target in ("/echo", origin.url("/echo")):
        origin.reset()
        result = daemon.one(with_login(redirect(origin, target)))
        assert result["ok"] and result["url_effective"] == origin.url("/echo")
        expected = [basic("us3r-n4me:pa55+w0rd@x")]
        assert [s.header("Authorization") for s in origin.seen] == [expected] * 2


def test_a_location_with_one_is_refused(daemon, origin):
    """Whatever the policy says of URLs: an upstream has no say in who asks."""
    for url in (origin.url("/ok"), with_login(origin.url("/ok"), "a:b")):
        start = redirect(origin, with_login(origin.url("/echo"), "x:y"))
        result = daemon.one(start if url == origin.url("/ok") else with_login(start, "a:b"))
        assert result["state"] == "failed" and result["error"]["type"] == "url_invalid"
    assert origin.count("/echo") == 0


def everything(daemon, members, **fields):
    """All that gatherd says about a batch, in each view, head and body."""
    include = ["headers", "body", "body_sha256", "text_length", "redirects", "curl"]
    for view in ("json", "ndjson", "text"):
        body = dict(fields, requests=members, include=include)
        reply = daemon.post(body, query="format=" + view)
        assert reply.status == 200, reply
        yield "%s %r %s" % (reply.status, reply.headers, reply.body.decode("utf-8", "replace"))


def refuse_misplaced(daemon, url):
    """A URL where none belongs, or in what is no JSON."""
    for body in (
        {"requests": url},
        {url: 1},
        [{url: {}}],
        [{"url": url, "timeout_ms": url}],
        [{"url": url, "headers": url}],
        [{"url": url, "headers": {url: "a"}}],
        [{"url": url, "id": url}] * 2,
        {"requests": [url], "fail": url},
        {"requests": [url], "include": [url]},
        '["%s\\q"]' % url,
        '["%s\\q"]' % url.replace("/", "\\/"),
        '["%s\x01"]' % url,
        '["%s' % url,
        "[%s]" % url,
    ):
        reply = daemon.post(body)
        assert reply.status == 400, reply
        assert_silent(reply.body)
    for query in ("concurrency=" + url, url + "=1", "format=" + url, "format=http://%s@h" % USER[:6]):
        reply = daemon.post([url], query)
        assert reply.status == 400, reply
        assert_silent(reply.body, SECRETS + (USER[:6],))


def test_nothing_says_it(daemon, origin, dns, refused):
    """Answers in every view with all that can be included, of each way to end; problems, headers,
    metrics; and the log at level debug, which the end of this module looks through."""
    login = USER + ":" + PASSWORD
    paths = ("/size/3", "/status/404", "/redirect/2/to/size/3", "/reset/after/10", "/cut/after/1",
             "/redirect-to?url=%2F%2Fx%40y%2F&code=302")
    members = [with_login(origin.url(p), login) for p in paths]
    members += [
        {"url": with_login(origin.url("/never"), login), "timeout_ms": 30},
        {"url": with_login(origin.url("/size/3"), login), "id": "a", "method": "POST", "body": "x"},
        with_login("http://127.0.0.1:%d/" % refused, login),
        with_login("http://10.0.0.1/", login),
        with_login("http://nowhere.invalid/", login),
        with_login("http://127.0.0.1:0/", login),
        with_login("http://[::1/", login),
        with_login("http://h%st/" % "%00", login),
        with_login("https://127.0.0.1:%d/" % origin.port, login),
        with_login("http://@127.0.0.1/", login),
        login + "@127.0.0.1/",
        "//" + login + "@127.0.0.1/",
        "ftp://" + login + "@127.0.0.1/",
        "http:\\\\" + login + "@127.0.0.1/",
    ]
    for said in everything(daemon, members):
        assert_silent(said)
    for broken in (
        {"requests": members, "concurrency": 0},
        {"requests": members[:1] + [{"url": members[0], "tiemout": 1}]},
        {"requests": [{"url": members[0], "headers": {"Authorization": "a"}}]},
        {"requests": members, "x" + "y" * 30: 1},
    ):
        reply = daemon.post(broken)
        assert reply.status == 400
        assert_silent(reply.body)
    refuse_misplaced(daemon, members[0])
    assert_silent(daemon.get("/metrics").body)
    assert_silent(daemon.log())
    assert re.search(r"batch", daemon.log())  # there is something to look through
