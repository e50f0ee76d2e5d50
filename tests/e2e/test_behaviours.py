# SPDX-License-Identifier: MIT
"""Upstreams that misbehave before or beside their answer: names, addresses, handshakes, redirects. What
is wrong with an answer itself is in test_upstreams.py. Expectations are in the words of
tests/lib/judge.py: each behaviour has one error type and phase, on every copy, and hurts no
neighbour."""
import socket
import ssl
import urllib.parse

import pytest

from lib import dns as dns_module
from lib import origin as origin_module
from lib.judge import judge

# What a name is -> what the member ends with.
NAMES = {
    "nx": (None, "dns_error dns"),
    "servfail": ({"rcode": dns_module.SERVFAIL}, "dns_error dns"),
    "refused": ({"rcode": dns_module.REFUSED}, "dns_error dns"),
    "formerr": ({"rcode": dns_module.FORMERR}, "dns_error dns"),
    "empty": ({}, "dns_error dns"),
    "dead": ({"silent": True}, "dns_timeout dns"),
    "slow": ({"a": ["127.0.0.1"], "delay": 3.0}, "dns_timeout dns"),
    "cname-loop": ({"cname": "cname-loop.names.test"}, "dns_error dns"),
    "cname-nowhere": ({"cname": "nowhere.names.test"}, "dns_error dns"),
    "garbage": ({"raw": b"\xff" * 30}, "dns_timeout dns"),
    "short": ({"raw": b"\x81\x80"}, "dns_timeout dns"),
    "good": ({"a": ["127.0.0.1"]}, "200"),
    "1000-a": (
        {"a": ["127.0.0.1"] + ["127.1.%d.%d" % (n // 250, n % 250 + 1) for n in range(999)]},
        "200",
    ),
    "1000-denied": (
        {"a": ["10.1.%d.%d" % (n // 250, n % 250 + 1) for n in range(1000)]},
        "destination_ip_prohibited dns",
    ),
    "private-aaaa": ({"a": ["127.0.0.1"], "aaaa": ["fd00::1"]}, "200"),
    "private-a": ({"a": ["10.0.0.1", "127.0.0.1"]}, "200"),
    "metadata": ({"a": ["169.254.169.254"]}, "destination_ip_prohibited dns"),
    "mapped": ({"aaaa": ["::ffff:169.254.169.254"]}, "destination_ip_prohibited dns"),
    "any": ({"a": ["0.0.0.0"]}, "destination_ip_prohibited dns"),
    "refuses-six": ({"aaaa": ["::1"], "a": ["127.0.0.1"]}, "200"),
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_names(gatherd, origin, dns, name):
    entry, expected = NAMES[name]
    host = name + ".names.test"
    if entry is not None:
        dns.add(host, **entry)
    url = "http://%s:%d/size/5" % (host, origin.port)
    for result in judge(gatherd, origin, url, expected):
        if result["state"] == "done":
            assert result["remote_ip"] == "127.0.0.1"
        elif result["state"] == "denied":
            assert result["error"]["rule"] and result["num_connects"] == 0
        else:
            assert result["timings_ms"]["connect"] is None


def test_dead_six_and_good_four(gatherd, origin, dns):
    """The IPv6 address drops what comes, the IPv4 one answers: within the time that libcurl gives the
    first, 200 ms, and some."""
    hole = origin_module.Blackhole("::1", origin.port)
    dns.add("dead-six.names.test", aaaa=["::1"], a=["127.0.0.1"])
    url = "http://dead-six.names.test:%d/size/5" % origin.port
    for result in judge(gatherd, origin, url, "200", fresh_connection=True):
        assert result["remote_ip"] == "127.0.0.1"
        assert result["timings_ms"]["connect"] < 2000
    hole.close()


def test_a_name_that_moves(gatherd, origin, dns):
    """Rebinding: the name is an allowed address first and a private one after that. Each hop is judged by
    what it dials; nothing is sent to the other."""
    dns.add("moves.names.test", ttl=0, turns=[["127.0.0.1"], ["10.0.0.1"]])
    url = "http://moves.names.test:%d/size/5" % origin.port
    for _ in range(10):
        result = gatherd.one({"url": url, "fresh_connection": True, "connect_timeout_ms": 500})
        if result["state"] == "done":
            assert result["remote_ip"] == "127.0.0.1"
        else:
            assert result["error"]["type"] == "destination_ip_prohibited"


TLS = {
    "good": "200",
    "chained": "200",
    "expired": "tls_certificate_error tls",
    "not-yet": "tls_certificate_error tls",
    "wrong-host": "tls_certificate_error tls",
    "self-signed": "tls_certificate_error tls",
    "untrusted": "tls_certificate_error tls",
    "incomplete": "tls_certificate_error tls",
}


@pytest.mark.parametrize("name", sorted(TLS))
def test_certificates(gatherd, origin, tls_origin, name):
    for result in judge(gatherd, origin, tls_origin.url("/size/5", name), TLS[name]):
        assert result["state"] == "done" or result["error"]["exitcode"] == 60


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls(gatherd, origin, tls_origin, version):
    url = tls_origin.url("/size/5", version=version, ciphers="ALL:@SECLEVEL=0")
    judge(gatherd, origin, url, "tls_protocol_error tls")


# Answers over TLS that end in ways that plain TCP has not; `cut` = FIN without a close_notify.
TLS_ENDS = {
    "close-delimited": ((b"HTTP/1.1 200 OK\r\n\r\nall of it", "fin"), "200"),
    "no-notify": ((b"HTTP/1.1 200 OK\r\n\r\nall of it", 0.02, "cut"), "200"),
    "no-notify-length": ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0.02, "cut"), "200"),
    "no-notify-short": (
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", 0.02, "cut"),
        "http_response_incomplete receive",
    ),
    "no-notify-chunked": (
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", 0.02, "cut"),
        "http_response_incomplete receive",
    ),
    "no-notify-empty": ((0.02, "cut"), "connection_terminated wait"),
    "plain-after": (
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", bytearray(b"no TLS record"), "stall"),
        "tls_protocol_error receive",
    ),
    "reset": ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "rst"), "connection_terminated receive"),
    "stall": ((b"HTTP/1.1 200 OK\r\n", "stall"), "http_response_timeout receive"),
}


@pytest.mark.parametrize("name", sorted(TLS_ENDS))
def test_ends_of_tls(gatherd, origin, tls_origin, name):
    steps, expected = TLS_ENDS[name]
    origin.raw(name, *steps)
    judge(gatherd, origin, tls_origin.url("/raw/" + name), expected, fresh_connection=True)


# Where a redirect leads -> the member's end. OWN is the daemon's port, FREE one that refuses.
REDIRECTS = {
    "http://127.0.0.1:FREE/": "connection_refused connect",
    "http://127.0.0.2/": "destination_ip_prohibited queue",
    "http://[::1]:FREE/": "connection_refused connect",
    "http://169.254.169.254/latest/meta-data/": "destination_ip_prohibited queue",
    "http://[fd00:ec2::254]/": "destination_ip_prohibited queue",
    "http://[::ffff:10.0.0.1]/": "destination_ip_prohibited queue",
    "http://[64:ff9b::a00:1]/": "destination_ip_prohibited queue",
    "http://0x7f.2/": "destination_ip_prohibited queue",
    "http://2130706434/": "destination_ip_prohibited queue",
    "http://metadata.names.test/": "destination_ip_prohibited dns",
    "http://127.0.0.1:OWN/-/healthy": "proxy_loop_detected queue",
    "http://localhost:OWN/-/healthy": "proxy_loop_detected dns",
    "http://[::ffff:127.0.0.1]:OWN/": "proxy_loop_detected queue",
    "file:///etc/passwd": "url_invalid receive",
    "gopher://127.0.0.1:70/_x": "url_invalid receive",
    "ftp://127.0.0.1/": "url_invalid receive",
    "http://127.0.0.1:0/": "url_invalid receive",
    "http://nowhere.names.test/": "dns_error dns",
    "http:///": "url_invalid receive",
    "/redirect-to?url=%2Fsize%2F5": "200",
}


@pytest.mark.parametrize("location", sorted(REDIRECTS))
def test_redirects(gatherd, origin, dns, location):
    closed = origin_module.ClosedPort("::1" if "::1]" in location else "127.0.0.1")
    dns.add("metadata.names.test", a=["169.254.169.254"])
    place = location.replace("FREE", str(closed.port)).replace("OWN", str(gatherd.port))
    url = origin.url("/redirect-to?url=" + urllib.parse.quote(place, safe=""))
    for result in judge(gatherd, origin, url, REDIRECTS[location]):
        assert result["state"] == "done" or result["error"]["sent"] is True
    closed.close()


def test_from_https_to_http(gatherd, origin, tls_origin):
    """Followed, without what was meant for the https origin."""
    url = tls_origin.url("/redirect-to?url=" + urllib.parse.quote(origin.url("/echo"), safe=""))
    for result in judge(gatherd, origin, url, "200", headers={"Authorization": "Bearer t0p"}):
        assert result["url_effective"] == origin.url("/echo")
    assert not [s for s in origin.seen if s.port == origin.port and s.header("Authorization")]


@pytest.mark.parametrize("size", [0, 1, 10, 11, 50])
def test_how_far(gatherd, origin, size):
    expected = "200" if size <= 10 else "too_many_redirects receive"
    url = origin.url("/redirect/%d/to/size/5" % size if size else "/size/5")
    for result in judge(gatherd, origin, url, expected):
        assert result["num_redirects"] == min(size, 10)


def test_a_listener_that_is_full(gatherd, origin):
    """Its queue is full and nobody accepts: SYNs are dropped."""
    hole = origin_module.Blackhole()
    url = "http://127.0.0.1:%d/" % hole.port
    judge(gatherd, origin, url, "connection_timeout connect")
    hole.close()


def test_an_upstream_that_takes_nothing(gatherd, origin):
    """It accepts and never reads: a body larger than what the kernels hold is not sent in time."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as deaf:
        url = "http://127.0.0.1:%d/" % deaf.getsockname()[1]
        judge(
            gatherd, origin, url, "connection_write_timeout send", copies=1, body="x" * 4000000
        )
