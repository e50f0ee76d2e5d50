# SPDX-License-Identifier: MIT
"""Who may ask: the matrices of Host and of cross-site requests, the users and the group of a Unix
socket, and what one client may have (quotas). Refused is refused before anything goes upstream."""
import itertools
import json
import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from lib import contract, island, proc


def request(method, target, fields, body=b""):
    """Bytes on the wire; fields are bytes or text, as they are."""
    lines = [("%s %s HTTP/1.1" % (method, target)).encode("latin-1")]
    lines += [f if isinstance(f, bytes) else f.encode("latin-1") for f in fields]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def asking(origin, fields, target="/v1/batch", type="application/json", method="POST"):
    body = json.dumps([origin.url("/ok")]).encode() if method == "POST" else b""
    if method == "POST" and type is not None:
        fields = [*fields, "Content-Type: " + type]
    return request(method, target, fields, body)


def status(daemon, data):
    raw = daemon.raw(data)
    return proc.parse_reply(raw).status if raw else None


# --- Host: 64 vectors and their controls ---

EVIL = ["evil.example", "EVIL.example", "xn--evil-.example", "evil"]
HOSTS = [
    # names, with every port, case and dot
    *["%s%s%s" % x for x in itertools.product(EVIL, ["", "."], ["", ":80", ":4284"])],
    # ours with something around it
    "localhost.",
    "localhost.:4284",
    "localhost.evil.example",
    "evil.localhost",
    "xlocalhost",
    "localhostx",
    "localhost:80:80",
    "localhost:",
    "localhost:x",
    "localhost:-1",
    "localhost:1234567",
    "localhost, evil.example",
    "localhost,evil.example",
    "localhost;evil.example",
    "localhost evil.example",
    "localhost\tevil.example",
    "localhost@evil.example",
    "evil.example@localhost",
    "user:pw@localhost",
    "http://localhost",
    "localhost/",
    "localhost?x",
    "localhost#x",
    b"localhost\0",
    b"localhost\0.evil.example",
    b"local\x01host",
    b"localhost\xff",
    # addresses that are none
    "127.1",
    "127.0.0.1.nip.io",
    "127.0.0.01",
    "0x7f000001",
    "2130706433",
    "127.0.0.256",
    "[::1",
    "::1",
    "::1]",
    "[::1]x",
    "[::1]:",
    "[::1%25lo]",
    "[::1%lo]",
    "[127.0.0.1]",
    "[localhost]",
    "[]",
]
TARGETS = [
    # absolute forms: the authority in the target counts for nothing, and is refused
    "http://evil.example/v1/batch",
    "http://localhost/v1/batch",
    "HTTP://127.0.0.1/v1/batch",
    "//evil.example/v1/batch",
]
GOOD = [
    "localhost",
    "LocalHost:1",
    "127.0.0.1",
    "127.0.0.1:65535",
    "[::1]",
    "[::1]:4284",
    "[::ffff:127.0.0.1]",
    "10.1.2.3:80",
    "  localhost",
]


def test_host_matrix(gatherd, origin, record_property):
    refused = 0
    for host in HOSTS:
        value = host if isinstance(host, bytes) else host.encode("latin-1")
        for target, method in (("/v1/batch", "POST"), ("/metrics", "GET")):
            code = status(gatherd, asking(origin, [b"Host: " + value], target, method=method))
            assert code in (400, 421), (host, target, code)
            if value.replace(b".", b"").isalpha():
                assert code == 421, (host, code)
        refused += 1
    for target in TARGETS:
        code = status(gatherd, asking(origin, ["Host: localhost"], target))
        assert code in (400, 404), (target, code)
        refused += 1
    for fields in ([], ["Host:"], ["Host: localhost", "Host: localhost"], ["Host: a", "host: b"]):
        assert status(gatherd, asking(origin, fields)) in (400, 421), fields
        refused += 1
    record_property("vectors", refused)
    assert refused >= 64 and not origin.seen and not origin.accepted
    for host in GOOD:
        assert status(gatherd, asking(origin, ["Host: " + host])) == 200, host
    assert len(origin.seen) == len(GOOD)


def test_host_of_a_unix_socket(spawn, origin, tmp_path):
    """There is no name to rebind: Host is not looked at, its shape is."""
    daemon = spawn(bind="unix:%s" % (tmp_path / "s"))
    assert status(daemon, asking(origin, ["Host: evil.example"])) == 200
    assert status(daemon, asking(origin, [])) == 400


# --- cross-site: 300 vectors ---

BAD_ORIGINS = [
    "null",
    "",
    "http://evil.example",
    "https://{host}",
    "http://{host}.evil.example",
    "http://{host}/",
    "http://127.0.0.1:1",
    "http://localhost:{port}",
    "http://{host}, http://evil.example",
    "chrome-extension://abcdef",
]
SITES = [None, "same-origin", "none", "same-site", "cross-site"]
SHAPES = [
    ("POST", "/v1/batch", "application/json"),
    ("POST", "/v1/batch", "text/plain"),
    ("POST", "/v1/batch", "application/x-www-form-urlencoded"),
    ("POST", "/v1/batch", None),
    ("GET", "/metrics", None),
    ("OPTIONS", "/v1/batch", None),
]


def test_cross_site_matrix(gatherd, origin, record_property):
    host = "127.0.0.1:%d" % gatherd.port
    own = "http://" + host
    vectors = [
        (o.format(host=host, port=gatherd.port), site, shape)
        for o, site, shape in itertools.product(BAD_ORIGINS, SITES, SHAPES)
    ]
    vectors += [
        (o, site, shape)
        for o, site, shape in itertools.product(
            [None, own], ["same-site", "cross-site", "", "none, same-origin", "x"], SHAPES
        )
    ]
    for who, site, (method, target, type) in vectors:
        fields = ["Host: " + host]
        fields += [] if who is None else ["Origin: " + who]
        fields += [] if site is None else ["Sec-Fetch-Site: " + site]
        raw = gatherd.raw(asking(origin, fields, target, type, method))
        reply = proc.parse_reply(raw)
        assert reply.status == 403, (who, site, method, target, reply)
        contract.problem(reply, 403)
        assert b"access-control" not in raw.lower()
    for twice in (["Origin: " + own, "Origin: http://evil.example"],
                  ["Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"]):
        assert status(gatherd, asking(origin, ["Host: " + host, *twice])) == 403
    record_property("vectors", len(vectors))
    assert len(vectors) >= 300 and not origin.seen and not origin.accepted
    for who, site in itertools.product([None, own, own.upper()], [None, "same-origin", "none", "NONE"]):
        fields = ["Host: " + host]
        fields += [] if who is None else ["Origin: " + who]
        fields += [] if site is None else ["Sec-Fetch-Site: " + site]
        assert status(gatherd, asking(origin, fields)) == 200, (who, site)


def test_cross_site_on_a_unix_socket(spawn, origin, tmp_path):
    """A proxy before the socket passes a browser's fields on: they count here, too."""
    daemon = spawn(bind="unix:%s" % (tmp_path / "s"))
    for field in ("Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Origin: null"):
        assert status(daemon, asking(origin, ["Host: gather.internal", field])) == 403
    assert not origin.seen


# --- what a listener without a token opens ---


@pytest.mark.parametrize(
    "option, said",
    [
        ("policy.default.mode=report", "mode=report"),
        ("policy.default.allow=0.0.0.0/0", "allow=/0"),
        ("policy.default.allow=10.0.0.1 [::/0]:443", "allow=/0"),
        ("policy.default.allow=0.0.0.0/0:80", "allow=/0"),
        ("policy.default.allow=[::ffff:0:0/96]:1-65535", "allow=/0"),
        ("policy.default.allow=10.0.0.0/8 0.0.0.0/1", None),
        ("policy.default.allow_host=* -> 0.0.0.0/0 ::/0", 'allow_host="* -> /0"'),
        ("policy.default.allow_host=*->10.0.0.1 [::/0]:443\t10.0.0.2", 'allow_host="* -> /0"'),
        ("policy.default.allow_host=* -> 10.0.0.0/8 0.0.0.0/1", None),
        ("policy.default.allow_host=*.corp.example -> 0.0.0.0/0", None),
    ],
)
@pytest.mark.parametrize("guard", ["none", "token", "socket", "open socket", "peers"])
def test_all_that_the_machine_reaches_for_everybody_is_warned_of(tmp_path, option, said, guard):
    tokens = tmp_path / "tokens"
    tokens.write_text("one:token-of-one-0123456789\n")
    tokens.chmod(0o600)
    by_unix = {"bind": "unix:%s" % (tmp_path / "s"), "by_unix": True}
    more = {
        "none": ([], {}),
        "token": (["listener.default.token_file=%s" % tokens], {}),
        "socket": ([], by_unix),
        "open socket": (["listener.default.mode=0666"], by_unix),
        "peers": (["listener.default.mode=0666", "listener.default.peers=%d" % os.getuid()], by_unix),
    }[guard]
    with proc.Gatherd(option, *more[0], allow_log=["no token_file"], **more[1]) as daemon:
        lines = [line for line in daemon.lines if "no token_file" in line]
    assert bool(lines) == (guard in ("none", "open socket") and said is not None), lines
    assert not lines or (said in lines[0] and "listener=default" in lines[0])


# --- a reload cannot take the token away from an address that is open ---


@pytest.mark.parametrize(
    "bind, later",
    [
        ("0.0.0.0:0", "[listener default]\nbind = 127.0.0.1:4284\n"),
        ("0.0.0.0:0", "[listener default]\nbind =\n[listener other]\nbind = unix:/nowhere\n"),
        ("127.0.0.1:0", "[listener default]\nbind = unix:/nowhere\n[policy default]\nbase = unsafe-any\n"),
    ],
)
def test_reload_leaves_no_open_address_without_a_token(tmp_path, bind, later):
    """The file is right by itself: it names another address, which takes a restart. Until then the
    old one is open."""
    tokens, path = tmp_path / "tokens", tmp_path / "gatherd.conf"
    tokens.write_text("one:token-of-one-0123456789\n")
    tokens.chmod(0o600)
    path.write_text("[listener default]\nbind = %s\ntoken_file = %s\n" % (bind, tokens))
    command = [proc.program(), "-c", str(path)]
    daemon = proc.Gatherd(start=False, allow_log=["that needs a restart", "not reloaded"])
    daemon.command = command + ["-o", "daemon.loops=%d" % daemon.loops]
    daemon.start()
    try:
        assert daemon.get("/").status == 401
        path.write_text(later)
        assert subprocess.run([*command, "-t"], capture_output=True, check=False).returncode == 0
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("token_file is empty, and its addresses of before are open")
        daemon.wait_log("not reloaded")
        assert daemon.get("/").status == 401
        daemon.stop()
    finally:
        daemon.kill()


BOTH = "bind = 127.0.0.1:0 unix:{sock}\n"
UNIX = "bind = unix:{sock}\n"
TOKEN = "token_file = {tokens}\n"
INNER = "policy = inner\n[policy inner]\nbase = private\nallow = 127.0.0.1\n"
ONE = "policy = one\n[policy one]\n"
UNUSED = "[policy one]\n"


@pytest.mark.parametrize(
    "first, later, waits",
    [
        (BOTH, UNIX + "peers = 4242\n" + INNER, "peers"),
        (BOTH + TOKEN, UNIX + "peers = 4242\n" + TOKEN, "peers"),
        (BOTH + TOKEN, UNIX, "token_file"),
        (BOTH + TOKEN, UNIX + "token_file = {tokens}.more\n", "token_file"),
        (BOTH, UNIX + INNER, "policy"),
        (BOTH, UNIX + "[policy default]\nallow = 127.0.0.1\n", "[policy default]"),
        (BOTH + ONE, UNIX + ONE + "mode = report\n", "[policy one]"),
        (BOTH + TOKEN, UNIX + TOKEN + "[policy default]\nbase = unsafe-any\n", "[policy default]"),
        (BOTH, UNIX + "hosts = evil.example\n", "hosts"),
        (BOTH, UNIX + "mode = 0600\n", "mode"),
        (BOTH, UNIX + "group = 0\n", "group"),
        (BOTH, "bind = unix:{sock} 127.0.0.1:4284\n" + INNER, "policy"),
        # as it is: only bind, only the rest, what was there before
        (BOTH, UNIX, None),
        (BOTH + TOKEN, UNIX + TOKEN + "head_timeout = 9s\n", None),
        (BOTH + "hosts = a.example b.example\n", UNIX + "hosts = b.example\n", None),
        (BOTH + UNUSED, UNIX + TOKEN + "[policy one]\nallow = 127.0.0.1\n", None),
        (BOTH + "mode = 0600\n" + ONE, UNIX + "mode = 0600\n" + ONE, None),
        (BOTH + UNUSED, BOTH + TOKEN + ONE, None),
        (BOTH + TOKEN + UNUSED, BOTH + ONE, None),
        (UNIX + UNUSED, UNIX + "peers = {me}\n" + ONE, None),
    ],
)
def test_a_reload_opens_nothing_where_bind_was(tmp_path, first, later, waits):
    """What the file says for a Unix socket is not in effect on the address beside it, which a restart
    would close: until then that one has what it had."""
    tokens, path = tmp_path / "tokens", tmp_path / "gatherd.conf"
    for file in (tokens, tmp_path / "tokens.more"):
        file.write_text("one:token-of-one-0123456789\n")
        file.chmod(0o600)
    first, later = (
        "[listener default]\n" + text.format(sock=tmp_path / "s", tokens=tokens, me=os.getuid())
        for text in (first, later)
    )
    path.write_text(first)
    said = waits and re.escape(waits if waits[0] == "[" else "listener.default." + waits)
    said = "%s cannot change while 127.0.0.1:[0-9]+ is open, which (listener.default.)?bind no longer" % said
    daemon = proc.Gatherd(
        start=False, allow_log=["needs a restart", "not reloaded", "before a restart: listener.default"]
    )
    daemon.command = [proc.program(), "-c", str(path), "-o", "daemon.loops=%d" % daemon.loops]
    daemon.start()
    try:
        path.write_text(later)
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("info gatherd: reloaded|not reloaded", 10 * proc.scale())
        if waits is not None:
            daemon.wait_log(said)
        assert ("info gatherd: reloaded" in daemon.log()) == (waits is None), daemon.tail()
        assert ("cannot change while" in daemon.log()) == (waits is not None), daemon.tail()
        if "token_file" in first and "127.0.0.1" in first:
            assert daemon.get("/").status == (401 if waits or "token_file" in later else 200)
        daemon.stop()
    finally:
        daemon.kill()


RULES = "bind = 127.0.0.1:0 unix:{sock}\nhosts = a.example b.example\n"
FEWER = "bind = 127.0.0.1:0 unix:{sock}\nhosts = b.example\n"
APART = "[listener tcp]\nbind = 127.0.0.1:0\n"
ALONE = UNIX + APART
INSIDE = "[policy default]\nallow = 127.0.0.1\n"
MORE = "two:token-of-two-0123456789\n"
BEARER = "Authorization: Bearer token-of-one-0123456789"


@pytest.mark.parametrize("size", [0, 300000])
@pytest.mark.parametrize(
    "before, after, tokens, host, by_unix, status",
    [
        (RULES, RULES + TOKEN + INSIDE, None, "localhost", False, 401),
        (RULES, RULES + TOKEN + INSIDE, None, "localhost", True, 401),
        (RULES + TOKEN, RULES + TOKEN + INSIDE, MORE, "localhost", False, 401),
        (RULES + TOKEN, RULES + TOKEN + INSIDE, MORE, "localhost", True, 401),
        (RULES, FEWER + INSIDE, None, "a.example", False, 421),
        (ALONE, UNIX + "peers = 4242\n" + APART + INSIDE, None, "localhost", True, 403),
        # and who still may, is served, with the rules of after
        (RULES, RULES + INSIDE, None, "localhost", False, 200),
        (RULES + TOKEN, RULES + TOKEN + INSIDE, MORE + "uno:token-of-one-0123456789\n", "localhost", False, 200),
        (RULES, FEWER + INSIDE, None, "b.example", False, 200),
        (ALONE, UNIX + "peers = {me}\n" + APART + INSIDE, None, "localhost", True, 200),
    ],
)  # fmt: skip
def test_who_may_no_longer_ask_when_the_body_is_in(
    origin, tmp_path, before, after, tokens, host, by_unix, status, size
):
    """A reload while a body comes: its batch would be one of the rules of after, so who asks must be let
    in by those, too, with what the head said. The body is small, and read at once, or large, and read
    aside."""
    file, path, sock = tmp_path / "tokens", tmp_path / "gatherd.conf", tmp_path / "s"
    file.write_text("one:token-of-one-0123456789\n")
    file.chmod(0o600)

    def conf(text):
        text = text.format(sock=sock, tokens=file, me=os.getuid())
        path.write_text("[listener default]\n%s[limits]\nper_client_batches = 1\n" % text)

    conf(before)
    daemon = proc.Gatherd(start=False)
    daemon.command = [proc.program(), "-c", str(path), "-o", "daemon.loops=%d" % daemon.loops]
    daemon.start()
    try:
        body = json.dumps([origin.url("/ok")]).encode() + b" " * size
        fields = ["Host: " + host, "Content-Type: application/json", "Expect: 100-continue"]
        data = request("POST", "/v1/batch", fields + [BEARER] * (TOKEN in before), body)
        half = len(data) - len(body) + 5
        client = socket.socket(socket.AF_UNIX) if by_unix else daemon.connect()
        with client:
            if by_unix:
                client.connect(str(sock))
            seen = len(origin.seen)
            client.sendall(data[:half])
            assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"  # the head is taken
            conf(after)
            if tokens is not None:
                file.write_text(tokens)
            daemon.signal(signal.SIGHUP)
            daemon.wait_log("info gatherd: reloaded", 10 * proc.scale())
            client.sendall(data[half:])
            reply = proc.parse_reply(proc.read_all(client))
        assert reply.status == status, reply
        if status == 200:
            assert reply.json()["results"][0]["state"] == "done"
        else:
            contract.problem(reply, status)
            assert (reply.header("WWW-Authenticate") == "Bearer") == (status == 401)
            assert len(origin.seen) == seen
        daemon.stop()
    finally:
        daemon.kill()


# --- the Unix socket ---


def test_peers(spawn, origin, tmp_path):
    me = pwd.getpwuid(os.getuid()).pw_name
    for peers, good in (
        (me, True),
        (str(os.getuid()), True),
        ("4242 %s" % me, True),
        ("4242", False),
        ("", True),
    ):
        path = tmp_path / ("s%d" % len(list(tmp_path.iterdir())))
        options = ["listener.inner.peers=" + peers, "listener.inner.bind=unix:%s" % path]
        daemon = proc.Gatherd("policy.default.allow=127.0.0.1", *options)
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.sendall(asking(origin, ["Host: x"]))
                reply = proc.parse_reply(proc.read_all(sock))
            assert reply.status == (200 if good else 403), (peers, reply)
            if not good:
                contract.problem(reply, 403)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.sendall(request("GET", "/-/healthy", ["Host: x"]))
                assert proc.parse_reply(proc.read_all(sock)).status == (200 if good else 403)
            assert status(daemon, asking(origin, ["Host: localhost"])) == 200
            daemon.stop()
        finally:
            daemon.kill()


ASK = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
print(s.recv(100).split(b" ")[1].decode())
"""


def ask_as(uid, path):
    """The status that another user gets, or the name of the error."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(path)],
        user=uid, group=uid, extra_groups=[], capture_output=True, text=True, check=False,
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1].split(":")[0]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be several users")
def test_users_of_a_unix_socket(tmp_path_factory):
    """Mode and group say who connects, peers who is answered; root is no exception."""
    folder = tmp_path_factory.mktemp("sock")
    for part in (folder, folder.parent, folder.parent.parent):
        part.chmod(0o755)
    path = folder / "s"
    with proc.Gatherd(
        "listener.default.mode=0660", "listener.default.group=4243",
        "listener.default.peers=4243 0", bind="unix:%s" % path
    ):
        what = path.stat()
        assert stat.S_IMODE(what.st_mode) == 0o660 and what.st_gid == 4243
        assert ask_as(4243, path) == "200"
        assert ask_as(4242, path) == "PermissionError"
    with proc.Gatherd("listener.default.mode=0666", "listener.default.peers=4243 0",
                      bind="unix:%s" % path) as daemon:
        assert ask_as(4243, path) == "200"
        assert ask_as(4242, path) == "403"
        assert daemon.get("/-/healthy").status == 200


@pytest.mark.parametrize(
    "option, words",
    [
        ("listener.default.peers=no-such-user", "there is no user no-such-user"),
        ("listener.default.group=no-such-group", "there is no group no-such-group"),
        ("listener.default.peers=a b c/d", '"c/d" is no account'),
    ],
)
def test_unknown_accounts_are_refused_at_start(option, words):
    done = subprocess.run([proc.program(), "-t", "-o", "listener.default.bind=unix:/nowhere", "-o", option],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 78 and words in done.stderr


@pytest.mark.skipif(not island.available(), reason="no user namespaces here")
def test_users_that_a_namespace_does_not_tell_apart(tmp_path):
    """All that are not mapped have one number there, 65534: who may ask cannot be said by it."""
    inside = ["unshare", "-r", proc.program(), "-o", "listener.default.bind=unix:%s/s" % tmp_path]
    for option, words in (
        ("peers=0", None),
        ("peers=0 65534", "listener.default.peers: 65534 cannot be told from other users"),
        ("peers=4242", "listener.default.peers: 4242 cannot be told from other users"),
        ("group=0", None),
        ("group=4242", "listener.default.group: 4242 has no number in this user namespace"),
    ):
        done = subprocess.run([*inside, "-t", "-o", "listener.default." + option],
                              capture_output=True, text=True, check=False)
        assert done.returncode == (0 if words is None else 78), (option, done.stderr)
        assert words is None or words in done.stderr
    with proc.Gatherd(bind="unix:%s/s" % tmp_path, wrapper=("unshare", "-r")) as daemon:
        assert daemon.get("/-/healthy").status == 200
        daemon.wait_log("the users that it does not map count as one", 5)


BOTH = "[listener default]\nbind = 127.0.0.1:4284 unix:/nowhere\n"
TCP = "[listener default]\nbind = 127.0.0.1:4284\n"


@pytest.mark.parametrize(
    "text, key",
    [
        ("[listener default]\npeers = root\n", "peers"),
        (TCP + "peers = root\n", "peers"),
        (BOTH + "peers = root\n", "peers"),
        ("[listener default]\nmode = 0600\n", "mode"),
        ("[listener default]\ngroup = root\n", "group"),
        (BOTH + "mode = 0600\ngroup = root\n", None),
        (TCP + "mode = 0660\ngroup =\npeers =\n", None),
        ("[listener default]\nbind =\npeers = root\nmode = 0600\n"
         "[listener other]\nbind = 127.0.0.1:4284\n", None),
    ],
)
def test_rules_of_a_unix_socket_are_errors_where_they_mean_nothing(tmp_path, text, key):
    """TCP has no users, and no file: who names some there believes in a lock that is none."""
    path = tmp_path / "gatherd.conf"
    path.write_text(text)
    done = subprocess.run([proc.program(), "-t", "-c", str(path)], capture_output=True, text=True,
                          check=False)
    if key is None:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 78
    line = 1 + [x.split(" ")[0] for x in text.splitlines()].index(key)
    assert ":%d: [listener default] %s: is for Unix sockets" % (line, key) in done.stderr
    assert "unix:/PATH" in done.stderr or "a [listener NAME] of its own" in done.stderr


# --- quotas ---


def refused_429(reply):
    contract.problem(reply, 429)
    assert int(reply.header("Retry-After")) >= 1
    return reply.json()["detail"]


def in_background(daemon, body, headers=None):
    """A batch that is at work when this returns; its reply is appended to the list."""
    replies = []
    thread = threading.Thread(target=lambda: replies.append(daemon.post(body, headers=headers)))
    thread.start()
    return thread, replies


def wait_running(daemon, count):
    deadline = time.monotonic() + 10
    while daemon.metrics()["gatherd_batches_running"] != count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_quota_of_batches(spawn, origin):
    daemon = spawn("limits.per_client_batches=2")
    held = [in_background(daemon, [origin.url("/gate/%d/size/1" % i)]) for i in range(2)]
    wait_running(daemon, 2)
    assert "per_client_batches" in refused_429(daemon.post([origin.url("/ok")]))
    assert daemon.metrics()['gatherd_batches_refused_total{reason="quota"}'] == 1
    origin.release("0")
    held[0][0].join()
    assert held[0][1][0].status == 200
    assert daemon.post([origin.url("/ok")]).status == 200
    origin.release("1")
    held[1][0].join()
    for _ in range(5):
        assert daemon.post([origin.url("/ok")]).status == 200


def test_quota_before_the_body(spawn, origin):
    """Who has none left is told so before a body is sent."""
    daemon = spawn("limits.per_client_batches=1")
    held = in_background(daemon, [origin.url("/gate/0/size/1")])
    wait_running(daemon, 1)
    with daemon.connect() as sock:
        sock.sendall(b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
        assert proc.parse_reply(proc.read_all(sock)).status == 429
    origin.release("0")
    held[0].join()


TWO = ("one", "two")


def bearer(name):
    return {"Authorization": "Bearer token-of-%s-0123456789" % name}


def two_identities(spawn, tmp_path, *options):
    tokens = tmp_path / "tokens"
    tokens.write_text("".join("%s:token-of-%s-0123456789\n" % (name, name) for name in TWO))
    tokens.chmod(0o600)
    return spawn("listener.default.token_file=%s" % tokens, *options)


def batch_of(name, body, length=None):
    fields = ["Host: localhost", "Content-Type: application/json", *map(": ".join, bearer(name).items())]
    fields.append("Content-Length: %d" % (length or len(body)))
    return request("POST", "/v1/batch", fields) + body


def wait_metric(daemon, name, value):
    deadline = time.monotonic() + 10 * proc.scale()
    while contract.metrics(daemon.get("/metrics", bearer("two")))[name] != value:
        assert time.monotonic() < deadline, name
        time.sleep(0.01)


def test_quota_until_the_answer_is_read(spawn, tmp_path):
    """Members whose answer is not read are held for all, and counted as those of who asked for them:
    who does not read cannot fill limits.queued beyond its quotas."""
    for quota, batches in (("batches=1", 1), ("members=1000", 1), ("members=2000", 2)):
        daemon = two_identities(spawn, tmp_path, "limits.per_client_" + quota, "limits.queued=3000",
                                "limits.requests=1000")
        held = []
        for _ in range(batches):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(30 * proc.scale())
            sock.connect(("127.0.0.1", daemon.port))
            sock.sendall(batch_of("one", json.dumps(["no-url"] * 1000).encode()))
            held.append(sock)
        wait_metric(daemon, "gatherd_members_unread", 1000 * batches)
        detail = refused_429(daemon.post(["no-url"], headers=bearer("one")))
        assert "limits.per_client_" + quota.partition("=")[0] in detail
        assert daemon.post(["no-url"], headers=bearer("two")).status == 200
        sock = held.pop()
        assert len(proc.parse_reply(proc.read_all(sock)).json()["results"]) == 1000
        sock.close()
        assert daemon.post(["no-url"], headers=bearer("one")).status == 200
        for sock in held:
            sock.close()


def test_quota_of_bodies_on_their_way(spawn, tmp_path):
    """A batch counts from its head on: who holds bodies back fills no more of limits.request_bytes than
    its batches may take."""
    daemon = two_identities(spawn, tmp_path, "limits.per_client_batches=2", "limits.body_bytes=100K",
                            "limits.request_bytes=300K")
    held = [daemon.connect() for _ in range(2)]
    for sock in held:
        sock.sendall(batch_of("one", b" " * 99999, 100000))
    wait_metric(daemon, "gatherd_request_bytes", 2 * 99999)
    assert "per_client_batches" in refused_429(daemon.post(["no-url"], headers=bearer("one")))
    assert daemon.post(b" " * 90000 + b'["no-url"]', headers=bearer("two")).status == 200
    held.pop().close()
    wait_metric(daemon, "gatherd_request_bytes", 99999)
    assert daemon.post(["no-url"], headers=bearer("one")).status == 200
    held.pop().close()


@pytest.mark.parametrize("members", [1, 1000])
def test_quota_is_there_again_with_the_end_of_the_answer(spawn, members):
    """Whoever has read an answer to its end, or was refused, has room for the next batch."""
    daemon = spawn("limits.per_client_batches=1", "limits.per_client_members=1000")
    for query in ("", "format=ndjson", "format=text"):
        for _ in range(20):
            assert daemon.post(["no-url"] * members, query=query).status == 200
            assert daemon.post([], query=query).status == 400


def test_quota_of_members(spawn, origin):
    daemon = spawn("limits.per_client_members=5")
    held = in_background(daemon, [origin.url("/gate/a/size/1"), origin.url("/ok"), origin.url("/ok")])
    wait_running(daemon, 1)
    assert "1 members" in refused_429(daemon.post([origin.url("/ok")] * 3))
    assert daemon.post([origin.url("/ok")] * 2).status == 200
    detail = daemon.refused([origin.url("/ok")] * 6, 400)["detail"]
    assert "limits.per_client_members" in detail
    origin.release("a")
    held[0].join()
    assert daemon.post([origin.url("/ok")] * 5).status == 200


def test_quota_of_a_client_that_left(spawn, origin):
    """What it had is free again."""
    daemon = spawn("limits.per_client_batches=1")
    with daemon.connect() as sock:
        fields = ["Host: localhost", "Content-Type: text/plain"]
        sock.sendall(request("POST", "/v1/batch", fields, origin.url("/never").encode()))
        wait_running(daemon, 1)
        assert daemon.post([origin.url("/ok")]).status == 429
    wait_running(daemon, 0)
    assert daemon.post([origin.url("/ok")]).status == 200


def test_quota_rate(spawn, origin):
    daemon = spawn("limits.per_client_rate=3/m")
    assert daemon.post([origin.url("/ok")]).status == 200
    assert daemon.post([origin.url("/ok")] * 20).status == 200  # into debt
    reply = daemon.post([origin.url("/ok")])
    assert "per_client_rate" in refused_429(reply)
    assert 340 <= int(reply.header("Retry-After")) <= 380  # 18 are owed, and one more is wanted
    assert len(origin.seen) == 21


def test_quotas_are_an_identity_s(spawn, origin, tmp_path):
    """Tokens count by their names; a client's address does not matter then."""
    daemon = two_identities(spawn, tmp_path, "limits.per_client_rate=1/m")
    for name in TWO:
        assert daemon.post([origin.url("/ok")], headers=bearer(name)).status == 200
        detail = refused_429(daemon.post([origin.url("/ok")], headers=bearer(name)))
        assert detail.startswith(name)


def test_quotas_hold_from_every_loopback_address(spawn, origin):
    """A process may call itself by any of 127.0.0.0/8; it is still one client."""
    daemon = spawn("limits.per_client_rate=1/m")
    body = json.dumps([origin.url("/ok")]).encode()
    statuses = []
    for address in ("127.0.0.1", "127.0.0.2", "127.255.0.3"):
        at = ("127.0.0.1", daemon.port)
        with socket.create_connection(at, 30, source_address=(address, 0)) as sock:
            sock.sendall(request("POST", "/v1/batch", ["Host: localhost"], body))
            statuses.append(proc.parse_reply(proc.read_all(sock)).status)
    assert statuses == [200, 429, 429]


def test_names_of_tokens_are_nobody_else_s(spawn, origin, tmp_path):
    """A token may be called as clients without one are elsewhere; it is another client."""
    tokens = tmp_path / "tokens"
    tokens.write_text("".join("%s:token-of-%s-0123456789\n" % (name, name)
                              for name in ("loopback", "127.0.0.1", "uid-0", "ip")))
    tokens.chmod(0o600)
    path = tmp_path / "socket"
    daemon = spawn("limits.per_client_rate=1/m", "listener.other.bind=127.0.0.1:0",
                   "listener.other.token_file=%s" % tokens, "listener.unix.bind=unix:%s" % path)
    body = json.dumps([origin.url("/ok")]).encode()
    other = int(daemon.wait_log(r"listening address=127\.0\.0\.1:(\d+) listener=other").group(1))

    def ask(address, *fields):
        family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        with socket.socket(family) as sock:
            sock.settimeout(30 * proc.scale())
            sock.connect(address)
            sock.sendall(request("POST", "/v1/batch", ["Host: localhost", *fields], body))
            return proc.parse_reply(proc.read_all(sock)).status

    askers = [(("127.0.0.1", other), "Authorization: Bearer " + line.partition(":")[2])
              for line in tokens.read_text().splitlines()]
    askers += [(("127.0.0.1", daemon.port),), (str(path),)]
    assert [ask(*asker) for asker in askers] == [200] * 6
    assert [ask(*asker) for asker in askers] == [429] * 6


def test_saturation_stays_503(spawn, origin):
    daemon = spawn("limits.queued=3", "limits.requests=3", "limits.in_flight=1", "limits.per_host=1",
                   "limits.per_client_members=100", "limits.per_client_batches=100")
    held = in_background(daemon, [origin.url("/gate/x/size/1")] + [origin.url("/ok")] * 2)
    wait_running(daemon, 1)
    reply = daemon.post([origin.url("/ok")] * 3)
    assert reply.status == 503 and int(reply.header("Retry-After")) >= 1
    origin.release("x")
    held[0].join()
