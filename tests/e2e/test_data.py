# SPDX-License-Identifier: MIT
"""Hostile inputs that others collected (see the README of the test data): JSON, raw HTTP from both
sides, strings, and every byte at every place. Skips where the data is absent."""
import base64
import concurrent.futures
import json
import os
import socket
import time

import pytest

from lib import contract, proc


def need(*parts):
    path = proc.testdata(*parts)
    if path is None:
        pytest.skip("no test data: " + "/".join(parts))
    return path


def load(*parts):
    with open(need(*parts), encoding="utf-8") as file:
        return json.load(file)


# JSON

REFUSED_ON_PURPOSE = {
    "y_object_duplicated_key.json",
    "y_object_duplicated_key_and_value.json",
    "y_object_escaped_null_in_key.json",
    "y_string_null_escape.json",
}


def suite():
    folder = need("jsontestsuite", "test_parsing")
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            yield name, file.read()


def test_json_suite_as_body(gatherd):
    for name, data in suite():
        reply = gatherd.post(data)
        if name.startswith("n_"):
            assert reply.status == 400, name
        assert reply.status in (200, 400), (name, reply)
        if reply.status == 400:
            contract.problem(reply)
            reply.body.decode("utf-8")


def test_json_suite_as_a_members_json(gatherd, origin):
    for name, data in suite():
        before = len(origin.seen)
        reply = gatherd.post(
            b'[{"url": "%s", "json": %s}]' % (origin.url("/size/1").encode(), data)
        )
        if name.startswith("n_") or name in REFUSED_ON_PURPOSE:
            assert reply.status == 400 and len(origin.seen) == before, name
        elif name.startswith("y_"):
            assert reply.status == 200 and len(origin.seen) == before + 1, (name, reply)
            if "number" not in name:
                assert json.loads(origin.seen[-1].body) == json.loads(data), name
        else:
            assert reply.status in (200, 400), name


# raw requests


def speak(daemon, pieces):
    """Sends the pieces as segments of their own, reads until gatherd closes."""
    with daemon.connect(15 * proc.scale()) as sock:
        got = b""
        try:
            for piece in pieces:
                sock.sendall(piece)
            return proc.read_all(sock)
        except (BrokenPipeError, ConnectionResetError):
            sock.settimeout(2)
            try:
                got = proc.read_all(sock)
            except OSError:
                pass
            return got
        except socket.timeout:
            return None


MODES = {
    "whole": lambda raw: [raw],
    "bytes": lambda raw: [raw[i : i + 1] for i in range(len(raw))],
    "lines": lambda raw: [part + b"\r\n" for part in raw.split(b"\r\n")],
}


@pytest.mark.parametrize("mode", sorted(MODES))
def test_raw_requests(spawn, mode):
    """Each ends with an error or an empty answer before the deadline; none is taken for a batch."""
    vectors = load("http1-requests", "llhttp.json")
    daemon = spawn(
        "listener.default.head_timeout=1s",
        "listener.default.body_timeout=1s",
        "listener.default.keep_alive=1s",
    )
    with concurrent.futures.ThreadPoolExecutor(len(vectors)) as pool:
        raws = [base64.b64decode(v["bytes_b64"]) for v in vectors]
        answers = list(pool.map(lambda raw: speak(daemon, MODES[mode](raw)), raws))
    for vector, got in zip(vectors, answers):
        assert got is not None, ("gatherd neither answers nor closes", vector["name"])
        assert got == b"" or got.startswith(b"HTTP/1."), (vector["name"], got[:100])
    values = daemon.metrics()
    assert values["gatherd_batches_total"] == 0 and daemon.get("/-/healthy").status == 200


# raw replies


def outcomes(gatherd, origin, replies, **more):
    """Plays each reply (closed after it) twice; the outcomes, which must be the same."""
    members = []
    for number, data in enumerate(replies):
        members.append(
            dict(
                more,
                url=origin.raw("r%d" % number, data, "fin")
                if data
                else origin.raw("r%d" % number, "fin"),
                timeout_ms=5000,
                max_redirects=0,
                fresh_connection=True,
            )
        )
    runs = []
    for _ in range(2):
        doc = gatherd.batch(
            members, include=["headers", "body", "text_length", "redirects", "curl"], concurrency=50
        )
        runs.append(
            [(r["state"], r["status"], r["error"] and r["error"]["type"]) for r in doc["results"]]
        )
    unstable = [(i, a, b) for i, (a, b) in enumerate(zip(*runs)) if a != b]
    assert not unstable, unstable
    return doc["results"]


def test_replies_from_curls_tests(gatherd, origin):
    index = load("upstream-replies", "index.json")
    replies, tests = [], []
    for test in index:
        for reply in test["replies"]:
            with open(need("upstream-replies", "replies", reply["file"]), "rb") as file:
                data = file.read()
            data = data.replace(b"%HOSTIP", b"127.0.0.1").replace(
                b"%HTTPPORT", str(origin.port).encode()
            )
            replies.append(data)
            tests.append(test["test"])
    results = outcomes(gatherd, origin, replies)
    assert len(results) > 500
    kinds = {r["error"]["type"] for r in results if r["error"]}
    assert kinds <= {
        "http_protocol_error",
        "http_response_incomplete",
        "http_response_content_coding",
        "connection_terminated",
        "http_response_header_section_size",
        "http_response_timeout",
    }, kinds
    assert sum(r["state"] == "done" for r in results) > len(results) / 2


def test_replies_from_llhttp(gatherd, origin):
    vectors = load("http1-responses", "llhttp.json")
    results = outcomes(gatherd, origin, [base64.b64decode(v["bytes_b64"]) for v in vectors])
    assert sum(r["state"] == "done" for r in results) > 20


def test_content_lengths(gatherd, origin):
    vectors = load("http1-responses", "wpt-content-lengths.json")
    replies = [
        b"HTTP/1.1 200 OK\r\n%s\r\n\r\n%s" % (v["input"].encode("latin-1"), b"a" * 100)
        for v in vectors
    ]
    for vector, result in zip(vectors, outcomes(gatherd, origin, replies)):
        if vector["input"] in ("Content-Length: 42", "Content-Length: 30"):
            assert result["size_delivered"] == vector["output"]


# strings


def test_naughty_strings(gatherd, origin):
    strings = [s for s in load("blns", "blns.json") if "\0" not in s]
    unique = sorted(s for s in set(strings) if len(s.encode()) <= 256)
    doc = gatherd.batch([{"url": origin.url("/size/1"), "id": s} for s in unique])
    assert [r["id"] for r in doc["results"]] == unique
    doc = gatherd.batch(
        [
            {"url": s, "timeout_ms": 500, "connect_timeout_ms": 300, "max_redirects": 0}
            for s in strings
        ]
    )
    assert doc["counts"]["ok"] == 0 and doc["counts"]["done"] == 0


def test_naughty_strings_as_headers(gatherd, origin):
    for value in load("blns", "blns.json"):
        before = len(origin.seen)
        reply = gatherd.post([{"url": origin.url("/size/1"), "headers": {"X-Value": value}}])
        assert reply.status in (200, 400), value
        sent = origin.seen[before:]
        assert len(sent) == (1 if reply.status == 200 else 0), value
        if sent:
            assert (
                sent[0].header("X-Value")[0].encode("latin-1") == value.strip(" \t").encode()
            ), value
            assert not sent[0].body


PLACES = ["url", "method", "name", "value", "id"]


@pytest.mark.parametrize("place", PLACES)
def test_every_byte_at_every_place(gatherd, origin, place):
    """The upstream sees nothing, or one well-formed request and no field that nobody sent."""
    known = {"host", "user-agent", "accept", "accept-encoding", "x-test"}
    start = time.monotonic()
    for code in range(256):
        char = chr(code)
        for word in (char + "ab", "a" + char + "b", "ab" + char):
            member = {"url": origin.url("/echo")}
            if place == "url":
                member["url"] = origin.url("/echo?") + word
            elif place in ("method", "id"):
                member[place] = word
            else:
                member["headers"] = {word: "x"} if place == "name" else {"X-Test": word}
            before = len(origin.seen)
            reply = gatherd.post([member])
            assert reply.status in (200, 400), (place, code)
            seen = origin.seen[before:]
            assert len(seen) <= 1 and (reply.status == 200 or not seen), (place, code)
            if seen:
                extra = {n.lower() for n, _ in seen[0].headers} - known
                assert (
                    not extra
                    or (place == "name" and len(extra) == 1)
                    or extra == {"content-length"}
                ), (place, code, extra)
                assert seen[0].raw.count(b"HTTP/1.1\r\n") == 1 and not seen[0].body
    print("%.1f s" % (time.monotonic() - start))
