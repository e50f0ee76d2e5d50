# SPDX-License-Identifier: MIT
"""No connect(2) to a denied address, seen from outside: gatherd runs under strace, on an island where
every address may be dialled, while all denial vectors are asked for as literals, as DNS answers and as
targets of redirects. What it dialled is read from the trace afterwards."""
import collections
import ipaddress
import os
import re
import subprocess
import time
import urllib.parse

import pytest

from lib import contract, island, proc

PUBLIC = "93.184.215.14"
ORIGIN = "http://%s:%d" % (PUBLIC, island.PORT)
INET = re.compile(
    r"sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?"
    r"(?:inet_addr\(\"([^\"]+)\"\)|inet_pton\(AF_INET6, \"([^\"]+)\")"
)


def rows(*path):
    name = proc.testdata(*path)
    if name is None:
        pytest.skip("no test data: " + "/".join(path))
    with open(name, encoding="utf-8", errors="replace", newline="\n") as file:
        return [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]


def bracketed(address):
    return "[%s]" % address if ":" in address else address


class Traced:
    """gatherd under strace; after stop() `dialled` counts (address, port) of every connect(2) and of
    every message sent to an address, but for the name server and the origin."""

    def __init__(self, land, path, *options):
        self.land, self.file = land, str(path / "trace")
        wrapper = [
            "strace",
            "-D",
            "-f",
            "-e",
            "trace=connect,sendto,sendmsg,sendmmsg",
            "-e",
            "signal=none",
            "-o",
            self.file,
            *land.enter,
        ]
        self.daemon = proc.Gatherd(
            "fetch.dns_servers=" + land.dns,
            *options,
            bind="unix:%s" % (path / "gatherd"),
            wrapper=wrapper,
            # the leak checker cannot work beside a tracer
            env={"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"},
        )
        self.dialled = None

    def stop(self):
        self.daemon.stop()
        deadline = time.monotonic() + 30
        ended = "%d +++ exited with 0 +++" % self.daemon.pid
        text = ""
        while ended not in re.sub(r" +", " ", text):
            assert time.monotonic() < deadline, "strace does not end: " + text[-500:]
            time.sleep(0.02)
            with open(self.file, encoding="utf-8", errors="replace") as file:
                text = file.read()
        excepted = {self.land.dns, "%s:%d" % (PUBLIC, island.PORT)}
        self.dialled = collections.Counter()
        self.all = 0
        for port, four, six in INET.findall(text):
            address = ipaddress.ip_address(four or six)
            self.all += 1
            if "%s:%s" % (address, port) not in excepted:
                self.dialled[(str(address), int(port))] += 1


@pytest.fixture(scope="module")
def land():
    if not island.available():
        pytest.skip("no user and network namespaces (unshare -rn)")
    with island.Island(PUBLIC) as one:
        yield one


@pytest.fixture
def traced(land, tmp_path):
    if subprocess.run(
        ["strace", "-D", "-o", "/dev/null", "true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("no strace, or ptrace is not permitted")
    started = []

    def start(*options):
        started.append(Traced(land, tmp_path, *options))
        return started[-1]

    yield start
    for one in started:
        one.daemon.kill()


def vectors():
    table = rows("iana", "address_vectors.tsv")
    deny = [row[0] for row in table if row[1] == "deny"]
    allow = [row[0] for row in table if row[1] == "allow"]
    assert (len(deny), len(allow)) == (290, 98)
    return deny, allow


def redirected(url):
    return "%s/redirect/1/to/%s" % (ORIGIN, urllib.parse.quote(url, safe=""))


def run(daemon, urls, **fields):
    """The results of a batch; each is well-formed."""
    doc = daemon.batch([dict(fields, url=url) for url in urls], deadline_ms=80000)
    return doc["results"]


def test_no_connect_to_a_denied_address(traced, land, record_property):
    deny, allow = vectors()
    land.names(
        {
            "v%d.forbidden.test" % i: {"aaaa" if ":" in a else "a": [a]}
            for i, a in enumerate(deny + allow)
        }
    )
    one = traced()
    names = ["http://v%d.forbidden.test:9/" % i for i in range(len(deny))]
    literals = ["http://%s:9/" % bracketed(a) for a in deny]
    good = ["http://%s:9/" % bracketed(a) for a in allow]
    good_names = ["http://v%d.forbidden.test:9/" % (len(deny) + i) for i in range(len(allow))]
    for urls in (literals, names, [redirected(u) for u in literals], [redirected(u) for u in names]):
        results = run(one.daemon, urls)
        assert {r["error"]["type"] for r in results} == {"destination_ip_prohibited"}
        assert all(r["error"]["rule"] and r["remote_ip"] is None for r in results)
    for urls in (good, good_names, [redirected(u) for u in good]):
        for r in run(one.daemon, urls):
            assert r["error"]["type"] in (
                "destination_ip_unroutable",
                "destination_unavailable",
                "connection_refused",
            ), r
    one.stop()
    denied = {str(ipaddress.ip_address(a)) for a in deny}
    leaked = [who for who in one.dialled if who[0] in denied]
    attempted = {a for a in allow if one.dialled[(str(ipaddress.ip_address(a)), 9)] >= 3}
    record_property("forbidden", len(leaked))
    record_property("attempted", "%d/%d" % (len(attempted), len(allow)))
    assert not leaked
    assert len(attempted) == len(allow), set(allow) - attempted
    assert len(one.dialled) == len(allow)


def unescaped(text):
    return re.sub(r"\\x([0-9A-Fa-f]{2})", lambda m: chr(int(m.group(1), 16)), text)


def is_public(text):
    """By the registries' CSV, most specific row first; 2000::/3 only; nothing embedded."""
    ip = ipaddress.ip_address(text)
    best = None
    for net, reachable in registry(ip.version):
        if ip in net and (best is None or net.prefixlen > best[0]):
            best = (net.prefixlen, reachable)
    if ip.version == 6 and ip not in ipaddress.ip_network("2000::/3"):
        return False
    if ip.version == 4 and ip in ipaddress.ip_network("224.0.0.0/4"):
        return False
    return best is None or best[1]


def registry(version, cache={}):
    if version not in cache:
        import csv

        name = proc.testdata("iana", "iana-ipv%d-special-registry-1.csv" % version)
        with open(name, encoding="utf-8", newline="") as file:
            table = []
            for row in csv.DictReader(file):
                for block in re.findall(r"[0-9a-fA-F:.]+/\d+", row["Address Block"]):
                    table.append((ipaddress.ip_network(block), "True" in row["Globally Reachable"]))
        cache[version] = table
    return cache[version]


def test_url_vectors_dial_nothing_denied(traced, record_property):
    """Every URL that others use to reach inside, asked for and redirected to."""
    table = rows("ssrf_url_vectors.tsv")
    assert len(table) > 1000
    urls = [unescaped(row[5]) for row in table]
    one = traced()
    for asked in (urls, [redirected(u) for u in urls]):
        reply = one.daemon.post({"requests": [{"url": u, "timeout_ms": 5000} for u in asked]})
        doc = contract.loads(reply.body)
        assert len(doc["results"]) == len(asked)
        for result in doc["results"]:
            contract.check_result(result, result["index"])
            # a Location may be a path, which is the origin's again
            assert result["state"] != "done" or result["remote_ip"] == PUBLIC, result
    one.stop()
    leaked = [who for who in one.dialled if not is_public(who[0])]
    record_property("forbidden", len(leaked))
    record_property("dialled", len(one.dialled))
    assert not leaked, leaked[:10]
    assert one.dialled  # some are public: the trace is not empty


def test_mixed_answers_dial_the_allowed_only(traced, land):
    """A name with a public and a private address: the public one alone is dialled."""
    deny, _ = vectors()
    four = [a for a in deny if ":" not in a]
    land.names({"m%d.mixed.test" % i: {"a": [a, PUBLIC], "aaaa": []} for i, a in enumerate(four)})
    one = traced()
    urls = ["http://m%d.mixed.test:%d/size/1" % (i, island.PORT) for i in range(len(four))]
    results = run(one.daemon, urls)
    one.stop()
    assert all(r["ok"] and r["remote_ip"] == PUBLIC for r in results)
    assert not one.dialled, one.dialled
