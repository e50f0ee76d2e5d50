# SPDX-License-Identifier: MIT
"""What becomes of a member whose upstream misbehaves, and of its neighbours.

`judge` fetches a URL several times, on kept and on fresh connections, in one batch with
well-behaved neighbours. An expectation is the status of a `done` member, or "error.type phase".
Where others stand behind it, divided by `|`, the first is what libcurl 7.88 gives, and with that
version it must be this one; the others are right by the contract, too. A first one in the form
"error.type *" leaves the phase open: it depends on which of two events the kernel tells of first.
In any case the type is the same for all copies.
"""
import functools
import re
import subprocess

from . import proc

COPIES = proc.form(3, 20)
# Short enough to wait for, where a time-out is what is expected; else no test is to see one.
SHORT_MS, CONNECT_MS, LONG_MS = (int(ms * proc.scale()) for ms in (800, 600, 20000))


@functools.lru_cache()
def libcurl():
    """The version of the libcurl at run time, as (major, minor)."""
    text = subprocess.run([proc.program(), "-V"], capture_output=True, check=True).stdout
    return tuple(int(n) for n in re.search(rb"libcurl (\d+)\.(\d+)", text).groups())


def outcome(result):
    if result["state"] == "done":
        return str(result["status"])
    return "%s %s" % (result["error"]["type"], result["error"]["phase"])


def matches(got, expected):
    alternatives = expected.split("|")
    if libcurl() < (8, 0):
        del alternatives[1:]
    return any(got == one or (one.endswith(" *") and got.startswith(one[:-1])) for one in alternatives)


def member(url, expected="", **more):
    """Only where a time-out is expected there is a short one."""
    waits = "timeout" in expected
    limits = {
        "timeout_ms": SHORT_MS if waits else LONG_MS,
        "connect_timeout_ms": CONNECT_MS if waits else LONG_MS,
        "max_response_bytes": 1 << 20,
    }
    return dict(limits, url=url, **more)


def judge(gatherd, origin, url, expected, copies=COPIES, include=(), **more):
    """Asserts that each copy ends as expected and that no neighbour is hurt; returns the copies."""
    members = []
    for n in range(copies):
        members.append(member(url, expected, **dict({"fresh_connection": n % 2 == 1}, **more)))
        members.append(origin.url("/size/%d?neighbour=%d" % (700 + n, n)))
    results = gatherd.batch(members, concurrency=10, include=list(include))["results"]
    bad, neighbours = results[::2], results[1::2]
    for n, neighbour in enumerate(neighbours):
        assert neighbour["ok"] is True and neighbour["size_delivered"] == 700 + n, neighbour
    for result in bad:
        assert matches(outcome(result), expected), (outcome(result), result["error"])
        check_failure(result)
    kinds = {outcome(result).split(" ")[0] for result in bad}
    assert len(kinds) == 1, kinds
    assert gatherd.get("/-/healthy").status == 200
    origin.unknown.clear()  # a followed Location may lead to a path that is no script
    return bad


def check_failure(result):
    if result["state"] != "failed":
        return
    error = result["error"]
    if "timeout" in error["type"]:
        assert result["total_ms"] < 5000 * proc.scale()
    if error["type"].startswith("http_"):  # no system call failed
        assert error["os_errno"] is None, error
    if error["phase"] in ("wait", "receive"):
        assert error["sent"] is True
    elif error["phase"] in ("dns", "connect", "tls") and result["num_redirects"] == 0:
        assert error["sent"] is False
