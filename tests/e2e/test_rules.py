# SPDX-License-Identifier: MIT
"""The rules of a policy end to end, on an island (lib/island.py) where a public upstream can be had:
ports, names, redirects from outside to inside, a policy that only reports, and gatherd's own
listeners by every address. What was dialled is what the origin accepted."""
import json
import subprocess
import urllib.parse

import pytest

from lib import contract, island, proc

PUBLIC, OTHER_PUBLIC, PRIVATE, OTHER_PRIVATE = "93.184.215.14", "151.101.1.6", "10.1.1.1", "192.168.7.7"
TOKEN = "secret-token-0123456789"


@pytest.fixture(scope="module")
def land():
    if not island.available():
        pytest.skip("no user and network namespaces (unshare -rn)")
    with island.Island(PUBLIC, OTHER_PUBLIC, PRIVATE, OTHER_PRIVATE) as one:
        one.names(
            {
                "www.public.test": {"a": [PUBLIC]},
                "wiki.corp.test": {"a": [PRIVATE]},
                "a.b.corp.test": {"a": [OTHER_PRIVATE]},
                "corp.test": {"a": [PRIVATE]},
                "local.corp.test": {"a": ["127.0.0.1"]},
                "evil.test": {"a": [PUBLIC]},
                "sub.evil.test": {"a": [PUBLIC]},
                "alias.test": {"cname": "evil.test"},
            }
        )
        yield one


@pytest.fixture
def on_land(land, tmp_path):
    land.reset()
    started = []

    def start(*options, bind=""):
        path = "unix:%s" % (tmp_path / ("s%d" % len(started)))
        daemon = proc.Gatherd(
            "fetch.dns_servers=" + land.dns, *options, bind=(path + " " + bind).strip(),
            wrapper=land.enter, by_unix=True,
        )
        started.append(daemon)
        return daemon

    yield start
    try:
        for daemon in started:
            daemon.stop()
    finally:
        for daemon in started:
            daemon.kill()


def url(host, path="/size/1", port=island.PORT):
    return "http://%s:%d%s" % (host, port, path)


def redirect(host, target, hops=1):
    return url(host, "/redirect/%d/to/%s" % (hops, urllib.parse.quote(target, safe="")))


def rule_of(result):
    return result["error"]["rule"] if result["error"] else None


def expect(daemon, land, cases):
    """Each (member, the beginning of the rule that denies it or None): the origin has what was
    allowed, and no connection for what was not."""
    for member, rule in cases:
        before = len(land.targets())
        result = daemon.one(member)
        asked = len(land.targets()) - before
        if rule is None:
            assert result["ok"], (member, result["error"])
            continue
        assert result["state"] == "denied", (member, result)
        assert result["error"]["rule"].startswith(rule), (member, result["error"])
        assert result["error"]["message"] and not result["retryable"]
        assert asked == result["num_redirects"], (member, land.targets()[before:])


def test_ports(on_land, land):
    daemon = on_land("policy.default.ports=80 443 %d" % island.PORT)
    expect(daemon, land, [(url(PUBLIC), None), (url("www.public.test"), None),
                          (url(PUBLIC, port=22), "ports = "), (url("www.public.test", port=22), "ports = "),
                          (redirect(PUBLIC, "http://%s:25/" % OTHER_PUBLIC), "ports = ")])
    result = daemon.one(url(PUBLIC, port=22))
    assert result["error"]["type"] == "http_request_denied" and "allow = " in result["error"]["message"]
    closed = on_land("policy.default.ports=443", "policy.default.allow=%s:%d" % (PRIVATE, island.PORT))
    expect(closed, land, [(url(PRIVATE), None), (url("wiki.corp.test"), None), (url(PUBLIC), "ports = ")])


def test_allow_host(on_land, land):
    daemon = on_land("policy.default.allow_host=*.corp.test -> 10.0.0.0/8",
                     "policy.default.allow_host=a.b.corp.test. -> 192.168.0.0/16:%d" % island.PORT)
    expect(daemon, land, [
        (url("wiki.corp.test"), None), (url("WIKI.corp.test."), None), (url("a.b.corp.test"), None),
        (url("corp.test"), "public: 10.0.0.0/8"), (url(PRIVATE), "public: 10.0.0.0/8"),
        (url("local.corp.test"), "public: 127.0.0.0/8"), (url("www.public.test"), None),
        (redirect(PUBLIC, url("wiki.corp.test")), None),  # an allow line names the target
        (redirect(PUBLIC, url(PRIVATE)), "public: 10.0.0.0/8"),
    ])


def test_a_warm_connection_is_not_another_name_s(on_land, land):
    """The address is open by the name only: a kept connection to it serves no other name."""
    daemon = on_land("policy.default.allow_host=wiki.corp.test -> 10.0.0.0/8")
    for _ in range(3):
        expect(daemon, land, [(url("wiki.corp.test"), None), (url("corp.test"), "public: 10.0.0.0/8"),
                              (url(PRIVATE), "public: 10.0.0.0/8")])


def test_deny_host(on_land, land):
    daemon = on_land("policy.default.deny_host=*.evil.test evil.test")
    expect(daemon, land, [
        (url("evil.test"), "deny_host evil.test"), (url("EVIL.test."), "deny_host evil.test"),
        (url("sub.evil.test"), "deny_host *.evil.test"), (url("www.public.test"), None),
        (redirect(PUBLIC, url("sub.evil.test")), "deny_host *.evil.test"),
        (url("alias.test"), None),  # the name in the URL is judged
    ])
    assert daemon.one(url("evil.test"))["error"]["type"] == "http_request_denied"
    closed = on_land("policy.default.deny_host=*", "policy.default.allow_host=www.public.test -> " + PUBLIC)
    expect(closed, land, [(url("www.public.test"), None), (url("evil.test"), "deny_host *"),
                          (url(PUBLIC), "deny_host *")])


def test_a_redirect_never_widens(on_land, land):
    """With base = private: what the client may name itself, an upstream may not lead to."""
    daemon = on_land("policy.default.base=private")
    expect(daemon, land, [
        (url(PRIVATE), None), (url("wiki.corp.test"), None),
        (redirect(PUBLIC, url(PRIVATE)), "redirects = same-class: 10.0.0.0/8"),
        (redirect("www.public.test", url("wiki.corp.test")), "redirects = same-class: 10.0.0.0/8"),
        (redirect(PUBLIC, url("[::ffff:10.1.1.1]")), "redirects = same-class: 10.0.0.0/8"),
        (redirect(PUBLIC, url(OTHER_PUBLIC)), None),
        (redirect(PRIVATE, url(OTHER_PRIVATE)), None),
        (redirect(PRIVATE, url(PUBLIC)), None),
        # inside, outside, and in again
        (redirect(PRIVATE, redirect(PUBLIC, url(PRIVATE))), "redirects = same-class"),
        (redirect(PUBLIC, url("127.0.0.1")), "private: 127.0.0.0/8"),
    ])
    # a warm private connection changes nothing
    assert daemon.one(url(PRIVATE))["num_connects"] == 0
    expect(daemon, land, [(redirect(PUBLIC, url(PRIVATE)), "redirects = same-class")])


def test_a_redirect_to_what_an_allow_line_names(on_land, land):
    daemon = on_land("policy.default.base=private", "policy.default.allow=" + PRIVATE)
    expect(daemon, land, [
        (redirect(PUBLIC, url(PRIVATE)), None),
        (redirect(PUBLIC, url(OTHER_PRIVATE)), "redirects = same-class"),
        # through the named one to the rest of the network
        (redirect(PUBLIC, redirect(PRIVATE, url(OTHER_PRIVATE))), "redirects = same-class"),
    ])


def test_redirects_none_and_any(on_land, land):
    none = on_land("policy.default.redirects=none")
    expect(none, land, [(url(PUBLIC), None),
                        (redirect(PUBLIC, url(OTHER_PUBLIC)), "redirects = none"),
                        (redirect(PUBLIC, url(PUBLIC)), "redirects = none")])
    result = none.one({"url": redirect(PUBLIC, url(PUBLIC)), "max_redirects": 0})
    assert result["status"] == 302 and result["state"] == "done"
    every = on_land("policy.default.redirects=any", "policy.default.base=private")
    expect(every, land, [(redirect(PUBLIC, url(PRIVATE)), None),
                         (redirect(PUBLIC, url("127.0.0.1")), "private: 127.0.0.0/8")])


def test_unsafe_any_redirects(on_land, land):
    daemon = on_land("policy.default.base=unsafe-any")
    expect(daemon, land, [
        (url("127.0.0.1"), None), (url(PRIVATE), None),
        (redirect("127.0.0.1", url("127.0.0.2")), None),
        (redirect(PUBLIC, url("127.0.0.1")), "redirects = same-class: 127.0.0.0/8 loopback"),
        (redirect(PUBLIC, url(PRIVATE)), "redirects = same-class"),
        (redirect(PRIVATE, url("127.0.0.1")), "redirects = same-class"),
        ("http://169.254.169.254/", "metadata"),
    ])


def test_the_line_that_a_denial_names_opens(on_land, land):
    """Each denial's own advice, taken, lets the same member pass."""
    for options, member in (
        ((), url(PRIVATE)),
        ((), url("wiki.corp.test")),
        (("policy.default.ports=1",), url(PUBLIC)),
        (("policy.default.ports=1",), url(PRIVATE)),
        (("policy.default.base=private",), redirect(PUBLIC, url(PRIVATE))),
    ):
        denied = on_land(*options).one(member)
        assert denied["state"] == "denied"
        line = denied["error"]["message"].split("`")[-2]
        key, _, value = line.partition(" = ")
        opened = on_land(*options, "policy.default.%s=%s" % (key, value))
        assert opened.one(member)["ok"], line


def test_mode_report(on_land, land):
    daemon = on_land("policy.default.mode=report", "policy.default.deny_host=evil.test",
                     "policy.default.deny=" + OTHER_PUBLIC, "policy.default.redirects=none")
    name = "gatherd_policy_reported_total"
    assert daemon.metrics()[name] == 0
    for count, (member, rule) in enumerate([
        (url(PRIVATE), "public: 10.0.0.0/8 private-use"),
        (url("wiki.corp.test"), "public: 10.0.0.0/8 private-use"),
        (url("evil.test"), "deny_host evil.test"),
        (url(OTHER_PUBLIC), "deny " + OTHER_PUBLIC),
        (redirect(PUBLIC, url(PUBLIC)), "redirects = none"),
    ]):
        assert daemon.one(member)["ok"]
        daemon.wait_log('would_deny="%s"' % rule)
        assert daemon.metrics()[name] == count + 1
    assert daemon.one(url(PUBLIC))["ok"] and daemon.metrics()[name] == 5
    expect(daemon, land, [("http://169.254.169.254/", "metadata"), ("http://[fd00:ec2::254]/", "metadata")])
    daemon.wait_log("mode=report: it denies own listeners, metadata")


# --- own listeners ---


FORMS = ["127.0.0.1", "127.1.2.3", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]",
         "localhost", PUBLIC, PRIVATE, "[::ffff:%s]" % PRIVATE, "wiki.corp.test", "0", "2130706433"]


@pytest.mark.parametrize("bind", ["0.0.0.0", "[::]"])
def test_own_listener_by_every_address(on_land, land, tmp_path, bind):
    token = tmp_path / "tokens"
    token.write_text("me:%s\n" % TOKEN)
    token.chmod(0o600)
    port = 4999 + (bind == "[::]")
    daemon = on_land("policy.default.base=unsafe-any", "policy.default.allow=0.0.0.0/0 ::/0",
                     "policy.default.mode=report",  # nothing else would deny, and this does not help
                     "listener.default.token_file=%s" % token, bind="%s:%d" % (bind, port))
    headers = {"Authorization": "Bearer " + TOKEN}
    members = ["http://%s:%d/" % (host, port) for host in FORMS]
    members += [redirect(PUBLIC, m) for m in members]
    doc = contract.check(daemon.post(members, headers=headers).body)
    kinds = {r["url"]: r["error"] and r["error"]["type"] for r in doc["results"]}
    assert set(kinds.values()) == {"proxy_loop_detected"}, kinds
    assert "own-listener" in doc["results"][0]["error"]["rule"]
    # what the machine gets now: an address alone, one with a network around it, a second one in that
    # network, and what is nobody's address there but leads here all the same
    later = {"0.0.0.0": ("10.9.9.9", "10.5.0.1", "10.5.0.2", "10.5.0.77"),
             "[::]": ("fd00:9::9", "fd00:5::1", "fd00:5::2")}[bind]
    for address, bits in zip(later, (None, *[24 if bind == "0.0.0.0" else 64] * 2)):
        land.address(address, bits)
    for address in later:
        host = "[%s]" % address if ":" in address else address
        for mapped in (host, "[::ffff:%s]" % host) if bind == "0.0.0.0" else (host,):
            url = "http://%s:%d/-/healthy" % (mapped, port)
            result = contract.check(daemon.post([url], headers=headers).body)["results"][0]
            assert result["error"] and result["error"]["type"] == "proxy_loop_detected", result
            assert result["error"]["phase"] == "connect" and result["error"]["sent"] is False


def test_no_policy_without_a_line_is_changed_by_dump(tmp_path):
    """-T of every key is read again as it is."""
    text = (
        "[policy default]\nports = 80 8000-8999\nallow_host = *.corp.test -> 10.0.0.0/8 [fd00::/8]:443\n"
        "allow_host = x.test -> 10.0.0.1\ndeny_host = *.evil.test\nredirects = any\nmode = report\n"
        "[limits]\nper_client_rate = 7/m\nper_client_batches = 3\nper_client_members = 9\n"
        "[listener default]\nbind = unix:/nowhere\ngroup = 0\npeers = 0 1\n"
    )
    path = tmp_path / "a.conf"
    for _ in range(2):
        path.write_text(text)
        done = subprocess.run([proc.program(), "-c", str(path), "-T"], capture_output=True, text=True,
                              check=True)
        for line in ("allow_host = *.corp.test -> 10.0.0.0/8 [fd00::/8]:443", "ports = 80 8000-8999",
                     "allow_host = x.test -> 10.0.0.1", "per_client_rate = 7/m", "peers = 0 1"):
            assert line in done.stdout.splitlines(), (line, done.stdout)
        text = done.stdout
    assert json.dumps(text)
