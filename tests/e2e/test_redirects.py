# SPDX-License-Identifier: MIT
"""gatherd follows redirects itself, hop by hop: methods, credentials, limits, policy."""
import urllib.parse

import pytest

from lib import origin as origin_module, proc

SECRET = {"Authorization": "Bearer t0p", "Cookie": "a=b", "X-Plain": "p"}


def to(origin, url, code=302):
    return origin.url("/redirect-to?url=%s&code=%d" % (urllib.parse.quote(url, safe=""), code))


@pytest.mark.parametrize("hops", [1, 2, 10])
def test_follows(gatherd, origin, hops):
    result = gatherd.one(origin.url("/redirect/%d/to/size/5" % hops))
    assert result["status"] == 200 and result["num_redirects"] == hops
    assert result["url"] == origin.url("/redirect/%d/to/size/5" % hops)
    assert result["url_effective"] == origin.url("/size/5")
    assert len(origin.seen) == hops + 1
    assert result["size_request"] == sum(len(s.raw) for s in origin.seen)


@pytest.mark.parametrize(
    "limit, hops, ok", [(0, 1, None), (1, 1, True), (1, 2, False), (10, 11, False), (3, 3, True)]
)
def test_limit(gatherd, origin, limit, hops, ok):
    result = gatherd.one(
        {"url": origin.url("/redirect/%d/to/size/5" % hops), "max_redirects": limit}
    )
    if ok is None:
        assert result["state"] == "done" and result["status"] == 302 and result["ok"] is True
        assert result["num_redirects"] == 0 and len(origin.seen) == 1
    elif ok:
        assert result["status"] == 200
    else:
        assert result["error"]["type"] == "too_many_redirects" and len(origin.seen) == limit + 1


def test_loop(gatherd, origin):
    result = gatherd.one(origin.url("/weird/location-self"))
    assert result["error"]["type"] == "too_many_redirects" and len(origin.seen) == 11
    assert result["error"]["sent"] is True and result["retryable"] is False


@pytest.mark.parametrize(
    "code, method, after",
    [
        (301, "GET", "GET"),
        (302, "GET", "GET"),
        (303, "GET", "GET"),
        (307, "GET", "GET"),
        (308, "GET", "GET"),
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
        (303, "PUT", "GET"),
        (307, "PUT", "PUT"),
        (302, "HEAD", "HEAD"),
        (303, "HEAD", "HEAD"),
        (303, "DELETE", "GET"),
        (308, "DELETE", "DELETE"),
    ],
)
def test_methods(gatherd, origin, code, method, after):
    body = {"body": "data"} if method in ("POST", "PUT") else {}
    result = gatherd.one(dict(body, url=to(origin, "/echo", code), method=method))
    first, second = origin.seen
    assert result["status"] == 200 and result["method"] == method
    assert (first.method, second.method) == (method, after)
    assert second.body == (b"data" if body and after == method else b"")
    if after != method:
        assert not second.header("Content-Type") and not second.header("Content-Length")


def test_other_methods_are_kept_on_302(gatherd, origin):
    gatherd.one({"url": to(origin, "/echo", 302), "method": "DELETE"})
    assert [s.method for s in origin.seen] == ["DELETE", "DELETE"]


def test_credentials_stay_with_the_origin(gatherd, origin):
    gatherd.one({"url": origin.url("/redirect/1/to/echo"), "headers": SECRET})
    assert all(
        s.header("Authorization") == ["Bearer t0p"] and s.header("Cookie") == ["a=b"]
        for s in origin.seen
    )
    assert len(origin.seen) == 2


@pytest.mark.parametrize("change", ["port", "host"])
def test_credentials_do_not_cross(gatherd, origin, change):
    """Another port or host is another origin; what comes back to the first one does not bring them back."""
    port = origin.listen() if change == "port" else origin.port
    other = "http://%s:%d" % ("localhost" if change == "host" else "127.0.0.1", port)
    back = "%s/redirect-to?url=%s" % (other, urllib.parse.quote(origin.url("/echo"), safe=""))
    result = gatherd.one({"url": to(origin, back, 307), "headers": SECRET, "body": "x"})
    assert result["status"] == 200 and len(origin.seen) == 3
    first, second, third = origin.seen
    assert first.header("Authorization") and first.header("Cookie")
    assert not second.header("Authorization") and not second.header("Cookie")
    assert not third.header("Authorization") and not third.header("Cookie")
    assert "t0p" not in str(second.headers + third.headers)


def test_scheme_change_is_a_change(gatherd, origin, tls_origin):
    result = gatherd.one(
        {
            "url": tls_origin.url(
                "/redirect/1/to/" + urllib.parse.quote(origin.url("/echo"), safe="")
            ),
            "headers": SECRET,
        }
    )
    if result["state"] == "done":
        assert not origin.seen[-1].header("Authorization")
    else:
        assert result["state"] in ("denied", "failed") and len(origin.seen) == 1


def test_host_field_follows(gatherd, origin):
    port = origin.listen()
    gatherd.one(to(origin, "http://127.0.0.1:%d/echo" % port))
    assert origin.seen[-1].header("Host") == ["127.0.0.1:%d" % port]


@pytest.mark.parametrize(
    "location, sees",
    [
        ("/size/3", "/size/3"),
        ("size/3", "/size/3"),
        ("./size/3", "/size/3"),
        ("../size/3", "/size/3"),
        ("//127.0.0.1:PORT/size/3", "/size/3"),
        ("?a=b&url=%2Fsize%2F3", "/redirect-to?a=b&url=%2Fsize%2F3"),
        ("/size/3#f", "/size/3"),
        ("/size/3?q=%20", "/size/3?q=%20"),
        ("http://127.0.0.1:PORT/size/3", "/size/3"),
        ("HTTP://127.0.0.1:PORT/size/3", "/size/3"),
    ],
)
def test_relative_locations(gatherd, origin, location, sees):
    result = gatherd.one(
        {"url": to(origin, location.replace("PORT", str(origin.port))), "max_redirects": 3}
    )
    assert origin.seen[1].target == sees and result["status"] == 200


@pytest.mark.parametrize(
    "location, kind",
    [
        ("http://10.0.0.1/", "destination_ip_prohibited"),
        ("http://169.254.169.254/latest/", "destination_ip_prohibited"),
        ("http://[fd00:ec2::254]/", "destination_ip_prohibited"),
        ("http://0x7f.2/", "destination_ip_prohibited"),
        ("http://127.0.0.2/", "destination_ip_prohibited"),
        ("http://[::ffff:10.0.0.1]/", "destination_ip_prohibited"),
        ("http://192.168.1.1:8080/", "destination_ip_prohibited"),
        ("http://0/", "destination_ip_prohibited"),
    ],
)
def test_denied_targets(gatherd, origin, location, kind):
    result = gatherd.one({"url": to(origin, location), "headers": SECRET})
    assert result["state"] == "denied" and result["error"]["type"] == kind, result["error"]
    assert result["error"]["rule"] and len(origin.seen) == 1 and result["num_redirects"] <= 1


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1:1/",
        "ftp://127.0.0.1/",
        "javascript:alert(1)",
        "mailto:a@b",
        "http://user:pw@127.0.0.1/",
        "http://127.0.0.1:0/",
        "http://a b/",
    ],
)
def test_refused_targets(gatherd, origin, location):
    result = gatherd.one(to(origin, location))
    assert result["state"] in ("denied", "failed"), result
    assert (
        result["error"]["type"] in ("url_invalid", "http_request_denied") and len(origin.seen) == 1
    )
    assert "user:pw@" not in str(result)


def test_own_listener(gatherd, origin):
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        result = gatherd.one(to(origin, "http://%s:%d/-/healthy" % (host, gatherd.port)))
        assert result["state"] == "denied" and result["error"]["type"] == "proxy_loop_detected", (
            host,
            result["error"],
        )


def test_body_of_a_redirect_is_not_the_answer(gatherd, origin):
    doc = gatherd.batch([origin.url("/weird/redirect-big-body")], include=["body", "headers"])
    result = doc["results"][0]
    assert result["body"] == "abc" and 3 <= result["size_delivered"] <= 100003
    assert "Location" not in [name for name, _ in result["headers"]]


def test_timeout_runs_over_all_hops(gatherd, origin):
    """The second hop would end in time if it had begun a time of its own."""
    timeout_ms, delay = int(1000 * proc.scale()), "/delay/%d" % (600 * proc.scale())
    second = origin.url(delay + "/redirect/1/to/size/1")
    hop = origin.url(delay + "/redirect/1/to/" + urllib.parse.quote(second, safe=""))
    result = gatherd.one({"url": hop, "timeout_ms": timeout_ms})
    assert result["error"]["type"] in ("http_response_timeout", "connection_read_timeout")
    assert result["total_ms"] >= timeout_ms - 5 and result["num_redirects"] == 1


def test_timings_are_summed_over_hops(gatherd, origin):
    url = origin.url("/delay/60/redirect/1/to/delay/60/size/1")
    result = gatherd.batch([url], include=["redirects"])["results"][0]
    assert result["timings_ms"]["wait"] >= 115
    hop = result["redirects"][0]["timings_ms"]
    assert 55 <= hop["wait"] < result["timings_ms"]["wait"]


def test_redirect_to_a_refused_port(gatherd, origin):
    closed = origin_module.ClosedPort()
    result = gatherd.one(to(origin, "http://127.0.0.1:%d/x" % closed.port))
    assert result["error"]["type"] == "connection_refused" and result["num_redirects"] == 1
    closed.close()


def test_hops_share_slots(gatherd, origin):
    """Between hops a member holds no slot: with one slot two chains take turns and both end."""
    doc = gatherd.batch(
        [origin.url("/redirect/5/to/size/1"), origin.url("/redirect/5/to/size/2")], concurrency=1
    )
    assert doc["counts"]["ok"] == 2 and doc["concurrency"]["peak"] == 1
