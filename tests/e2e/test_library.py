# SPDX-License-Identifier: MIT
"""The test library by itself: an origin that lies about what it does would make every test lie."""
import http.client
import json
import socket
import ssl
import struct
import zlib

import pytest

from lib import contract, dns as dns_module, hostile, proc, script

pytestmark = pytest.mark.library


def fetch(origin, path, method="GET", body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path, status, body",
    [
        ("/ok", 200, b"ok\n"),
        ("/size/10", 200, b"abcdefghij"),
        ("/chunked/10", 200, b"abcdefghij"),
        ("/delay/10/size/3", 200, b"abc"),
        ("/status/503/size/2", 503, b"ab"),
        ("/status/204", 204, b""),
        ("/drip/4/1", 200, b"abcd"),
        ("/http10/size/4", 200, b"abcd"),
        ("/close-after/size/5", 200, b"abcde"),
        ("/trailers/3/size/2", 200, b"ab"),
    ],
)
def test_scripts(origin, path, status, body):
    assert fetch(origin, path)[::2] == (status, body)
    assert origin.paths()[path] == 1


@pytest.mark.parametrize("coding, wbits", [("gzip", 31), ("deflate", 15), ("raw-deflate", -15)])
def test_codings(origin, coding, wbits):
    status, headers, body = fetch(origin, "/%s/size/100000" % coding)
    assert status == 200 and zlib.decompress(body, wbits) == script.pattern(100000)
    assert ("Content-Encoding", coding.replace("raw-", "")) in headers


def test_redirects(origin):
    headers = dict(fetch(origin, "/redirect/2/to/size/3")[1])
    assert headers["Location"] == "/redirect/1/to/size/3?code=302"
    assert dict(fetch(origin, headers["Location"])[1])["Location"] == "/size/3"
    assert (
        dict(fetch(origin, "/redirect/1/to/http%3A%2F%2Fa.test%2Fb")[1])["Location"]
        == "http://a.test/b"
    )


def test_counts_and_echo(origin):
    echo = json.loads(fetch(origin, "/echo?x=1", "POST", b"hello", {"X-A": "b"})[2])
    assert echo["method"] == "POST" and echo["path"] == "/echo?x=1" and echo["body"] == "aGVsbG8="
    assert ["X-A", "b"] in echo["headers"]
    assert origin.seen[0].body == b"hello" and origin.seen[0].header("x-a") == ["b"]
    assert origin.accepted == 1


def test_unknown_paths_are_remembered(origin):
    assert fetch(origin, "/sizes/3")[0] == 404
    assert origin.unknown == ["/sizes/3"]
    origin.unknown.clear()


def test_reset_is_a_reset(origin):
    with socket.create_connection(("127.0.0.1", origin.port)) as sock:
        sock.sendall(b"GET /reset/after/5 HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        with pytest.raises(ConnectionResetError):
            while True:
                part = sock.recv(1000)
                assert part, "FIN, not RST"
                data += part
        assert data.endswith(b"\r\n\r\nabcde")


def test_gate(origin):
    with socket.create_connection(("127.0.0.1", origin.port)) as sock:
        sock.sendall(b"GET /gate/a/size/2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert origin.wait(lambda: origin.paths()["/gate/a/size/2"] == 1)
        origin.release("a")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")
    assert origin.wait(lambda: not origin.open)
    assert origin.connections[0].fin_at is not None


@pytest.mark.parametrize("name", sorted(hostile.WEIRD))
def test_hostile_replies_play(origin, name):
    """Each reply of the catalogue sends something, or ends, at once."""
    with socket.create_connection(("127.0.0.1", origin.port), timeout=5) as sock:
        sock.sendall(b"GET /weird/%s HTTP/1.1\r\nHost: x\r\n\r\n" % name.encode())
        data = sock.recv(100)
        assert data or name == "empty"
        assert not data.startswith(b"HTTP/1.1 404")


def test_tls_and_refusing_ports(origin, tls_origin, authority, refused):
    context = ssl.create_default_context(cafile=authority.ca_file)
    with socket.create_connection(("127.0.0.1", tls_origin.port())) as sock:
        with context.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
            tls.sendall(b"GET /size/2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert tls.recv(1000).startswith(b"HTTP/1.1 200")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", refused))


def test_blackhole_drops(blackhole):
    with pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", blackhole), timeout=0.3)


def ask(dns, name, qtype=dns_module.A):
    query = (
        struct.pack(">6H", 7, 0x100, 1, 0, 0, 0)
        + dns_module.encode_name(name)
        + struct.pack(">2H", qtype, 1)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.sendto(query, ("127.0.0.1", dns.port))
        answer = sock.recv(4096)
    flags, _, count = struct.unpack(">3H", answer[2:8])
    return flags & 15, count, bool(flags & 0x200), answer


def test_dns(dns):
    dns.add("one.test", a=["127.0.0.1"], aaaa=["::1"])
    dns.add("many.test", a=["10.0.0.%d" % i for i in range(200)])
    dns.add("loop.test", cname="loop.test")
    dns.add("bad.test", rcode=dns_module.SERVFAIL)
    dns.add("flip.test", turns=[["1.1.1.1"], ["2.2.2.2"]])
    assert ask(dns, "one.test")[:2] == (0, 1) and ask(dns, "one.test", dns_module.AAAA)[:2] == (
        0,
        1,
    )
    assert ask(dns, "many.test")[1:3] == (0, True)
    assert ask(dns, "loop.test")[1] == 8
    assert ask(dns, "bad.test")[0] == dns_module.SERVFAIL
    assert ask(dns, "none.test")[0] == dns_module.NXDOMAIN
    assert ask(dns, "flip.test")[3].endswith(b"\1\1\1\1") and ask(dns, "flip.test")[3].endswith(
        b"\2\2\2\2"
    )
    assert dns.count("one.test") == 2 and dns.count("one.test", "AAAA") == 1


def test_contract_refuses_what_does_not_add_up():
    timings = dict.fromkeys(contract.PHASES)
    result = {
        "timings_ms": dict(timings, queue=1, wait=2, total=3),
        "total_ms": 2,
        "started_at": "2026-01-01T00:00:00.000000Z",
        "start_offset_ms": 0,
        "ttfb_ms": 2,
    }
    contract.check_timings(result)
    for change in (
        {"total_ms": 3},
        {"ttfb_ms": 3},
        {"timings_ms": dict(timings, queue=1, wait=2, total=4)},
    ):
        with pytest.raises(AssertionError):
            contract.check_timings(dict(result, **change))


def test_parse_reply():
    reply = proc.parse_reply(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    )
    assert (reply.status, reply.body) == (200, b"ok")
