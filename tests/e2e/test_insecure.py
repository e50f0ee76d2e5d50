# SPDX-License-Identifier: MIT
"""`insecure: true`: no check of certificates, for that member alone, and only where the policy has
`insecure = yes`. What went unchecked, connections and TLS sessions, never serves a member that wants the
check, and the other way round."""
import signal
import urllib.parse

import pytest

from lib import failing, proc

try:
    from lib import http2
except ImportError:
    http2 = None

FAULTS = ("expired", "not-yet", "wrong-host", "self-signed", "untrusted", "incomplete")
VERSIONS = ("1.1", "2") if http2 is not None else ("1.1",)


@pytest.fixture
def lax(spawn):
    """A daemon whose policy allows it, with all that it knows about members in its log."""
    return spawn("policy.default.insecure=yes", "daemon.log_level=debug")


@pytest.fixture
def port(origin, origin_server, authority):
    """Opens a TLS port of its own with a certificate of that name; version 2 offers HTTP/2."""

    def listen(name, version="1.1"):
        if version == "1.1":
            return origin_server.listen(tls=authority.context(name))
        context = authority.context(name, alpn=("h2", "http/1.1"))
        return origin_server.listen(tls=context, protocol=http2.Http2)

    return listen


def member(origin, port, insecure, version="1.1", **more):
    url = origin.url("/size/3", port=port, scheme="https")
    return dict({"url": url, "insecure": insecure, "http_version": version}, **more)


def assert_unsafe(result):
    assert result["state"] == "failed", result
    assert result["error"]["type"] == "tls_certificate_error", result["error"]
    assert result["error"]["sent"] is False


def test_denied_unless_configured(gatherd, tls_origin):
    """A denial that names the line, whatever the certificate, also for http."""
    for url in (tls_origin.url(name="expired"), tls_origin.url(), tls_origin.origin.url("/ok")):
        members = [{"url": url, "insecure": True}, {"url": tls_origin.url(), "insecure": False}]
        denied, good = gatherd.batch(members)["results"]
        assert denied["state"] == "denied" and denied["error"]["type"] == "http_request_denied"
        assert denied["error"]["rule"] == "insecure = no"
        assert "`insecure = yes` in [policy default]" in denied["error"]["message"]
        assert denied["num_connects"] == 0 and denied["error"]["sent"] is False
        assert good["ok"]
    assert len(tls_origin.origin.seen) == 3


def test_mode_report_does_not_let_it_pass(spawn, tls_origin):
    daemon = spawn("policy.default.mode=report")
    result = daemon.one({"url": tls_origin.url(name="expired"), "insecure": True})
    assert result["state"] == "denied" and result["error"]["rule"] == "insecure = no"
    assert not tls_origin.origin.seen


@pytest.mark.parametrize("name", FAULTS)
def test_no_check_for_that_member_alone(lax, tls_origin, name):
    url = tls_origin.url("/size/3", name)
    doc = lax.batch([url, {"url": url, "insecure": True}, {"url": url, "insecure": False}] * 5)
    for i, result in enumerate(doc["results"]):
        if i % 3 == 1:
            assert result["ok"]
        else:
            assert_unsafe(result)
    assert doc["counts"]["ok"] == 5 and len(tls_origin.origin.seen) == 5


def test_in_the_query_and_in_defaults(lax, tls_origin):
    url = tls_origin.url("/size/3", "self-signed")
    assert lax.one(url, query="insecure=true")["ok"]
    assert lax.one(url, defaults={"insecure": True})["ok"]
    assert_unsafe(lax.one({"url": url, "insecure": False}, query="insecure=true"))
    lax.refused([{"url": url, "insecure": 1}])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("first", [True, False], ids=["unchecked-first", "checked-first"])
def test_a_good_certificate_is_shared_with_nobody(lax, origin, port, version, first):
    """Both kinds warm, in both orders: each keeps to connections of its own."""
    at = port("good", version)
    reused = 0
    for insecure in (first, not first) + (first, not first, not first, first) * 5:
        url = origin.url("/size/3?insecure=%d" % insecure, port=at, scheme="https")
        result = lax.one({"url": url, "insecure": insecure, "http_version": version})
        assert result["ok"] and result["http_version"] == version
        reused += result["num_connects"] == 0
    used = [{s.conn for s in origin.seen if s.target.endswith(end)} for end in "01"]
    assert used[0] and used[1] and not used[0] & used[1]
    assert reused >= 10  # they were warm


@pytest.mark.parametrize("version", VERSIONS)
def test_a_warm_unchecked_connection_serves_no_checked_member(lax, origin, port, version):
    """With a connection and TLS sessions of all handles warm, and again with fresh connections, which
    would resume a session that they find."""
    count = proc.form(8, 60)
    at = port("self-signed", version)
    for more in ({}, {"fresh_connection": True}, {}):
        doc = lax.batch([member(origin, at, True, version, **more)] * count)
        assert doc["counts"]["ok"] == count
        seen = len(origin.seen)
        doc = lax.batch([member(origin, at, False, version, **more)] * count)
        for result in doc["results"]:
            assert_unsafe(result)
        assert len(origin.seen) == seen
    result = lax.one(member(origin, at, True, version))
    assert result["ok"] and result["num_connects"] == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_both_kinds_at_once(lax, origin, port, version):
    """Mixed in one batch, before and after connections are warm; with HTTP/2 they would wait for and
    share a connection."""
    at = port("untrusted", version)
    for _ in range(proc.form(3, 20)):
        doc = lax.batch([member(origin, at, i % 2 == 0, version) for i in range(40)])
        for i, result in enumerate(doc["results"]):
            if i % 2 == 0:
                assert result["ok"] and result["http_version"] == version
            else:
                assert_unsafe(result)
    assert len(origin.seen) == 20 * proc.form(3, 20)


def test_redirects(lax, origin, tls_origin):
    """On every hop of the member, and on none of another's."""
    target = tls_origin.url("/size/3", "expired")
    start = origin.url("/redirect-to?url=%s&code=302" % urllib.parse.quote(target, safe=""))
    result = lax.one({"url": start, "insecure": True})
    assert result["ok"] and result["url_effective"] == target
    strict = lax.one(start)
    assert strict["error"]["type"] == "tls_certificate_error"
    assert origin.count("/size/3") == 1


@pytest.mark.skipif(failing.library() is None, reason="tests/lib/fail.so is not built")
@pytest.mark.parametrize("version", VERSIONS)
def test_allowed_by_a_reload_without_memory(base_options, tmp_path, origin, port, version):
    """A reload that allows it and finds no memory for the connections: a clear error while there is none,
    and served as soon as there is."""
    conf, control = tmp_path / "gatherd.conf", failing.Control(tmp_path / "fail")
    rules = "[policy default]\nallow = 127.0.0.1\ninsecure = %s\n"
    conf.write_text(rules % "no")
    daemon = proc.Gatherd(*base_options, args=("-c", str(conf)), env=control.environment())
    with daemon:
        at = port("self-signed", version)
        assert daemon.one(member(origin, at, True, version))["state"] == "denied"
        control.arm(failing.MULTI, -1)
        conf.write_text(rules % "yes")
        daemon.signal(signal.SIGHUP)
        daemon.wait_log(" reloaded", 10 * proc.scale())
        result = daemon.one(member(origin, at, True, version))
        assert result["error"]["type"] == "proxy_internal_error", result
        assert result["error"]["message"] == "out of memory"
        control.disarm()
        assert daemon.one(member(origin, at, True, version))["ok"]
        daemon.first = daemon._settled()  # what libcurl wakes itself by has come with it
