# SPDX-License-Identifier: MIT
"""https: what is verified, and how each fault is named."""
import ssl

import pytest


@pytest.mark.parametrize("name", ["good", "chained"])
def test_good(gatherd, tls_origin, name):
    result = gatherd.one({"url": tls_origin.url("/size/10", name), "fresh_connection": True})
    assert result["ok"] is True and result["scheme"] == "https"
    assert result["timings_ms"]["tls"] > 0 and result["timings_ms"]["connect"] is not None


@pytest.mark.parametrize(
    "name", ["expired", "not-yet", "wrong-host", "self-signed", "untrusted", "incomplete"]
)
def test_certificates(gatherd, tls_origin, name):
    result = gatherd.one(tls_origin.url("/size/10", name))
    assert (
        result["state"] == "failed" and result["error"]["type"] == "tls_certificate_error"
    ), result["error"]
    assert result["error"]["phase"] == "tls" and result["error"]["exitcode"] == 60
    assert result["error"]["sent"] is False and result["retryable"] is False
    assert not tls_origin.origin.seen


def test_names_in_the_certificate(gatherd, tls_origin, dns):
    for host, ok in (
        ("one.test", True),
        ("two.test", True),
        ("three.test", False),
        ("a.wild.test", True),
        ("a.b.wild.test", False),
    ):
        dns.add(host, a=["127.0.0.1"])
        result = gatherd.one(tls_origin.url("/size/3", "names", host=host))
        assert result["ok"] is ok, (host, result["error"])
        if not ok:
            assert result["error"]["type"] == "tls_certificate_error"


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"]
)
def test_old_versions_are_refused(gatherd, tls_origin, version):
    url = tls_origin.url("/size/3", version=version, ciphers="ALL:@SECLEVEL=0")
    result = gatherd.one(url)
    assert result["error"]["type"] == "tls_protocol_error" and result["error"]["phase"] == "tls"
    assert not tls_origin.origin.seen


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)
def test_current_versions(gatherd, tls_origin, version):
    assert gatherd.one(tls_origin.url("/size/3", version=version))["ok"] is True


def test_plain_http_on_the_tls_port(gatherd, origin):
    result = gatherd.one({"url": origin.url("/size/1", scheme="https"), "connect_timeout_ms": 400})
    assert (
        result["error"]["type"] in ("tls_protocol_error", "connection_timeout")
        and result["error"]["phase"] == "tls"
    )


def test_https_spoken_to_as_http(gatherd, tls_origin):
    """Also where a TLS connection to the port is kept: libcurl 8.14 would send it over that one."""
    for more in ({}, {"http_version": "1.1"}):
        assert gatherd.one({"url": tls_origin.url("/size/1"), **more})["ok"] is True
    result = gatherd.one(tls_origin.url("/size/1").replace("https:", "http:"))
    assert result["state"] == "failed" and result["error"]["type"] in (
        "connection_terminated",
        "http_protocol_error",
    )


def test_stall_in_the_handshake(gatherd, origin):
    result = gatherd.one(
        {
            "url": origin.url("/", port=origin.listen("silent"), scheme="https"),
            "connect_timeout_ms": 200,
        }
    )
    assert result["error"]["type"] == "connection_timeout" and result["error"]["phase"] == "tls"
    assert result["timings_ms"]["connect"] is not None and result["timings_ms"]["tls"] >= 150


@pytest.mark.parametrize(
    "path, state",
    [
        ("/cut/after/10", "http_response_incomplete"),
        ("/size/10", None),
        ("/close-after/size/10", None),
        ("/never", "http_response_timeout"),
        ("/gzip/size/1000", None),
        ("/redirect/3/to/size/10", None),
    ],
)
def test_behaviours_over_tls(gatherd, tls_origin, path, state):
    result = gatherd.one({"url": tls_origin.url(path), "timeout_ms": 500})
    if state is None:
        assert result["ok"] is True
    else:
        assert result["error"]["type"] in (
            state,
            "connection_terminated",
            "connection_read_timeout",
        )


def test_reuse_over_tls(gatherd, tls_origin):
    origin = tls_origin.origin
    gatherd.batch([tls_origin.url("/size/%d" % n) for n in range(10)], concurrency=1)
    before = origin.accepted
    doc = gatherd.batch([tls_origin.url("/size/%d" % n) for n in range(10)], concurrency=1)
    assert origin.accepted == before and doc["counts"]["reused_connections"] == 10
    assert all(r["timings_ms"]["tls"] is None for r in doc["results"])


def test_many_new_connections_at_once(gatherd, tls_origin):
    doc = gatherd.batch(
        [{"url": tls_origin.url("/size/5?n=%d" % n), "fresh_connection": True} for n in range(100)]
    )
    assert doc["counts"]["ok"] == 100


def test_the_fault_of_one_hurts_no_other(gatherd, tls_origin):
    doc = gatherd.batch(
        [
            tls_origin.url("/size/5", name)
            for name in ("good", "expired", "good", "untrusted", "chained", "wrong-host") * 5
        ]
    )
    assert doc["counts"]["ok"] == 15 and doc["errors"] == {"tls_certificate_error": 15}
