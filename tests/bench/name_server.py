#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A name server for workload (i): every name is 127.0.0.1 and has no IPv6 address; one that begins
with "dead" gets no answer at all. UDP on a free port of 127.0.0.1, which it prints.

tests/lib/dns.py can do much more, at twice the time for each query.
"""
import socket
import struct

A = 1
# pointer to the question, type A, class IN, 60 s, 4 bytes
ANSWER = b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 60, 4) + b"\x7f\0\0\1"


def reply(query):
    """The answer to one query of one question, or None for silence."""
    end = query.index(0, 12) + 5
    if query[13:17].lower() == b"dead":
        return None
    found = query[end - 4 : end - 2] == b"\0\1"
    head = query[:2] + struct.pack(">5H", 0x8580, 1, int(found), 0, 0)
    return head + query[12:end] + (ANSWER if found else b"")


def main():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("127.0.0.1", 0))
    print(sock.getsockname()[1], flush=True)
    while True:
        query, peer = sock.recvfrom(4096)
        answer = reply(query)
        if answer is not None:
            sock.sendto(answer, peer)


main()
