# SPDX-License-Identifier: MIT
"""The policy against an independent reading of the registries: this one takes them from IANA's CSV and
the embeddings from their RFCs, in another language and another way (dictionaries of prefixes), and
compares verdicts of addresses drawn at random: anywhere, at the edges of every block, and IPv4 inside
IPv6 in every form, also one form within another."""
import csv
import os
import random
import re
import socket
import struct
import subprocess

import pytest

from lib import proc

METADATA = ("168.63.129.16 169.254.169.254 169.254.169.252 169.254.170.2 169.254.170.23 169.254.42.42"
            " 169.254.0.23 100.100.100.200 192.0.0.192 fd00:ec2::/32 fd20:ce::254 fd00:42::42"
            " fd00:c1::a9fe:a9fe fd00:100::100:200 fd00:a9fe:a9fe::1 fe80::a9fe:a9fe").split()
PRIVATE = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7".split()
EMBEDDINGS = "64:ff9b::/96 64:ff9b:1::/48 2002::/16 2001::/32 ::/96 ::ffff:0:0:0/96".split()


def number(text):
    """(family, integer)."""
    if ":" in text:
        high, low = struct.unpack(">QQ", socket.inet_pton(socket.AF_INET6, text))
        return 6, high << 64 | low
    return 4, struct.unpack(">I", socket.inet_aton(text))[0]


def text_of(family, value):
    if family == 4:
        return socket.inet_ntoa(struct.pack(">I", value))
    packed = struct.pack(">QQ", value >> 64, value & (1 << 64) - 1)
    return socket.inet_ntop(socket.AF_INET6, packed)


class Blocks:
    """Prefixes with a value; the longest that holds an address speaks."""

    def __init__(self):
        self.by_length = {4: {}, 6: {}}

    def add(self, prefix, value):
        address, _, bits = prefix.partition("/")
        family, start = number(address)
        width = 32 if family == 4 else 128
        shift = width - int(bits or width)
        self.by_length[family].setdefault(shift, {})[start >> shift] = value

    def find(self, family, value, default=None):
        for shift, table in self.shifts[family]:
            found = table.get(value >> shift)
            if found is not None:
                return found
        return default

    def finish(self):
        self.shifts = {f: sorted(t.items()) for f, t in self.by_length.items()}
        return self

    def edges(self):
        for family, tables in self.by_length.items():
            for shift, table in tables.items():
                for start in table:
                    yield family, start << shift, (start + 1 << shift) - 1


def registry():
    """Whether globally reachable: the word True in the column, and nothing else."""
    blocks = Blocks()
    for version in (4, 6):
        name = proc.testdata("iana", "iana-ipv%d-special-registry-1.csv" % version)
        if name is None:
            pytest.skip("no test data: iana")
        with open(name, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for prefix in re.findall(r"[0-9a-fA-F:.]+/\d+", row["Address Block"]):
                    blocks.add(prefix, row["Globally Reachable"].strip().startswith("True"))
    blocks.add("224.0.0.0/4", False)
    return blocks.finish()


def v4_inside(value):
    """What an IPv6 address embeds. None: it is nothing but that one (v4-mapped)."""
    low32, top = value & 0xFFFFFFFF, value >> 96
    if value >> 32 == 0xFFFF:
        return None, [low32]
    if value >> 80 == 0x0064FF9B0001:  # RFC 8215: whatever prefix it was divided by
        squeezed = value >> 64 << 56 | value & (1 << 56) - 1  # RFC 6052: without octet 8
        found = [squeezed >> 88 - bits & 0xFFFFFFFF for bits in (48, 56, 64)] + [low32]
        return value, [v4 for v4 in found if v4 >> 24] or [low32]  # 0.0.0.0/8 is nowhere
    if top == 0x20010000:  # Teredo, RFC 4380
        return value, [value >> 64 & 0xFFFFFFFF, ~value & 0xFFFFFFFF]
    found = []
    if value >> 112 == 0x2002:  # 6to4, RFC 3056
        found.append(value >> 80 & 0xFFFFFFFF)
    whole = value >> 32
    if (
        (whole == 0 and value > 1)  # v4-compatible
        or whole == 0xFFFF0000  # SIIT, RFC 2765
        or whole == 0x0064FF9B << 64  # NAT64, RFC 6052
    ):
        found.append(low32)
    elif value >> 32 & 0xFDFFFFFF == 0x00005EFE:  # ISATAP, RFC 5214: u and g bits
        found.append(low32)
    return value, found


def home_of(family, value):
    """[address] to which Linux takes a connection to 0.0.0.0 and ::, else []."""
    if family == 6 and value >> 32 == 0xFFFF:
        family, value = 4, value & 0xFFFFFFFF
    return [] if value else [(4, 0x7F000001) if family == 4 else (6, 1)]


class Oracle:
    def __init__(self, base, allow):
        self.registry, self.base = registry(), base
        self.private, self.allow = Blocks(), Blocks()
        for prefix in PRIVATE:
            self.private.add(prefix, True)
        for prefix in allow:
            self.allow.add(prefix, True)
        self.private.finish()
        self.allow.finish()
        self.metadata = Blocks()
        for m in METADATA:
            self.metadata.add(m, True)
        self.metadata.finish()

    def one(self, family, value):
        """Alone, without what it embeds."""
        if self.metadata.find(family, value):
            return False
        if self.allow.find(family, value):
            return True
        if self.base == "unsafe-any":
            return True
        if family == 6 and value >> 125 != 1:
            public = False
        else:
            public = self.registry.find(family, value, True)
        return public or (self.base == "private" and bool(self.private.find(family, value)))

    def verdict(self, family, value):
        home = all(self.one(*address) for address in home_of(family, value))
        if family == 4:
            return home and self.one(4, value)
        outer, inside = v4_inside(value)
        return home and (outer is None or self.one(6, value)) and all(self.one(4, v) for v in inside)


class Draw:
    """Addresses where mistakes would show."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.edges = list(registry().edges())
        metadata = Blocks()
        for m in METADATA:
            metadata.add(m, True)
        self.edges += metadata.edges()
        self.four = [e for e in self.edges if e[0] == 4]

    def near(self, edges):
        _, first, last = self.random.choice(edges)
        r = self.random
        return r.choice((first, last, first - 1, last + 1, r.randint(first, last),
                         first + r.randrange(4), last - r.randrange(4)))

    def v4(self):
        if self.random.random() < 0.4:
            return self.random.getrandbits(32)
        return self.near(self.four) & 0xFFFFFFFF

    def v6(self):
        """Anywhere in 2000::/3, anywhere at all, or near a block."""
        r = self.random
        kind = r.randrange(3)
        if kind == 0:
            return 1 << 125 | r.getrandbits(125)
        if kind == 1:
            return r.getrandbits(128)
        return self.near([e for e in self.edges if e[0] == 6]) & (1 << 128) - 1

    def embedding(self):
        r, v4 = self.random, self.v4()
        kind = r.randrange(11)
        if kind == 10:  # NAT64 of one's own, by a prefix of 56 or 64 bits
            bits = r.choice((56, 64))
            squeezed = 0x0064FF9B0001 << 72 | v4 << 88 - bits | r.choice((0, r.getrandbits(88 - bits)))
            squeezed |= r.choice((0, r.getrandbits(bits - 48))) << 120 - bits
            octet_8 = r.choice((0, 0, r.getrandbits(8)))
            return squeezed >> 56 << 64 | octet_8 << 56 | squeezed & (1 << 56) - 1
        if kind == 0:
            return 0xFFFF << 32 | v4
        if kind == 1:
            return v4
        if kind == 2:
            return 0xFFFF << 48 | v4
        if kind == 3:
            return 0x64FF9B << 96 | v4
        if kind == 4:  # as a /48
            rest = r.choice((0, r.getrandbits(40)))
            return 0x0064FF9B0001 << 80 | v4 >> 16 << 64 | (v4 & 0xFFFF) << 40 | rest & (1 << 40) - 1
        if kind == 5:  # as a /96
            return 0x0064FF9B0001 << 80 | r.choice((0, r.getrandbits(48))) << 32 | v4
        if kind == 6:
            return 0x2002 << 112 | v4 << 80 | r.choice((0, 1, r.getrandbits(80)))
        if kind == 7:
            return 0x20010000 << 96 | self.v4() << 64 | r.getrandbits(32) << 32 | v4 ^ 0xFFFFFFFF
        isatap = r.choice((0x00005EFE, 0x02005EFE, 0x01005EFE, 0x00005EFF)) << 32 | v4
        if kind == 8:
            return self.v6() >> 64 << 64 | isatap
        return 0x2002 << 112 | self.v4() << 80 | r.choice((0, r.getrandbits(16))) << 64 | isatap

    def address(self):
        kind = self.random.randrange(10)
        if kind < 3:
            return 4, self.v4()
        return 6, self.v6() if kind < 5 else self.embedding()


def tool():
    path = os.path.join(os.environ.get("top_builddir") or os.path.join(proc.ROOT, "build"),
                        "tests", "unit", "policy_verdicts")
    if not os.access(path, os.X_OK):
        pytest.skip("not built: tests/unit/policy_verdicts")
    return path


CASES = [("public", []), ("public", EMBEDDINGS), ("private", []), ("private", EMBEDDINGS),
         ("unsafe-any", [])]


@pytest.mark.parametrize("base, allow", CASES)
def test_verdicts(base, allow, record_property):
    """100,000 addresses, or 10 million, over all cases."""
    each = proc.form(20000, 2000000)
    oracle, draw = Oracle(base, allow), Draw(base + " ".join(allow))
    wrong, allowed = [], 0
    for begin in range(0, each, 100000):
        drawn = [draw.address() for _ in range(min(100000, each - begin))]
        asked = [text_of(*a) for a in drawn]
        done = subprocess.run([tool(), base, *allow], input="\n".join(asked) + "\n",
                              capture_output=True, text=True, check=True)
        said = done.stdout.split()
        assert len(said) == len(drawn)
        for address, text, letter in zip(drawn, asked, said):
            expected = oracle.verdict(*address)
            allowed += expected
            if letter != ("A" if expected else "D"):
                wrong.append((text, letter, expected))
    record_property("compared", each)
    record_property("allowed", allowed)
    assert not wrong, (len(wrong), wrong[:20])
    assert each / 10 < allowed < each  # both kinds were there


PORTS = (80, 443, 8080)


def draw_line(draw):
    """(is deny, family, start, bits, low port, high port or None, text)."""
    r = draw.random
    family, value = draw.address()
    width = 32 if family == 4 else 128
    bits = r.choice((width, r.randint(0, width), r.choice((0, 1, 8, 16, 24, 32, 48, 64, 96))))
    bits = min(bits, width)
    start = value >> width - bits << width - bits
    text = "%s/%d" % (text_of(family, start), bits)
    low = high = None
    if r.random() < 0.4:
        low = r.choice(PORTS)
        high = r.choice((low, 65535))
        text = ("[%s]:%d-%d" if family == 6 else "%s:%d-%d") % (text, low, high)
    if family == 6 and bits >= 96 and start >> 32 == 0xFFFF:  # a v4-mapped line is an IPv4 one
        family, start, bits = 4, start & 0xFFFFFFFF, bits - 96
    return r.random() < 0.4, family, start, bits, low, high, text


class Lines(Oracle):
    """With allow and deny lines, by going through all of them."""

    def __init__(self, base, lines):
        super().__init__(base, [])
        self.lines = lines

    def line(self, family, value, port):
        """(bits, has a port, denies) of the one that decides, or None."""
        width = 32 if family == 4 else 128
        found = [
            (bits, low is not None, deny)
            for deny, of, start, bits, low, high, _ in self.lines
            if of == family
            and value >> width - bits == start >> width - bits
            and (low is None or low <= port <= high)
        ]
        return max(found, default=None)

    def judge(self, family, value, port):
        best = self.line(family, value, port)
        if best and best[2]:
            return False
        if self.metadata.find(family, value):
            return bool(best) and best[0] == (32 if family == 4 else 128)
        return bool(best) or self.one(family, value)

    def verdict_at(self, family, value, port):
        home = all(self.judge(*address, port) for address in home_of(family, value))
        if family == 4:
            return home and self.judge(4, value, port)
        outer, inside = v4_inside(value)
        best = self.line(6, value, port)
        ok = not (best and best[2]) if outer is None else self.judge(6, value, port)
        return home and ok and all(self.judge(4, v, port) for v in inside)


def draw_within(draw, lines):
    """An address that a line holds, or any; IPv4 also in one of its dresses."""
    family, value = draw.address()
    if draw.random.random() < 0.6:
        _, family, start, bits, _, _, _ = draw.random.choice(lines)
        width = 32 if family == 4 else 128
        value = start | draw.random.getrandbits(width) & (1 << width - bits) - 1
    if family == 4 and draw.random.random() < 0.3:
        return 6, draw.random.choice((0xFFFF << 32, 0x64FF9B << 96, 0)) | value
    return family, value


def test_verdicts_with_lines(record_property):
    """Random lines, and addresses within them and elsewhere: 20,000, or 1 million."""
    policies, each = proc.form((100, 200), (2000, 500))
    draw, wrong, allowed = Draw("lines"), [], 0
    for _ in range(policies):
        base = draw.random.choice(("public", "private", "unsafe-any"))
        lines = [draw_line(draw) for _ in range(draw.random.randint(1, 12))]
        oracle = Lines(base, lines)
        drawn = [(*draw_within(draw, lines), draw.random.choice(PORTS)) for _ in range(each)]
        arguments = [("-" if line[0] else "") + line[-1] for line in lines]
        done = subprocess.run(
            [tool(), base, *arguments],
            input="".join("%s %d\n" % (text_of(f, v), p) for f, v, p in drawn),
            capture_output=True,
            text=True,
            check=True,
        )
        for (f, v, p), letter in zip(drawn, done.stdout.split()):
            expected = oracle.verdict_at(f, v, p)
            allowed += expected
            if letter != ("A" if expected else "D"):
                wrong.append((base, arguments, text_of(f, v), p, letter))
    record_property("compared", policies * each)
    assert not wrong, (len(wrong), wrong[:5])
    assert policies * each / 10 < allowed < policies * each


def test_the_oracle_itself():
    """It agrees with the vectors that were derived from the same registries by others."""
    name = proc.testdata("iana", "address_vectors.tsv")
    if name is None:
        pytest.skip("no test data: iana")
    oracle = Oracle("public", [])
    with open(name, encoding="utf-8") as file:
        table = [line.split("\t") for line in file if not line.startswith("#")]
    assert len(table) == 388
    wrong = [r for r in table if oracle.verdict(*number(r[0])) != (r[1] == "allow")]
    assert not wrong, wrong
