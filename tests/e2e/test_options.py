# SPDX-License-Identifier: MIT
"""The command line, and starts that fail: what is printed where, and the exit status (sysexits)."""
import os
import re
import socket
import subprocess

import pytest

from lib import proc

OK, USAGE, UNAVAILABLE, CONFIG = 0, 64, 69, 78


def run(*args, cwd=None):
    done = subprocess.run(
        [proc.program(), *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=60 * proc.scale(),
        check=False,
        cwd=cwd,
        encoding="utf-8",
    )
    assert not proc.SANITIZER.search(done.stderr), done.stderr
    return done


@pytest.fixture
def conf(tmp_path):
    def write(text, name="gatherd.conf"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option):
    done = run(option)
    assert done.returncode == OK and not done.stderr
    assert done.stdout.startswith("Usage: gatherd ")
    for word in ("-c", "-o", "-t", "-T", "-V", "gatherd.conf(5)"):
        assert word in done.stdout


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(option):
    done = run(option)
    assert done.returncode == OK and not done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"gatherd \d+\.\d+\.\d+\S*", lines[0])
    names = [line.split()[0] for line in lines[1:]]
    assert names == ["libcurl", "libmicrohttpd", "libuv", "jansson", "c-ares"]


@pytest.mark.parametrize(
    "args",
    [["-x"], ["--nothing"], ["-c"], ["word"], ["-t", "word"], ["-o"], ["-o", "daemon.loops=1"] * 257],
    ids=lambda args: " ".join(args[:2]) or "none",
)
def test_usage(args):
    done = run(*args)
    assert done.returncode == USAGE
    assert not done.stdout and "gatherd --help" in done.stderr


def test_check(conf):
    good = conf("[daemon]\nloops = 3\n[policy default]\nallow = 127.0.0.1\n")
    done = run("-t", "-c", good)
    assert done.returncode == OK and not done.stdout
    assert done.stderr == "gatherd: the configuration is fine\n"


@pytest.mark.parametrize(
    "text, words",
    [
        ("[daemon]\nlops = 3\n", r"gatherd\.conf:2: .*loops"),
        ("[limits]\nrequests = 10\nqueued = 5\n", r"requests"),
        ("[policy default]\nallow = example.com\n", r":2: .*example\.com"),
        ("[listener default]\ntoken_file = /dev/null/x\n", r"/dev/null/x: Not a directory"),
        ("[fetch]\nca_file = /dev/null/x\n", r"/dev/null/x: Not a directory"),
        ("[fetch]\nca_file = /usr\n", r"/usr: is no regular file"),
        ("[fetch]\nca_file = /dev/stdin\n", r"/dev/stdin: is no regular file"),
        ("[fetch]\nca_file = /etc/passwd\n", r"/etc/passwd: holds no certificate"),
        ("[listener default]\nbind = 0.0.0.0:0\n", r"token_file"),
    ],
)
def test_check_finds(conf, text, words):
    """-t and a start say the same, with the same status; the start opens nothing."""
    path = conf(text)
    for args in (["-t", "-c", path], ["-c", path]):
        done = run(*args)
        assert done.returncode == CONFIG
        assert re.search(words, done.stderr), done.stderr
        assert "fine" not in done.stderr and "listening" not in done.stderr


def test_no_such_file():
    done = run("-t", "-c", "/dev/null/gatherd.conf")
    assert done.returncode == CONFIG and "/dev/null/gatherd.conf" in done.stderr


def test_dump_is_a_configuration(conf):
    path = conf("[daemon]\nloops = 3\n[listener a]\nbind = 127.0.0.1:0\npolicy = p\n[policy p]\n")
    conf("[daemon]\nloops = 4\n", "conf.d/10.conf")
    done = run("-T", "-c", path, "-o", "limits.requests=77", "--option", "policy.p.deny=1.2.3.4")
    assert done.returncode == OK and not done.stderr
    for line in ("loops = 4", "requests = 77", "deny = 1.2.3.4", "[listener a]"):
        assert re.search(r"^%s$" % re.escape(line), done.stdout, re.MULTILINE), done.stdout
    again = run("--dump", "--config", conf(done.stdout, "again/gatherd.conf"))
    assert again.returncode == OK and again.stdout == done.stdout


SHORT = ["-T", "-c", "/dev/null"]
LONG = SHORT + [word for n in range(250) for word in ("-o", "policy.default.allow=10.0.0.%d" % n)]


@pytest.mark.parametrize("args", [SHORT, LONG, ["-V"], ["-h"]], ids=["short", "long", "version", "help"])
def test_printed_into_nothing(args):
    """What cannot be written is no success, be it more than one piece."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [proc.program(), *args], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert done.returncode == 74 and b"gatherd: standard output: No space left" in done.stderr


def test_address_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("-c", "/dev/null", "-o", "listener.default.bind=127.0.0.1:%d" % port)
    assert done.returncode == UNAVAILABLE
    assert "127.0.0.1:%d" % port in done.stderr and "in use" in done.stderr


def test_socket_in_use(tmp_path):
    """A path on which somebody listens is not taken over, and stays."""
    path = str(tmp_path / "s")
    with proc.Gatherd(bind="unix:" + path):
        done = run("-c", "/dev/null", "-o", "listener.default.bind=unix:" + path)
        assert done.returncode == UNAVAILABLE and path in done.stderr
        assert os.path.exists(path)
    assert not os.path.exists(path)


def test_second_address_fails():
    """A start that fails half-way closes what was open, and ends."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        both = "127.0.0.1:0 127.0.0.1:%d" % taken.getsockname()[1]
        done = run("-c", "/dev/null", "-o", "listener.default.bind=" + both)
    assert done.returncode == UNAVAILABLE
