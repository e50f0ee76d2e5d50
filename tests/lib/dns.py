# SPDX-License-Identifier: MIT
"""A name server for tests: UDP and TCP on one port of 127.0.0.1, answers scripted by name.

    dns.add("one.test", a=["127.0.0.1"], ttl=60)
    dns.add("slow.test", a=["127.0.0.1"], delay=0.3)
    dns.add("bad.test", rcode=SERVFAIL);  dns.add("dead.test", silent=True)
    dns.add("loop.test", cname="loop.test");  dns.add("flip.test", turns=[["1.1.1.1"], ["127.0.0.1"]])

A name that nobody added is NXDOMAIN. `queries` lists (name, type, transport) in order. Answers of
more than 512 bytes over UDP are cut with TC set, unless the query brought an EDNS size.
"""
import ipaddress
import socket
import struct
import threading
import time

A, CNAME, SOA, AAAA, OPT = 1, 5, 6, 28, 41
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, REFUSED = 0, 1, 2, 3, 5
TYPES = {A: "A", AAAA: "AAAA", CNAME: "CNAME"}


class Entry:
    """What one name says. `turns` gives another set of addresses for each query of type A; `once`: only the
    first query of each type is answered late, as by a server that then has the answer; `hangs_up`: says
    that the answer is too long for UDP, and over TCP closes the connection."""

    def __init__(
        self,
        a=(),
        aaaa=(),
        ttl=60,
        rcode=NOERROR,
        silent=False,
        delay=0.0,
        cname=None,
        turns=None,
        raw=None,
        once=False,
        hangs_up=False,
    ):
        self.a, self.aaaa, self.ttl, self.rcode = list(a), list(aaaa), ttl, rcode
        self.silent, self.delay, self.cname, self.turns, self.raw = silent, delay, cname, turns, raw
        self.once, self.hangs_up = once, hangs_up
        self.asked, self.known = 0, set()

    def delay_of(self, qtype):
        if self.once and qtype in self.known:
            return 0
        self.known.add(qtype)
        return self.delay

    def addresses(self, qtype):
        if qtype == AAAA:
            return self.aaaa
        if self.turns is None:
            return self.a
        self.asked += 1
        return self.turns[(self.asked - 1) % len(self.turns)]


def encode_name(name):
    out = b""
    for label in name.rstrip(".").split("."):
        out += bytes([len(label)]) + label.encode("latin-1")
    return out + b"\0"


def record(name, rtype, ttl, data):
    return encode_name(name) + struct.pack(">HHIH", rtype, 1, ttl, len(data)) + data


class Server:
    def __init__(self):
        self.entries, self.queries = {}, []
        self.condition = threading.Condition()
        self.running = True
        self.udp, self.tcp = self._bind()
        self.port = self.udp.getsockname()[1]
        self.address = "127.0.0.1:%d" % self.port

    @staticmethod
    def _bind():
        for _ in range(50):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            udp.bind(("127.0.0.1", 0))
            tcp = socket.socket()
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                udp.close()
                tcp.close()
                continue
            tcp.listen(64)
            return udp, tcp
        raise OSError("no port is free for UDP and TCP")

    def start(self):
        for target in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=target, name="dns", daemon=True).start()
        return self

    def stop(self):
        self.running = False
        self.tcp.shutdown(socket.SHUT_RDWR)
        self.tcp.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", ("127.0.0.1", self.port))

    def __enter__(self):
        return self.start()

    def __exit__(self, *_exc):
        self.stop()

    # script
    def add(self, name, **what):
        self.entries[name.lower().rstrip(".")] = Entry(**what)

    def reset(self):
        self.entries.clear()
        self.queries = []

    def count(self, name=None, qtype=None):
        """How many queries there were, of one name and one type ("A") where given."""
        return sum(
            1
            for n, t, _ in list(self.queries)
            if (name is None or n == name) and (qtype is None or t == qtype)
        )

    def wait(self, predicate, timeout=10.0):
        with self.condition:
            self.condition.wait_for(predicate, timeout)
        return predicate()

    # service
    def _serve_udp(self):
        while True:
            try:
                query, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            if not self.running:
                self.udp.close()
                return
            answer, delay = self._answer(query, "udp")
            if answer is None:
                continue
            if delay:
                threading.Timer(delay, self._send, (answer, peer)).start()
            else:
                self._send(answer, peer)

    def _send(self, answer, peer):
        try:
            self.udp.sendto(answer, peer)
        except OSError:
            pass

    def _serve_tcp(self):
        while self.running:
            try:
                client, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_stream, args=(client,), daemon=True).start()

    def _serve_stream(self, client):
        with client, client.makefile("rb") as file:
            while True:
                size = file.read(2)
                if len(size) < 2:
                    return
                answer, delay = self._answer(file.read(struct.unpack(">H", size)[0]), "tcp")
                time.sleep(delay)
                if answer == b"":
                    return
                if answer is not None:
                    client.sendall(struct.pack(">H", len(answer)) + answer)

    def _answer(self, query, transport):
        """(answer or None for silence, seconds to wait before it)."""
        if len(query) < 17:
            return None, 0
        name, qtype, end = self._question(query)
        entry = self.entries.get(name)
        with self.condition:
            self.queries.append((name, TYPES.get(qtype, str(qtype)), transport))
            self.condition.notify_all()
        if entry is None:
            return self._reply(query, end, NXDOMAIN, []), 0
        if entry.silent:
            return None, 0
        if entry.raw is not None:
            return query[:2] + entry.raw, entry.delay
        if entry.hangs_up and transport == "tcp":
            return b"", 0
        answer = self._reply(query, end, entry.rcode, self._records(name, qtype))
        limit = 65535 if transport == "tcp" else self._udp_limit(query, end)
        if len(answer) > limit or entry.hangs_up:
            answer = self._reply(query, end, entry.rcode, [], truncated=True)
        return answer, entry.delay_of(qtype)

    @staticmethod
    def _question(query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1").lower())
            at += 1 + query[at]
        return ".".join(labels), struct.unpack(">H", query[at + 1 : at + 3])[0], at + 5

    @staticmethod
    def _udp_limit(query, end):
        if struct.unpack(">H", query[10:12])[0] and len(query) >= end + 5 and query[end] == 0:
            return max(512, struct.unpack(">H", query[end + 3 : end + 5])[0])
        return 512

    def _records(self, name, qtype):
        """The chain of CNAMEs, at most eight, and the addresses at its end."""
        records = []
        for _ in range(8):
            entry = self.entries.get(name)
            if entry is None:
                break
            if entry.cname is not None:
                records.append(record(name, CNAME, entry.ttl, encode_name(entry.cname)))
                name = entry.cname
                continue
            if qtype in (A, AAAA):
                records += [
                    record(name, qtype, entry.ttl, ipaddress.ip_address(x).packed)
                    for x in entry.addresses(qtype)
                ]
            break
        return records

    @staticmethod
    def _reply(query, end, rcode, records, truncated=False):
        flags = 0x8580 | (0x0200 if truncated else 0) | rcode
        authority = b""
        if not records and not truncated:
            data = (
                encode_name("ns.test")
                + encode_name("root.test")
                + struct.pack(">5I", 1, 60, 60, 60, 1)
            )
            authority = record("test", SOA, 1, data)
        header = query[:2] + struct.pack(">5H", flags, 1, len(records), 1 if authority else 0, 0)
        return header + query[12:end] + b"".join(records) + authority
