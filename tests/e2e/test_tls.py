# SPDX-License-Identifier: MIT
"""https: what is verified, and how each fault is named."""
import os
import shutil
import signal
import ssl
import subprocess
import time

import pytest

from lib import proc


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


TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture
def errors(spawn, tls_origin):
    """Asks for what a server with these options of Authority.context serves, with its certificate
    checked and not: the errors of both, or, if it is not `refused`, none."""
    daemon = spawn("policy.default.insecure=yes")

    def ask(*args, refused=True, **options):
        url = tls_origin.url("/size/3", *args, **options)
        results = [daemon.one({"url": url, "insecure": insecure}) for insecure in (False, True)]
        found = [result["error"] for result in results if not result["ok"]]
        assert len(found) == (2 if refused else 0)
        assert all(e["phase"] == "tls" and not e["sent"] for e in found)
        return found

    return ask


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])
def test_long_chains(errors, version):
    """Each certificate costs 0.2 ms in one piece, and OpenSSL itself takes hundreds."""
    errors(more=15, version=version, refused=False)
    for error in errors(more=16, version=version) + errors(more=150, version=version):
        assert error["type"] == "tls_protocol_error"
        assert "excessive message size" in error["message"]


def test_finite_field_diffie_hellman(errors):
    """TLS 1.2 (1.3: the unit test): a server that can do nothing else is refused, and says so or leaves;
    one that can picks something else."""
    for error in errors("rsa", version=TLS_1_2, ciphers="kDHE"):
        assert error["type"] in ("tls_protocol_error", "connection_terminated")
    errors("rsa", version=TLS_1_2, ciphers="kDHE:kECDHE", refused=False)


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])
def test_dear_keys(errors, version):
    """An exponent of 1,000 bits, signed by who is trusted."""
    errors("rsa", version=version, refused=False)
    for error in errors("dear", version=version):
        assert error["type"] == "tls_certificate_error" and error["exitcode"] == 60
        assert "application verification failure" in error["message"]


def test_a_reload_reads_the_authorities_anew(spawn, tls_origin, authority, tmp_path):
    """What ca_file holds now decides, for connections that are open, too."""
    trusted = tmp_path / "trusted.pem"

    def trust(name):
        shutil.copy(authority.path(name), tmp_path / "next.pem")
        os.rename(tmp_path / "next.pem", trusted)

    def ask_until(daemon, ok):
        deadline = time.monotonic() + 10 * proc.scale()
        while True:
            result = daemon.one(tls_origin.url("/size/10"))
            if result["ok"] is ok or time.monotonic() > deadline:
                return result

    trust("ca.pem")
    daemon = spawn("fetch.ca_file=%s" % trusted)
    assert daemon.one(tls_origin.url("/size/10"))["ok"] is True
    trust("other.pem")
    daemon.signal(signal.SIGHUP)
    result = ask_until(daemon, False)
    assert result["error"] and result["error"]["type"] == "tls_certificate_error", result
    trust("ca.pem")
    daemon.signal(signal.SIGHUP)
    assert ask_until(daemon, True)["ok"] is True


@pytest.fixture
def bound_by_modes():
    """A wrapper: what it starts reads no file whose mode forbids it, be it root's."""
    wrapper = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 else ()
    try:
        failed = subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode
    except FileNotFoundError:
        failed = True
    if failed:
        pytest.skip("root reads everything, and no setpriv takes that from it")
    return wrapper


def test_a_ca_file_that_may_no_longer_be_read(spawn, authority, tmp_path, bound_by_modes):
    """A reload does not take it, although nothing in it has changed."""
    used = tmp_path / "used.pem"
    shutil.copy(authority.ca_file, used)
    daemon = spawn("fetch.ca_file=%s" % used, wrapper=bound_by_modes, allow_log=("used.pem", "not reloaded"))
    used.chmod(0)
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("gatherd: (not )?reloaded", 10 * proc.scale())
    assert "used.pem: Permission denied" in daemon.log() and "not reloaded" in daemon.log()
    used.chmod(0o644)
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("gatherd: reloaded", 10 * proc.scale())


def test_a_ca_file_that_cannot_be_used(spawn, tls_origin, authority, tmp_path):
    """A reload does not take it; and where nobody was asked no loop waits in opening it."""
    used, fifo, text = tmp_path / "used.pem", tmp_path / "fifo", tmp_path / "text"
    shutil.copy(authority.ca_file, used)
    text.write_text("no certificate\n")
    os.mkfifo(fifo)
    refusals = ("is no regular file", "holds no certificate", "not reloaded")
    daemon = spawn("fetch.ca_file=%s" % used, allow_log=refusals)
    for file, words in zip((fifo, text), refusals):
        os.rename(file, used)
        daemon.signal(signal.SIGHUP)
        daemon.wait_log(words)
    os.remove(used)
    os.mkfifo(used)
    urls = [tls_origin.url("/size/10"), tls_origin.origin.url("/size/10")]
    secure, plain = daemon.batch(urls)["results"]
    assert secure["error"]["type"] == "proxy_internal_error" and not secure["error"]["sent"]
    assert "fetch.ca_file" in secure["error"]["message"] and secure["error"]["phase"] == "connect"
    assert plain["ok"] is True
    os.remove(used)
    shutil.copy(authority.ca_file, used)
    assert daemon.one(tls_origin.url("/size/10"))["ok"] is True


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
    patience = int(600 * proc.scale())
    result = gatherd.one(
        {
            "url": origin.url("/", port=origin.listen("silent"), scheme="https"),
            "connect_timeout_ms": patience,
        }
    )
    assert result["error"]["type"] == "connection_timeout" and result["error"]["phase"] == "tls"
    assert result["timings_ms"]["connect"] is not None and result["timings_ms"]["tls"] >= 0.75 * patience


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
    patience = 500 if state == "http_response_timeout" else 5000
    result = gatherd.one({"url": tls_origin.url(path), "timeout_ms": int(patience * proc.scale())})
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


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)
def test_new_connections_resume_a_session(gatherd, origin, authority, version):
    """All but the first, whichever handle fetches: the server's own count."""
    context = authority.context(version=version)
    port = origin.listen(tls=context)
    members = [
        {"url": origin.url("/size/5?n=%d" % n, port, scheme="https"), "fresh_connection": True}
        for n in range(20)
    ]
    assert gatherd.one(members[0])["ok"] is True
    for batch in (members, [dict(member, http_version="1.1") for member in members]):
        assert gatherd.batch(batch)["counts"]["ok"] == len(batch)
    stats = context.session_stats()
    assert (stats["accept_good"], stats["hits"]) == (41, 40), stats


def test_a_session_is_no_other_origin_s(gatherd, origin, authority):
    """Two ports with the same tickets: what was verified for one says nothing of the other."""
    context = authority.context()
    for port in (origin.listen(tls=context), origin.listen(tls=context)):
        before = context.session_stats()["hits"]
        url = origin.url("/size/5", port, scheme="https")
        assert gatherd.one({"url": url, "fresh_connection": True})["ok"] is True
        assert context.session_stats()["hits"] == before


def test_a_reload_forgets_sessions(spawn, origin, authority):
    """What was verified by another ca_file, for all that is known."""
    daemon, context = spawn(), authority.context()
    url = origin.url("/size/5", origin.listen(tls=context), scheme="https")
    for hits in (0, 1):
        assert daemon.one({"url": url, "fresh_connection": True})["ok"] is True
        assert context.session_stats()["hits"] == hits
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("reloaded", 10)
    assert daemon.one({"url": url, "fresh_connection": True})["ok"] is True
    assert context.session_stats()["hits"] == 1


def without_key(pem):
    """The certificate with a key of a curve that does not exist: OpenSSL keeps the rest of it, as it does
    where memory does not suffice to read a key."""
    der = ssl.PEM_cert_to_DER_cert(pem)
    p256 = bytes.fromhex("2a8648ce3d030107")
    assert der.count(p256) == 1
    return ssl.DER_cert_to_PEM_cert(der.replace(p256, p256[:-1] + b"\x7f"))


def test_certificates_half_read_are_read_again(spawn, tls_origin, authority, tmp_path):
    """libcurl would keep them for a day."""
    with open(authority.ca_file, encoding="ascii") as file:
        whole = file.read()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(without_key(whole))
    daemon = spawn("fetch.ca_file=%s" % ca_file, allow_log=("a trusted certificate",))
    url, other = tls_origin.url("/size/10"), tls_origin.url("/size/10", "untrusted")
    assert daemon.one(other)["error"]["type"] == "tls_certificate_error"
    assert not any("a trusted certificate" in line for line in daemon.lines)
    assert daemon.one(url)["error"]["phase"] == "tls"
    daemon.wait_log("a trusted certificate could not be read", 10)
    ca_file.write_text(whole)
    assert daemon.one(url)["ok"] is True
    assert daemon.one(other)["error"]["type"] == "tls_certificate_error"
    assert sum("a trusted certificate" in line for line in daemon.lines) == 1


def test_a_failed_handshake_is_not_resumed(gatherd, origin, authority):
    """A session of TLS 1.2 is there before the certificate's names are looked at. The server that mends its
    certificate is believed at once, though it would still take the ticket of before."""
    context = authority.context("wrong-host", version=ssl.TLSVersion.TLSv1_2)
    url = origin.url("/size/5", origin.listen(tls=context), scheme="https")
    assert gatherd.one(url)["error"]["type"] == "tls_certificate_error"
    context.load_cert_chain(*authority.issue("good"))
    assert gatherd.one(url)["ok"] is True
    assert context.session_stats()["hits"] == 0
