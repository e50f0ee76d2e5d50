# SPDX-License-Identifier: MIT
"""Where gatherd may connect. Each denial is seen from outside: the upstream was not even dialled."""
import ipaddress
import json
import re

import pytest

from lib import contract, proc


@pytest.fixture(scope="module")
def strict(base_options):
    """The default policy: nothing but globally reachable addresses."""
    with proc.Gatherd(*base_options) as daemon:
        yield daemon


def denied(daemon, url, kind="destination_ip_prohibited", **more):
    result = daemon.one(dict(more, url=url))
    assert result["state"] == "denied" and result["error"]["type"] == kind, (url, result["error"])
    assert (
        result["error"]["rule"] and result["error"]["message"] and result["error"]["sent"] is False
    )
    assert result["ok"] is False and result["retryable"] is False and result["remote_ip"] is None
    return result["error"]


def test_what_linux_takes_to_loopback_is_loopback(spawn, origin, dns):
    """0.0.0.0 and :: are dialled at 127.0.0.1 and ::1: who denies those denies the other spelling."""
    four, six = origin.port, origin.listen("http", None, "::1")
    closed = spawn("policy.default.allow=0.0.0.0/0 ::/0", "policy.default.deny=127.0.0.0/8 ::1",
                   loopback=False)  # fmt: skip
    dns.add("zero.test", a=["0.0.0.0"], aaaa=["::"])
    for scheme in ("http", "https"):
        for host, port, rule in (
            ("0.0.0.0", four, "deny 127.0.0.0/8"),
            ("0", four, "deny 127.0.0.0/8"),
            ("[::ffff:0.0.0.0]", four, "deny 127.0.0.0/8"),
            ("[::]", six, "deny ::1"),
            ("zero.test", four, None),
        ):
            error = denied(closed, "%s://%s:%d/size/1" % (scheme, host, port))
            assert rule is None or error["rule"] == rule
    assert "leads to 127.0.0.1; that is denied" in denied(closed, "http://0.0.0.0:1/")["message"]
    assert origin.accepted == 0
    # the line that a denial names is enough
    error = denied(spawn(loopback=False), "http://0.0.0.0:%d/" % four)
    line = re.search("`allow = (.+?)` in", error["message"])[1]
    assert spawn("policy.default.allow=" + line, loopback=False).one("http://0.0.0.0:%d/size/1" % four)["ok"]


FORMS = [
    "127.0.0.1",
    "localhost",
    "[::1]",
    "127.1",
    "0x7f.1",
    "2130706433",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "127.0.0.1.",
    "LOCALHOST",
    "%31%32%37.0.0.1",
    "127.255.255.254",
    "\uff11\uff12\uff17.0.0.1",
    "localhost.",
]


@pytest.mark.parametrize("host", FORMS)
def test_loopback_is_denied_in_every_form(strict, origin, host):
    error = strict.one("http://%s:%d/ok" % (host, origin.port))["error"]
    assert error["type"] in ("destination_ip_prohibited", "url_invalid", "dns_error"), error
    if host in FORMS[:7]:
        assert error["type"] == "destination_ip_prohibited" and error["rule"], error
    assert not origin.seen and not origin.accepted


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "240.0.0.1",
        "[fc00::1]",
        "[fe80::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[fec0::1]",
        "[64:ff9b:1::1]",
    ],
)
def test_special_addresses_are_denied(strict, address):
    denied(strict, "http://%s/" % address)


METADATA = [
    "168.63.129.16",
    "169.254.169.254",
    "169.254.169.252",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.42.42",
    "169.254.0.23",
    "100.100.100.200",
    "192.0.0.192",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "[fd20:ce::254]",
    "[fd00:42::42]",
    "[fd00:c1::a9fe:a9fe]",
    "[fd00:100::100:200]",
    "[fd00:a9fe:a9fe::1]",
    "[fe80::a9fe:a9fe]",
]


@pytest.mark.parametrize("address", METADATA)
def test_metadata_is_denied(strict, address):
    assert "metadata" in denied(strict, "http://%s/latest/" % address)["rule"]


def test_metadata_stays_denied_under_a_wide_allow(spawn):
    daemon = spawn(
        "policy.default.allow=169.254.0.0/16",
        "policy.default.allow=fd00::/8",
        "policy.default.allow=fe80::/10",
        "policy.default.base=private",
    )
    for address in METADATA:
        assert "metadata" in denied(daemon, "http://%s/" % address)["rule"]


def test_the_denial_names_the_line_that_would_allow(strict, origin):
    error = denied(strict, "http://10.1.2.3:8080/")
    assert "10.1.2.3" in error["message"] and "allow" in error["message"]


def test_allow_opens_that_address(spawn, origin):
    daemon = spawn("policy.default.allow=127.0.0.1", loopback=False)
    assert daemon.one(origin.url("/size/1"))["ok"] is True
    denied(daemon, "http://127.0.0.2:%d/" % origin.port)
    denied(daemon, "http://[::1]:%d/" % origin.port)


def test_allow_with_a_port(spawn, origin):
    other = origin.listen()
    daemon = spawn("policy.default.allow=127.0.0.1:%d" % origin.port, loopback=False)
    assert daemon.one(origin.url("/size/1"))["ok"] is True
    denied(daemon, origin.url("/size/1", port=other))
    assert len(origin.seen) == 1 and origin.accepted == 1


def test_longest_prefix_wins_and_deny_wins_a_tie(spawn, origin):
    daemon = spawn(
        "policy.default.allow=127.0.0.0/8",
        "policy.default.deny=127.0.0.2",
        "policy.default.deny=127.1.0.0/16",
        "policy.default.allow=127.1.0.1",
        "policy.default.allow=127.3.0.1",
        "policy.default.deny=127.3.0.1",
        loopback=False,
    )
    port = origin.listen(host="0.0.0.0")
    for address, allowed in (
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("127.1.0.2", False),
        ("127.1.0.1", True),
        ("127.3.0.1", False),
        ("127.9.9.9", True),
    ):
        result = daemon.one(origin.url("/size/1", port=port, host=address))
        assert result["ok"] is allowed, (address, result["error"])
        if not allowed:
            assert result["error"]["rule"].startswith("deny"), result["error"]


def test_deny_of_a_public_address(spawn):
    daemon = spawn("policy.default.deny=192.0.3.0/24")
    assert "192.0.3.0/24" in denied(daemon, "http://192.0.3.7/")["rule"]


def test_private_base(spawn, origin):
    daemon = spawn("policy.default.base=private", loopback=False)
    denied(daemon, origin.url("/ok"))
    denied(daemon, "http://169.254.7.7/")


def test_private_base_allows_private(offline):
    daemon = offline("policy.default.base=private")
    for address in ("10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "[fd00::1]"):
        assert daemon.one("http://%s:9/" % address)["error"]["type"] == "destination_ip_unroutable"
    denied(daemon, "http://127.0.0.1:9/")


def test_own_listener_is_a_loop(gatherd):
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        error = denied(
            gatherd, "http://%s:%d/-/healthy" % (host, gatherd.port), "proxy_loop_detected"
        )
        assert "own" in error["rule"]


def test_own_listener_by_every_local_address(spawn, tmp_path):
    token = tmp_path / "tokens"
    token.write_text("me:secret-token-0123456789\n")
    token.chmod(0o600)
    daemon = spawn(
        "policy.default.base=private",
        "policy.default.allow=127.0.0.0/8",
        "policy.default.allow=::1",
        "listener.default.token_file=%s" % token,
        bind="0.0.0.0:0",
    )
    reply = daemon.request(
        "POST",
        "/v1/batch",
        json.dumps(["http://127.%d.0.1:%d/" % (n, daemon.port) for n in range(3)]).encode(),
        {"Content-Type": "application/json", "Authorization": "Bearer secret-token-0123456789"},
    )
    doc = contract.check(reply.body)
    assert [r["error"]["type"] for r in doc["results"]] == ["proxy_loop_detected"] * 3


def test_names_are_judged_by_their_addresses(strict, origin, dns):
    dns.add("inside.policy.test", a=["127.0.0.1"])
    dns.add("mixed.policy.test", a=["10.0.0.1", "192.168.0.1"])
    dns.add("six.policy.test", aaaa=["::1", "fd00::1"])
    dns.add("mapped.policy.test", aaaa=["::ffff:127.0.0.1", "64:ff9b::7f00:1"])
    dns.add("meta.policy.test", a=["169.254.169.254"])
    for name in ("inside", "mixed", "six", "mapped", "meta"):
        denied(strict, "http://%s.policy.test:%d/" % (name, origin.port))
    assert not origin.accepted and dns.count("inside.policy.test") >= 1


def test_rebinding(gatherd, origin, dns):
    """Each answer is judged when it is used: a name that flips inside is denied then."""
    dns.add("flip.policy.test", turns=[["127.0.0.1"], ["10.0.0.1"]], ttl=0)
    states = [
        gatherd.one(
            {"url": "http://flip.policy.test:%d/size/1" % origin.port, "fresh_connection": True}
        )["state"]
        for _ in range(6)
    ]
    assert set(states) <= {"done", "denied"} and states[0] == "done"
    assert len(origin.seen) == states.count("done")


def unescaped(text):
    """The vectors' \\xNN back to bytes, as far as JSON can carry them."""
    return re.sub(r"\\x([0-9A-Fa-f]{2})", lambda m: chr(int(m.group(1), 16)), text)


def rows(*path):
    """The rows of a table of the test data; skips where it is absent."""
    name = proc.testdata(*path)
    if name is None:
        pytest.skip("no test data: " + "/".join(path))
    with open(name, encoding="utf-8", errors="replace", newline="\n") as file:
        return [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]


def is_global(address):
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def test_url_vectors(offline):
    """Every URL that others use to reach inside: what libcurl would have dialled is denied, or
    already the URL is refused."""
    daemon = offline()
    table = rows("ssrf_url_vectors.tsv")
    assert len(table) > 1000
    urls = [unescaped(row[5]) for row in table]
    doc = contract.loads(
        daemon.post([{"url": u, "timeout_ms": 2000, "max_redirects": 0} for u in urls]).body
    )
    wrong = []
    for row, result in zip(table, doc["results"]):
        contract.check_result(result, result["index"])
        inside = [a.split("|")[0] for a in row[4].split(",") if "|" in a]
        inside = [a for a in inside if not is_global(a)]
        allowed = result["error"]["type"] not in (
            "destination_ip_prohibited",
            "http_request_denied",
            "url_invalid",
            "dns_error",
        )
        if result["state"] == "done" or (inside and allowed):
            wrong.append((row, result["error"]))
    assert not wrong, wrong[:10]


def test_address_vectors(offline):
    """The IANA registries: what is denied is denied, what is allowed is attempted (and fails here)."""
    daemon = offline()
    wanted = {row[0]: row[1] for row in rows("iana", "address_vectors.tsv")}
    assert len(wanted) == 388
    doc = daemon.batch(["http://%s:9/" % ("[%s]" % a if ":" in a else a) for a in wanted])
    wrong = []
    for (address, verdict), result in zip(wanted.items(), doc["results"]):
        kind = result["error"]["type"]
        if (
            kind
            not in {
                "deny": ["destination_ip_prohibited"],
                "allow": [
                    "destination_ip_unroutable",
                    "connection_refused",
                    "destination_unavailable",
                ],
            }[verdict]
        ):
            wrong.append((address, verdict, kind))
    assert not wrong, wrong
