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

from lib import contract, corpus, expected, judge, proc


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


# Of the "either way" ones these are taken: a number too small to tell from 0 is 0.
TAKEN = {"i_number_double_huge_neg_exp.json", "i_number_real_underflow.json"}


def is_list_of_urls(data):
    value = json.loads(data)
    return isinstance(value, list) and value != [] and all(isinstance(v, str) for v in value)


def test_json_suite_as_body(gatherd):
    """Each has its answer: 200 where it is an array of strings (which are no URLs), else 400."""
    for name, data in suite():
        reply = gatherd.post(data)
        taken = name.startswith("y_") and name not in REFUSED_ON_PURPOSE and is_list_of_urls(data)
        assert reply.status == (200 if taken else 400), (name, reply)
        if reply.status == 400:
            contract.problem(reply)
            reply.body.decode("utf-8")
        else:
            assert contract.check(reply.body)["counts"]["done"] == 0


def test_json_suite_as_a_members_json(gatherd, origin):
    for name, data in suite():
        before = len(origin.seen)
        reply = gatherd.post(
            b'[{"url": "%s", "json": %s}]' % (origin.url("/size/1").encode(), data)
        )
        if (name.startswith("y_") and name not in REFUSED_ON_PURPOSE) or name in TAKEN:
            assert reply.status == 200 and len(origin.seen) == before + 1, (name, reply)
            if "number" not in name:
                assert json.loads(origin.seen[-1].body) == json.loads(data), name
        else:
            assert reply.status == 400 and len(origin.seen) == before, (name, reply)


# UTF-8


def utf8_lines():
    """(number, valid, bytes, what is shown for them) of each line."""
    with open(need("utf8tests", "utf8tests.bin"), "rb") as file:
        lines = file.read().split(b"\n")
    for line in lines:
        parts = line.split(b":", 2)
        if len(parts) == 3 and parts[1] in (b"valid", b"invalid"):
            yield parts[0].decode(), parts[1] == b"valid", parts[2]


def test_utf8_from_clients(gatherd, origin):
    """Well-formed text comes back as it was; all else is refused before anything is sent, and so are
    control bytes, which JSON wants escaped."""
    lines = list(utf8_lines())
    assert len(lines) > 70
    for number, valid, data in lines:
        before = len(origin.seen)
        valid = valid and min(data) >= 0x20
        reply = gatherd.post(
            b'[{"url": "%s", "id": "%s"}]' % (origin.url("/size/1").encode(), data)
        )
        assert reply.status == (200 if valid else 400), (number, data, reply)
        assert len(origin.seen) == before + valid
        if valid:
            assert reply.json()["results"][0]["id"] == data.decode(), number


def test_utf8_from_upstreams(gatherd, origin):
    """In a header U+FFFD stands for what is ill-formed; a body that is none is in base64."""
    lines = [line for line in utf8_lines() if line[2].strip(b" \t") == line[2] and b"\0" not in line[2]]
    urls = [
        origin.raw(
            "u" + number,
            b"HTTP/1.1 200 OK\r\nX-Text: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (data, len(data), data),
            "fin",
        )
        for number, _, data in lines
    ]
    results = gatherd.batch(urls, include=["headers", "body"])["results"]
    for (number, valid, data), result in zip(lines, results):
        assert result["ok"] is True, (number, result)
        shown = [v for n, v in result["headers"] if n == "X-Text"]
        assert shown == [data.decode("utf-8", "replace")], number
        if valid:
            assert result["body"] == data.decode(), number
        else:
            assert base64.b64decode(result["body_base64"]) == data, number


# raw requests


def speak(daemon, pieces):
    """Sends the pieces as segments of their own, reads until gatherd closes; None where it does not."""
    with daemon.connect(15 * proc.scale()) as sock:
        try:
            for piece in pieces:
                sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            return proc.read_all(sock)
        except socket.timeout:
            return None


@pytest.mark.parametrize("form", ["as_is", "aimed"])
@pytest.mark.parametrize("mode", sorted(corpus.MODES))
def test_raw_requests(spawn, mode, form):
    """Each ends as raw_requests.json says, however it is cut into segments: the statuses of its
    answers, then the end of the connection; none where the request is not whole. What a strict parser
    refuses gets no 200. (Two answers to one bad Content-Length are two copies of a head, which is what
    libmicrohttpd 0.9.75 makes of its own error.)"""
    vectors = list(corpus.cases(load("http1-requests", "llhttp.json")))
    with open(os.path.join(os.path.dirname(__file__), "raw_requests.json"), encoding="utf-8") as file:
        expected = json.load(file)
    assert len(vectors) == 162 and set(expected) == {key for key, _, _ in vectors}
    raws = [corpus.aimed(raw) if form == "aimed" else raw for _, _, raw in vectors]
    patience = "%ds" % (3 * proc.scale())  # for the slowest to say all that it has
    daemon = spawn(
        "listener.default.head_timeout=" + patience,
        "listener.default.body_timeout=" + patience,
        "listener.default.keep_alive=" + patience,
    )
    with concurrent.futures.ThreadPoolExecutor(len(vectors)) as pool:
        answers = list(pool.map(lambda raw: speak(daemon, corpus.MODES[mode](raw)), raws))
    wrong, taken = [], 0
    for (key, vector, _), got in zip(vectors, answers):
        assert got is not None, ("gatherd neither answers nor closes", key)
        statuses = corpus.statuses(got)
        taken += statuses.count(200)
        if statuses != expected[key][form]:
            wrong.append((key, expected[key][form], got))
        if key not in LENIENT and (vector["lenient"] or vector["error_code"] not in ACCEPTED):
            assert 200 not in statuses[-1:], key
    assert not wrong, wrong
    values = daemon.metrics()
    assert values["gatherd_batches_total"] == taken and daemon.get("/-/healthy").status == 200


ACCEPTED = (None, 21, 22, 23, 24)
# libmicrohttpd does not read what stands behind the semicolon; the connection ends all the same.
LENIENT = {"No extension after semicolon", "Unbalanced chunk extensions quoting"}


# raw replies


REPLIES_AT_ONCE = 40
TIMES = proc.form(2, 20)


def outcomes(gatherd, origin, replies, methods=()):
    """Plays each reply, closed after it, so many times beside good neighbours; yields the number of the
    reply and its results."""
    members = []
    for number, data in enumerate(replies):
        url = origin.raw("r%d" % number, *((data, "fin") if data else ("fin",)))
        method = methods[number] if methods else "GET"
        members.append({"url": url, "max_redirects": 0, "fresh_connection": True, "method": method})
    include = ["headers", "body", "text_length", "redirects", "curl"]
    for start in range(0, len(members), REPLIES_AT_ONCE):
        some = members[start : start + REPLIES_AT_ONCE]
        batch = [m for member in some for m in [member] * TIMES + [origin.url("/size/777")]]
        results = gatherd.batch(batch, include=include, concurrency=50)["results"]
        for n in range(len(some)):
            *same, neighbour = results[n * (TIMES + 1) : (n + 1) * (TIMES + 1)]
            assert neighbour["size_delivered"] == 777, (start + n, neighbour)
            yield start + n, same


def same_outcome(results):
    """What all copies ended with."""
    ends = {judge.outcome(r) for r in results}
    assert len(ends) == 1, ends
    return ends.pop()


def curls_replies():
    for test in load("upstream-replies", "index.json"):
        for reply in test["replies"]:
            with open(need("upstream-replies", "replies", reply["file"]), "rb") as file:
                yield test, reply["file"], file.read()


def expected_of_curl(test, name, data):
    """The outcome's first word; `done` for whatever status."""
    if name in expected.CURL_REPLIES:
        return expected.CURL_REPLIES[name][0]
    if not data.startswith(b"HTTP/"):
        return "http_protocol_error" if data else "connection_terminated"
    if data.split(b" ")[1:2] == [b"101"]:
        return "http_protocol_error"
    return expected.CURL_CODES.get(int(test["curl_errorcode"]), "done")


def test_replies_from_curls_tests(gatherd, origin):
    """Each ends as curl's exit code says, mapped to our types."""
    tests, names, replies = zip(*curls_replies())
    assert len(replies) > 500
    port = str(origin.port).encode()
    played = [d.replace(b"%HOSTIP", b"127.0.0.1").replace(b"%HTTPPORT", port) for d in replies]
    methods = ["HEAD" if "HTTP HEAD" in test["keywords"] else "GET" for test in tests]
    wrong = []
    for n, results in outcomes(gatherd, origin, played, methods):
        end = same_outcome(results)
        kind = "done" if end.isdigit() else end.split(" ")[0]
        wanted = expected_of_curl(tests[n], names[n], replies[n])
        if kind != wanted:
            wrong.append((names[n], tests[n]["curl_errorcode"], wanted, end))
    assert not wrong, wrong


def test_replies_from_llhttp(gatherd, origin):
    vectors = load("http1-responses", "llhttp.json")
    replies = [base64.b64decode(v["bytes_b64"]) for v in vectors]
    wrong = []
    for n, results in outcomes(gatherd, origin, replies):
        end, wanted = same_outcome(results), expected.LLHTTP.get(vectors[n]["name"])
        if wanted is None or not judge.matches(end, wanted):
            wrong.append((vectors[n]["name"], wanted, end))
    assert not wrong, wrong


def test_content_lengths(gatherd, origin):
    vectors = load("http1-responses", "wpt-content-lengths.json")
    replies = [
        b"HTTP/1.1 200 OK\r\n%s\r\n\r\n%s" % (v["input"].encode("latin-1"), b"a" * 100)
        for v in vectors
    ]
    for n, results in outcomes(gatherd, origin, replies):
        wanted = expected.CONTENT_LENGTHS[vectors[n]["input"]]
        if wanted is None:
            assert same_outcome(results) == expected.PROTOCOL, vectors[n]
        else:
            assert same_outcome(results) == "200", vectors[n]
            assert {r["size_delivered"] for r in results} == {wanted}
        if vectors[n]["output"] is None:  # refused there is refused here, but for 030 beside 30
            assert wanted is None or "030" in vectors[n]["input"]


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
