# SPDX-License-Identifier: MIT
"""What runs inside the container of tests/system/run: gatherd as its service, asked as a client would, and
looked at as an administrator would. Each function named check_ is a case; prints TAP."""
import json
import os
import re
import socket
import subprocess
import sys
import time
import traceback

sys.path.insert(0, "/root/tests")
from lib import contract, dns, origin, proc  # noqa: E402

CONF = """[listener default]
bind = 127.0.0.1:4284 [::1]:4284 unix:/run/gatherd/socket
[policy default]
allow = 127.0.0.1
[fetch]
ca_file = /etc/gatherd/tls/ca.pem
dns_servers = %s
"""
DROP_IN = "[Service]\nWatchdogSec=2s\nRestartSec=100ms\n"
USERS = """[listener users]
bind = unix:/run/gatherd/users
group = web
peers = 4242
"""
USERS_DROP_IN = "[Service]\nPrivateUsers=no\nSystemCallFilter=@chown\nSupplementaryGroups=web\n"
ASK = """
import socket
s = socket.socket(socket.AF_UNIX)
s.connect("/run/gatherd/users")
s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
print(s.recv(100).split(b" ")[1].decode())
"""


def ask_as(uid, gid):
    """The status that this user gets, or the name of the error."""
    command = [sys.executable, "-c", ASK]
    done = subprocess.run(
        command, user=uid, group=gid, extra_groups=[], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1].split(":")[0]


def systemctl(*words, check=True):
    done = subprocess.run(
        ["systemctl", "--no-pager", *words], capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def show(name):
    return systemctl("show", "--value", "-p", name, "gatherd")


def journal(*words):
    done = subprocess.run(
        ["journalctl", "-u", "gatherd", "--no-pager", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def eventually(predicate, seconds=20):
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, predicate
        time.sleep(0.05)


class Client(proc.Gatherd):
    """The guard's client, for a daemon that systemd runs."""

    def __init__(self):
        super().__init__(start=False)
        self.port = 4284

    @property
    def pid(self):
        return int(show("MainPID"))

    def is_ready(self):
        try:
            return self.get("/-/ready").status == 200
        except OSError:
            return False


class Checks:
    def __init__(self, server, names, secure):
        self.origin, self.names, self.secure = server, names, secure
        self.client = Client()

    def status(self):
        with open("/proc/%d/status" % self.client.pid, encoding="ascii") as file:
            return dict(re.findall(r"^(\w+):\s*(.*)$", file.read(), re.MULTILINE))

    def check_starts(self):
        systemctl("start", "gatherd")
        assert show("ActiveState") == "active" and self.client.is_ready()
        assert show("StatusText").startswith("Waiting"), show("StatusText")

    def check_a_batch(self):
        urls = [self.origin.url(path) for path in ("/size/100", "/size/30000", "/delay/50/size/5")]
        assert self.client.batch(urls, "include=body,headers")["ok"] is True

    def check_methods_and_bodies(self):
        member = {"url": self.origin.url("/echo"), "json": {"a": 1}, "headers": {"X-A": "b"}}
        assert self.client.one(member, "include=body")["ok"] is True

    def check_redirects(self):
        result = self.client.one(self.origin.url("/redirect/3/to/size/7"), "include=redirects")
        assert result["ok"] is True and result["num_redirects"] == 3

    def check_encodings(self):
        urls = [self.origin.url("/%s/size/5000" % c) for c in ("gzip", "deflate", "br", "zstd")]
        document = self.client.batch(urls, "include=text_length,body_sha256")
        assert [r["text_length"] for r in document["results"]] == [5000] * 4

    def check_charsets(self):
        """iconv loads modules from disk."""
        result = self.client.one(self.origin.url("/charset/shift_jis"), "include=text_length")
        assert result["text_length"] > 0, result

    def check_names(self):
        self.names.add("inside.test", a=["127.0.0.1"])
        assert self.client.one(self.origin.url("/size/7", host="inside.test"))["ok"] is True
        assert self.client.one("http://nobody.test/")["error"]["type"] == "dns_error"

    def check_localhost_is_of_the_hosts_file(self):
        result = self.client.one(self.origin.url("/size/7", host="localhost"))
        assert result["ok"] is True or result["state"] == "denied", result

    def check_tls(self):
        result = self.client.one(self.origin.url("/size/9", port=self.secure, scheme="https"))
        assert result["ok"] is True, result["error"]

    def check_a_stream(self):
        urls = [self.origin.url("/size/%d" % n) for n in range(30)]
        reply = self.client.post(urls, "format=ndjson")
        assert contract.ndjson(reply, urls)[1]["ok"] is True

    def check_every_view(self):
        for name in ("text", "csv", "har"):
            reply = self.client.post([self.origin.url("/size/5")], "format=" + name)
            assert reply.status in (200, 400, 406), reply
        self.client.metrics()

    def check_policy(self):
        for url in ("http://10.0.0.1/", "http://[fe80::1]/", "http://127.0.0.1:4284/"):
            assert self.client.one(url)["state"] == "denied"

    def check_the_unix_socket(self):
        """Another user reaches it as far as its mode says."""
        mode = os.stat("/run/gatherd/socket").st_mode & 0o777
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect("/run/gatherd/socket")
            sock.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert proc.parse_reply(proc.read_all(sock)).status == 200, oct(mode)

    def check_a_client_that_hangs_up(self):
        with self.client.connect() as sock:
            body = json.dumps([self.origin.url("/never?gone")]).encode()
            sock.sendall(
                b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
                + body
            )
            assert self.origin.wait(lambda: any("gone" in s.target for s in self.origin.seen))
        eventually(lambda: self.client.metrics()["gatherd_batches_running"] == 0)

    def check_who_it_is(self):
        """A user of its own for as long as it runs, no capability, no way to gain one, a seccomp filter."""
        status = self.status()
        assert int(status["Uid"].split()[0]) >= 61184, status["Uid"]
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 0, (name, status[name])
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"

    def check_what_it_sees(self):
        """The system is read-only, homes are empty, of /proc only its own."""
        with open("/proc/%d/mountinfo" % self.client.pid, encoding="ascii") as file:
            mounts = {line.split()[4]: line.split()[5] for line in file}
        assert "ro" in mounts["/"].split(","), mounts["/"]
        assert "/tmp" in mounts and "/home" in mounts and "/root" in mounts
        root = "/proc/%d/root" % self.client.pid
        assert not os.listdir(root + "/root") and not os.listdir(root + "/home")
        assert set(os.listdir(root + "/dev")) <= {
            *("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue"),
            *("hugepages", "log", "fd", "stdin", "stdout", "stderr", "core", "console", "char"),
        }

    def check_no_memory_is_writable_and_executable(self):
        assert show("MemoryDenyWriteExecute") == "yes"
        with open("/proc/%d/maps" % self.client.pid, encoding="ascii") as file:
            assert not [line for line in file if "wx" in line.split()[1]]

    def check_exposure(self):
        done = subprocess.run(
            ["systemd-analyze", "security", "--no-pager", "--threshold=12", "gatherd"],
            capture_output=True,
            text=True,
            check=False,
        )
        words = re.findall(r"Overall exposure level.*", done.stdout)
        print("# %s" % words)
        assert done.returncode == 0, words

    def check_reload(self):
        with open("/etc/gatherd/conf.d/test.conf", "a", encoding="ascii") as file:
            file.write("[limits]\nrequests = 5\n")
        pid = self.client.pid
        systemctl("reload", "gatherd")
        eventually(lambda: self.client.post(["http://10.0.0.1/"] * 6).status == 400)
        assert self.client.pid == pid and self.client.batch(["http://10.0.0.1/"] * 5)

    def check_a_broken_file_does_not_stop_it(self):
        with open("/etc/gatherd/conf.d/zz.conf", "w", encoding="ascii") as file:
            file.write("[limits]\nrequests = many\n")
        systemctl("reload", "gatherd", check=False)
        eventually(lambda: "not reloaded" in journal())
        assert self.client.is_ready()
        os.unlink("/etc/gatherd/conf.d/zz.conf")
        systemctl("reload", "gatherd")

    def check_no_error_so_far(self):
        lines = journal("-p", "err", "-o", "cat").splitlines()
        lines = [line for line in lines if "config" not in line and "not reloaded" not in line]
        assert not [line for line in lines if line and not line.startswith("--")], lines

    def check_a_crash_is_mended(self):
        pid = self.client.pid
        os.kill(pid, 9)
        eventually(lambda: self.client.pid not in (0, pid) and self.client.is_ready())
        self.check_a_batch()

    def check_a_stuck_loop_is_restarted(self):
        pid = self.client.pid
        os.kill(pid, 19)
        eventually(lambda: self.client.pid not in (0, pid) and self.client.is_ready(), 30)
        self.check_a_batch()

    def check_stops(self):
        start = time.monotonic()
        systemctl("stop", "gatherd")
        assert time.monotonic() - start < 5
        assert show("ActiveState") == "inactive" and show("Result") == "success"
        assert not os.path.exists("/run/gatherd")

    def check_a_wrong_configuration_is_not_tried_again(self):
        with open("/etc/gatherd/conf.d/zz.conf", "w", encoding="ascii") as file:
            file.write("[limits]\nrequests = many\n")
        systemctl("start", "gatherd", check=False)
        time.sleep(1)
        assert show("ActiveState") == "failed" and show("ExecMainStatus") == "78"
        assert int(show("NRestarts") or 0) == 0


    def check_users_of_a_unix_socket(self):
        """Who may ask is refused at the start where the kernel cannot tell, and told with the drop-in."""
        subprocess.run(["groupadd", "--gid", "4243", "web"], check=True)
        with open("/etc/gatherd/conf.d/zz.conf", "w", encoding="ascii") as file:
            file.write(USERS)
        systemctl("reset-failed", "gatherd")
        systemctl("start", "gatherd", check=False)
        assert show("ExecMainStatus") == "78" and "4242 cannot be told from other users" in journal()
        with open("/etc/systemd/system/gatherd.service.d/users.conf", "w", encoding="ascii") as file:
            file.write(USERS_DROP_IN)
        systemctl("daemon-reload")
        systemctl("reset-failed", "gatherd")
        systemctl("start", "gatherd")
        what = os.stat("/run/gatherd/users")
        assert what.st_gid == 4243 and what.st_mode & 0o777 == 0o660, what
        assert ask_as(4242, 4243) == "200" and ask_as(4244, 4243) == "403"
        assert ask_as(0, 0) == "403" and ask_as(4242, 4242) == "PermissionError"
        systemctl("stop", "gatherd")


def main():
    import ssl

    os.makedirs("/etc/gatherd/conf.d", exist_ok=True)
    os.makedirs("/etc/systemd/system/gatherd.service.d", exist_ok=True)
    for name in os.listdir("/etc/gatherd/conf.d"):
        os.unlink("/etc/gatherd/conf.d/" + name)
    with origin.Origin() as server, dns.Server() as names:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("/etc/gatherd/tls/good.pem", "/etc/gatherd/tls/good.key")
        with open("/etc/gatherd/conf.d/test.conf", "w", encoding="ascii") as file:
            file.write(CONF % names.address)
        with open("/etc/systemd/system/gatherd.service.d/test.conf", "w", encoding="ascii") as file:
            file.write(DROP_IN)
        systemctl("daemon-reload")
        checks = Checks(server, names, server.listen(tls=context))
        cases = [name for name in Checks.__dict__ if name.startswith("check_")]
        print("1..%d" % len(cases))
        for number, name in enumerate(cases, 1):
            try:
                getattr(checks, name)()
                print("ok %d - %s" % (number, name[6:]), flush=True)
            except Exception:
                print("not ok %d - %s" % (number, name[6:]))
                print("# " + traceback.format_exc().replace("\n", "\n# "), flush=True)
        print("# " + journal().replace("\n", "\n# "))


main()
