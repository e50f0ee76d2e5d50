# SPDX-License-Identifier: MIT
"""What was allowed a moment ago, or is allowed to somebody else, opens nothing: warm connections of
another policy, policies that a reload changes, names whose addresses change."""
import json
import re
import threading
import time

import pytest

from lib import contract, proc


class Listeners:
    """One daemon with a listener for each policy; `ask` goes to one of them."""

    def __init__(self, tmp_path, base_options, policies):
        self.path = tmp_path / "gatherd.conf"
        self.names = list(policies)
        self.write(policies)
        self.daemon = proc.Gatherd(
            *base_options, args=["-c", str(self.path)], bind="127.0.0.1:0"
        )
        deadline = time.monotonic() + 10
        while len(self.ports()) < len(self.names):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def write(self, policies):
        text = ""
        for name, lines in policies.items():
            if name != "default":
                text += "[listener %s]\nbind = 127.0.0.1:0\npolicy = %s\n" % (name, name)
            text += "[policy %s]\n%s\n" % (name, "\n".join(lines))
        self.path.write_text(text)

    def ports(self):
        """{listener: port}, as the log says them."""
        found = {}
        for line in list(self.daemon.lines):
            match = proc.LISTENING.search(line)
            if match and "listener=" in line:
                found[line.rsplit("listener=", 1)[1].strip()] = int(match[1].rsplit(":", 1)[1])
        return found

    def ask(self, name, members):
        daemon = self.daemon
        first, daemon.port = daemon.port, self.ports()[name]
        try:
            return contract.check(daemon.post(members).body)["results"]
        finally:
            daemon.port = first


@pytest.fixture
def listeners(tmp_path, base_options):
    started = []

    def start(**policies):
        started.append(Listeners(tmp_path, base_options, policies))
        # all of its listeners are its own
        started[-1].daemon.addresses = ["127.0.0.1:%d" % p for p in started[-1].ports().values()]
        return started[-1]

    yield start
    try:
        for one in started:
            one.daemon.stop()
    finally:
        for one in started:
            one.daemon.kill()


def test_warm_connections_stay_with_their_policy(listeners, origin, dns, record_property):
    """200 pairs: warm under a policy that allows it, then asked for under one that does not."""
    pairs = 50
    daemon = listeners(
        default=["allow = 127.0.0.1"],
        closed=[],
        denied=["allow = 127.0.0.0/8", "deny = 127.0.0.1"],
        hosts=["allow = 127.0.0.1", "deny_host = *.pair.test"],
        ports=["allow = 127.0.0.1", "ports = 1"],
        same=["allow = 127.0.0.1"],
    )
    for i in range(pairs):
        dns.add("n%d.pair.test" % i, a=["127.0.0.1"])
    urls = ["http://n%d.pair.test:%d/size/1" % (i, origin.port) for i in range(pairs)]
    warm = daemon.ask("default", urls)
    assert all(r["ok"] and r["num_connects"] == 1 for r in warm)
    again = daemon.ask("default", urls)
    assert all(r["ok"] and r["num_connects"] == 0 for r in again)
    seen, leaks = len(origin.seen), 0
    for policy in ("closed", "denied", "hosts", "ports"):
        for result in daemon.ask(policy, urls):
            leaks += result["state"] != "denied" or result["remote_ip"] is not None
    record_property("leaks", "%d of %d" % (leaks, 4 * pairs))
    assert leaks == 0 and len(origin.seen) == seen and origin.accepted == pairs
    # another policy that allows it has connections of its own
    assert all(r["ok"] and r["num_connects"] == 1 for r in daemon.ask("same", urls))


def reload_until(daemon, ask, wanted):
    """Reloads and asks until the answer is as the new configuration has it; after that it stays so.
    What was asked before the reload was taken is judged by the old one, which is right."""
    daemon.daemon.signal(1)
    deadline = time.monotonic() + 10 * proc.scale()
    while True:
        result = ask()
        if wanted(result):
            return result
        assert time.monotonic() < deadline, result
        time.sleep(0.002)


def connections_to(daemon, port):
    """How many the daemon has open to a port of 127.0.0.1."""
    ends = "0100007F:%04X" % port
    with open("/proc/%d/net/tcp" % daemon.pid, encoding="ascii") as file:
        lines = [line.split() for line in file]
    return sum(fields[2] == ends and fields[3] == "01" for fields in lines)


def test_idle_connections_of_before_a_reload_are_closed_beside_running_ones(listeners, origin):
    """What still runs under the old rules keeps its own connection, and no other."""
    daemon = listeners(default=["allow = 127.0.0.1 127.0.0.2"])
    other = origin.listen("http", None, "127.0.0.2")
    slow = "http://127.0.0.2:%d/never" % other
    assert all(r["ok"] for r in daemon.ask("default", [origin.url("/delay/100/size/1")] * 6))
    assert connections_to(daemon.daemon, origin.port) == 6
    ended = []
    member = {"url": slow, "timeout_ms": 7000 * proc.scale()}
    thread = threading.Thread(target=lambda: ended.append(daemon.daemon.post([member], timeout=60)))
    thread.start()
    try:
        assert origin.wait(lambda: any(seen.path == "/never" for seen in origin.seen))
        daemon.write({"default": ["allow = 127.0.0.1 127.0.0.2", "deny = 127.0.0.1"]})
        daemon.daemon.signal(1)
        daemon.daemon.wait_log("reloaded", 10 * proc.scale())
        deadline = time.monotonic() + 6 * proc.scale()
        while connections_to(daemon.daemon, origin.port) > 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not ended
    finally:
        thread.join(60)
    result = contract.check(ended[0].body)["results"][0]
    assert result["error"]["type"] == "http_response_timeout"


def test_policy_flips_by_reload(listeners, origin, record_property):
    """100 reloads, each of which closes or opens the policy: no connection of before is used, and the
    one of a policy that stays the same is kept."""
    flips = proc.form(20, 100)
    opened = ["allow = 127.0.0.1"]
    daemon = listeners(default=opened, steady=opened)
    url = origin.url("/size/1")
    assert daemon.ask("default", [url])[0]["ok"] and daemon.ask("steady", [url])[0]["ok"]
    leaks = 0
    for flip in range(flips):
        is_open = flip % 2 == 1
        # of three kinds of change only the first closes it; the others renew it
        daemon.write({"default": opened + ["deny = 10.0.%d.0/24" % flip] if is_open else [],
                      "steady": opened})
        result = reload_until(
            daemon, lambda: daemon.ask("default", [url])[0],
            lambda r: (r["state"] == "done") == is_open,
        )
        if is_open:
            leaks += result["num_connects"] != 1
        else:
            after = len(origin.seen)
            leaks += any(r["state"] == "done" for r in daemon.ask("default", [url] * 3))
            leaks += len(origin.seen) - after
        steady = daemon.ask("steady", [url])[0]
        leaks += not steady["ok"] or steady["num_connects"] != 0
    record_property("leaks", "%d of %d" % (leaks, flips))
    assert leaks == 0


def test_reload_renews_a_policy_whose_rules_changed(listeners, origin):
    """A change that leaves the address allowed: the connection made before it is closed all the same,
    while what runs on one goes on to its end."""
    daemon = listeners(default=["allow = 127.0.0.1"])
    url = origin.url("/size/1")
    assert daemon.ask("default", [url])[0]["num_connects"] == 1
    assert daemon.ask("default", [url])[0]["num_connects"] == 0
    daemon.write({"default": ["allow = 127.0.0.1"]})  # the same: kept
    for _ in range(5):
        daemon.daemon.signal(1)
        time.sleep(0.02)
        assert daemon.ask("default", [url])[0]["num_connects"] == 0
    held = []
    thread = threading.Thread(target=lambda: held.extend(daemon.ask("default", [origin.url("/gate/g/size/1")])))
    thread.start()
    assert origin.wait(lambda: origin.requests("/gate"))
    daemon.write({"default": ["allow = 127.0.0.1", "ports = %d" % origin.port]})
    reload_until(daemon, lambda: daemon.ask("default", [url])[0], lambda r: r["num_connects"] == 1)
    origin.release("g")
    thread.join()
    assert held[0]["ok"]
    assert origin.wait(lambda: len(origin.open) <= 1)  # the old ones are closed


@pytest.mark.parametrize("host", ["127.0.0.1", "later.removed.test"])
def test_a_policy_that_a_reload_removes(listeners, origin, dns, host):
    """What runs on a connection of it goes on; what waits, by address or by name, is denied in words that
    say so. Under the same name and lines it comes back with connections of its own."""
    daemon = listeners(default=[], lax=["allow = 127.0.0.1", "mode = report"])
    daemon.daemon.allow_log = [re.compile("mode=report")]
    with_it = daemon.path.read_text()
    dns.add("later.removed.test", a=["127.0.0.1"])
    later = ["http://%s:%d/size/1" % (host, origin.port)] * 10
    assert all(r["ok"] for r in daemon.ask("lax", later))  # connections to be reused
    held = []
    body = {"concurrency": 1, "requests": [later[0].replace("/size", "/gate/g/size"), *later]}
    thread = threading.Thread(target=lambda: held.extend(daemon.ask("lax", body)))
    thread.start()
    assert origin.wait(lambda: origin.requests("/gate"))
    daemon.path.write_text("[listener lax]\nbind = 127.0.0.1:0\npolicy = default\n[policy default]\n")
    reload_until(daemon, lambda: daemon.ask("lax", later[:1])[0], lambda r: r["state"] == "denied")
    seen = len(origin.seen)
    origin.release("g")
    thread.join()
    assert held[0]["ok"] and len(held) == 1 + len(later)
    for result in held[1:]:
        assert result["state"] == "denied" and result["remote_ip"] is None, result
        assert result["error"]["rule"] == "removed policy lax", result
        assert "reload has taken [policy lax] away" in result["error"]["message"], result
    assert len(origin.seen) == seen
    daemon.path.write_text(with_it)
    back = reload_until(daemon, lambda: daemon.ask("lax", later[:1])[0], lambda r: r["ok"])
    assert back["num_connects"] == 1


def test_more_names_than_pools(listeners, origin):
    """A reload with a policy that there is no room for is refused whole: the listener does not go on
    with another policy than the file says."""
    daemon = listeners(default=["allow = 127.0.0.1"])
    daemon.daemon.allow_log = [re.compile("names of policies since the start|not reloaded")]
    url = origin.url("/size/1")
    for i in range(15):
        text = "[listener default]\npolicy = p%d\n[policy p%d]\nallow = 127.0.0.1\n" % (i, i)
        daemon.path.write_text(text + "ports = 1\n" if i % 2 else text)
        reload_until(daemon, lambda: daemon.ask("default", [url])[0],
                     lambda r: (r["state"] == "denied") == (i % 2 == 1))
    daemon.path.write_text("[listener default]\npolicy = more\n[policy more]\nports = 1\n")
    daemon.daemon.signal(1)
    daemon.daemon.wait_log("17 names of policies since the start")
    for _ in range(10):
        assert daemon.ask("default", [url])[0]["ok"]
    daemon.daemon.first = daemon.daemon.descriptors()  # each pool has some of its own


def test_names_that_turn_inside(gatherd, origin, dns, record_property):
    """1,000 names that are first an allowed address and from then on a forbidden one, with connections
    warm: once the name server has said so, nothing is fetched any more (until then the first answer
    may be remembered, a second at most)."""
    flips = proc.form(200, 1000)
    for i in range(flips):
        inside = ["10.0.0.1", "169.254.169.254", "192.168.0.1", "127.0.0.2"][i % 4]
        dns.add("f%d.flip.test" % i, turns=[["127.0.0.1"]] + [[inside]] * 50, ttl=0)
    urls = ["http://f%d.flip.test:%d/size/1" % (i, origin.port) for i in range(flips)]
    assert all(r["ok"] for r in gatherd.batch(urls, concurrency=200)["results"])
    leaks, left, deadline = 0, set(range(flips)), time.monotonic() + 20 * proc.scale()
    fresh = False
    while left:
        assert time.monotonic() < deadline, "%d names are not asked for again" % len(left)
        known = {i: dns.entries["f%d.flip.test" % i].asked > 1 for i in range(flips)}
        members = [{"url": u, "fresh_connection": fresh} for u in urls]
        for i, result in enumerate(gatherd.batch(members, concurrency=200)["results"]):
            leaks += known[i] and result["state"] != "denied"
            if result["state"] == "denied":
                left.discard(i)
        fresh = not fresh
    results = gatherd.batch(urls, concurrency=200)["results"]
    leaks += sum(r["state"] != "denied" for r in results)
    record_property("leaks", "%d of %d" % (leaks, flips))
    assert leaks == 0


# --- nothing from the environment ---

PROXIES = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"]


@pytest.mark.parametrize("names", proc.form([PROXIES], [PROXIES] + [[name] for name in PROXIES]))
def test_no_proxy_from_the_environment(spawn, origin, names):
    """The proxy would be another port of the origin's."""
    proxy = origin.listen()
    daemon = spawn(env={name: "http://user:pw@127.0.0.1:%d" % proxy for name in names})
    assert daemon.one(origin.url("/size/1"))["ok"]
    assert [s.port for s in origin.seen] == [origin.port]
    assert origin.seen[0].target == "/size/1"


def test_no_files_of_a_home(spawn, origin, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\ndefault login a password b\n")
    (tmp_path / ".curlrc").write_text('proxy = "http://127.0.0.1:1"\nheader = "X-Curlrc: 1"\n')
    (tmp_path / ".netrc").chmod(0o600)
    daemon = spawn(env={"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc"),
                        "CURL_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)})
    assert daemon.one(origin.url("/size/1"))["ok"]
    request = origin.seen[0]
    assert not request.header("Authorization") and not request.header("X-Curlrc")


def test_no_trust_from_the_environment(origin, tls_origin, dns_service, authority):
    """Our own authority is trusted when the configuration says so, not when the environment does."""
    names = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "SSL_CERT_DIR")
    with proc.Gatherd("policy.default.allow=127.0.0.1", "fetch.dns_servers=" + dns_service.address,
                      env={name: authority.ca_file for name in names}) as daemon:
        assert daemon.one(tls_origin.url())["error"]["type"] == "tls_certificate_error"


def test_no_resolver_options_from_the_environment(spawn, origin, dns):
    dns.add("plain.env.test", a=["127.0.0.1"])
    daemon = spawn(env={"LOCALDOMAIN": "env.test", "RES_OPTIONS": "ndots:15", "HOSTALIASES": "/etc/hosts"})
    assert daemon.one("http://plain:%d/size/1" % origin.port)["error"]["type"] == "dns_error"
    assert daemon.one("http://plain.env.test:%d/size/1" % origin.port)["ok"]


def test_no_key_log(spawn, origin, tls_origin, tmp_path):
    """SSLKEYLOGFILE would have libcurl write the session's secrets down."""
    log = tmp_path / "keys"
    daemon = spawn(env={"SSLKEYLOGFILE": str(log), "CURL_ENTROPY": "1"})
    assert daemon.one(tls_origin.url())["ok"]
    assert not log.exists()
    assert json.dumps(sorted(p.name for p in tmp_path.iterdir())) == "[]"


def test_insecure_by_reload(listeners, origin, tls_origin):
    """What went without a check of certificates ends with the line that allowed it, warm or not; what was
    checked goes on, and another policy's connections stay."""
    on, off = ["allow = 127.0.0.1", "insecure = yes"], ["allow = 127.0.0.1"]
    daemon = listeners(default=off, steady=on)
    bad = {"url": tls_origin.url("/size/1", "self-signed"), "insecure": True}
    good = tls_origin.url("/size/1")

    def ask(name, member):
        return daemon.ask(name, [member])[0]

    assert ask("steady", bad)["ok"]
    for flip in range(proc.form(6, 40)):
        wanted = flip % 2 == 0
        daemon.write({"default": on if wanted else off, "steady": on})
        result = reload_until(daemon, lambda: ask("default", bad), lambda r: r["ok"] == wanted)
        if wanted:
            assert result["num_connects"] == 1 and ask("default", bad)["num_connects"] == 0
        else:
            seen = len(origin.seen)
            result = ask("default", bad)
            assert result["state"] == "denied" and result["error"]["rule"] == "insecure = no"
            assert len(origin.seen) == seen
        assert ask("default", good)["ok"]
        assert ask("default", dict(bad, insecure=False))["error"]["type"] == "tls_certificate_error"
        steady = ask("steady", bad)
        assert steady["ok"] and steady["num_connects"] == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_insecure_that_waits_while_a_reload_forbids_it(listeners, origin, tls_origin, host):
    """Members in the queue, by address or by name, are denied when their turn comes; what runs goes on."""
    daemon = listeners(default=["allow = 127.0.0.1", "insecure = yes"])
    bad = tls_origin.url("/gate/g/size/1", "self-signed", host)
    later = bad.replace("/gate/g", "")
    body = {"concurrency": 1, "defaults": {"insecure": True}, "requests": [bad] + [later] * 10}
    held = []
    thread = threading.Thread(target=lambda: held.extend(daemon.ask("default", body)))
    thread.start()
    assert origin.wait(lambda: origin.requests("/gate"))
    daemon.write({"default": ["allow = 127.0.0.1"]})
    reload_until(
        daemon,
        lambda: daemon.ask("default", [{"url": later, "insecure": True}])[0],
        lambda r: r["state"] == "denied",
    )
    seen = len(origin.seen)
    origin.release("g")
    thread.join()
    assert held[0]["ok"] and len(held) == 11
    for result in held[1:]:
        assert result["state"] == "denied" and result["error"]["rule"] == "insecure = no", result
    assert len(origin.seen) == seen


def test_renewed_while_a_name_is_looked_up(listeners, origin, tls_origin, dns):
    """A member whose name is asked for when a reload renews its policy goes to a connection of the new
    rules; the old ones, which nothing ran on, are gone by then."""
    daemon = listeners(default=["allow = 127.0.0.1"])
    held = []
    for turn in range(3):
        host = "slow%d.flip.test" % turn
        dns.add(host, a=["127.0.0.1"], delay=0.5)
        url = tls_origin.url("/size/1", "names", host=host)
        thread = threading.Thread(target=lambda: held.extend(daemon.ask("default", [url])))
        thread.start()
        assert dns.wait(lambda: dns.count(host) > 0)
        daemon.write({"default": ["allow = 127.0.0.1", "deny = 10.0.%d.0/24" % turn]})
        daemon.daemon.signal(1)
        thread.join()
    # they are looked up and dialled: what the certificate is for is another matter
    assert [r["error"]["type"] for r in held] == ["tls_certificate_error"] * 3
