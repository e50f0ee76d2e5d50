# SPDX-License-Identifier: MIT
"""A network of its own for a test: loopback, addresses of every kind, the scripted origin on all of
them and the scripted name server, with no way out of it.

    with Island("93.184.215.14", "10.1.1.1") as island:
        daemon = proc.Gatherd("fetch.dns_servers=" + island.dns, bind="unix:...", wrapper=island.enter)
        island.name("a.test", a=["10.1.1.1"])
        island.accepted()     connections that the origin has had

So a public upstream can be had that sends on to a private one, and a test may let gatherd dial every
address there is: what leads out fails as unroutable at once. The island is a process in a user and a
network namespace (unshare -rn), which takes its orders as lines of JSON; others join it by nsenter.
"""
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PORT = 8080
SIOCSIFADDR, SIOCSIFFLAGS, SIOCGIFFLAGS = 0x8916, 0x8914, 0x8913
SIOCSIFNETMASK = 0x891C
IFF_UP = 1


def available():
    """Whether this user may make namespaces here."""
    command = ["unshare", "-rn", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Island:
    def __init__(self, *addresses):
        self.process = subprocess.Popen(
            ["unshare", "-rn", sys.executable, os.path.abspath(__file__), *addresses],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.dns = json.loads(self.process.stdout.readline())["dns"]
        self.enter = (
            "nsenter",
            "--preserve-credentials",
            "-U",
            "-n",
            "-t",
            str(self.process.pid),
        )

    def _ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def name(self, name, **what):
        self._ask(do="name", name=name, what=what)

    def names(self, table):
        """{name: arguments of dns.Server.add()}."""
        self._ask(do="names", table=table)

    def address(self, address, bits=None):
        """The machine gets another address: alone, or (bits) with a network around it, which is all of
        it local, as it is on lo."""
        self._ask(do="address", address=address, bits=bits)

    def accepted(self):
        return self._ask(do="accepted")

    def targets(self):
        """What the origin was asked for, in order: [host field, target]."""
        return self._ask(do="targets")

    def reset(self):
        self._ask(do="reset")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


# inside


def request(name, rest):
    return name.encode().ljust(16, b"\0") + rest


def address_request(name, address):
    packed = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
    return request(name, packed)


def up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        flags = struct.unpack("=h", fcntl.ioctl(sock, SIOCGIFFLAGS, request("lo", bytes(16)))[16:18])
        fcntl.ioctl(sock, SIOCSIFFLAGS, request("lo", struct.pack("=h14x", flags[0] | IFF_UP)))


def give(number, address, bits=None):
    """An alias of lo: a single address, and no route to its neighbours; or with a network around it."""
    if ":" in address:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            packed = socket.inet_pton(socket.AF_INET6, address)
            index = socket.if_nametoindex("lo")
            fcntl.ioctl(sock, SIOCSIFADDR, struct.pack("=16sIi", packed, bits or 128, index))
        return
    name = "lo:%d" % number
    mask = socket.inet_ntoa(struct.pack(">I", 0xFFFFFFFF << 32 - (bits or 32) & 0xFFFFFFFF))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFADDR, address_request(name, address))
        fcntl.ioctl(sock, SIOCSIFNETMASK, address_request(name, mask))


def main(addresses):
    sys.path.insert(0, os.path.dirname(HERE))
    from lib import dns, origin

    up()
    for number, address in enumerate(addresses):
        give(number, address)
    count = len(addresses)
    with origin.Origin() as server, dns.Server() as names:
        server.listen("http", None, "0.0.0.0", PORT)
        print(json.dumps({"dns": names.address}), flush=True)
        for line in sys.stdin:
            order, answer = json.loads(line), None
            if order["do"] == "name":
                names.add(order["name"], **order["what"])
            elif order["do"] == "names":
                for name, what in order["table"].items():
                    names.add(name, **what)
            elif order["do"] == "address":
                give(count, order["address"], order["bits"])
                count += 1
            elif order["do"] == "accepted":
                answer = server.accepted
            elif order["do"] == "targets":
                answer = [[seen.header("Host"), seen.target] for seen in server.seen]
            elif order["do"] == "reset":
                server.reset()
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
