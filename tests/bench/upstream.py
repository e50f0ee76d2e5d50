# SPDX-License-Identifier: MIT
"""The upstream: nginx with one worker on a core of its own, configured for one run in a scratch
directory.

    with Nginx(scratch) as nginx:
        nginx.ports          # plain HTTP, several: one origin each
        nginx.status()       # requests so far
"""
import os
import random
import re
import shutil
import urllib.request

import machine

BODY_BYTES = 1024

CONFIG = """\
daemon off;
worker_processes 1;
{user}
worker_rlimit_nofile {descriptors};
pid {scratch}/nginx.pid;
error_log {scratch}/nginx-error.log;
events {{ worker_connections {connections}; use epoll; multi_accept on; }}
http {{
    access_log off;
    server_tokens off;
    default_type application/octet-stream;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    tcp_nodelay on;
    sendfile on;
    open_file_cache max=64 inactive=600s;
    log_format session '$ssl_session_reused';
    client_body_temp_path {scratch}/nginx-body;
    proxy_temp_path {scratch}/nginx-proxy;
    fastcgi_temp_path {scratch}/nginx-fastcgi;
    scgi_temp_path {scratch}/nginx-scgi;
    uwsgi_temp_path {scratch}/nginx-uwsgi;
    root {scratch}/www;
    allow 127.0.0.0/8;
    deny all;
    server {{
{listen}
        location = /1k {{ return 200 "{body}"; }}
        location = /status {{ stub_status; }}
        location = /gz {{ default_type text/plain; add_header Content-Encoding gzip; }}
    }}
{servers}
}}
"""


TLS_SERVER = """\
    server {{
{listen}
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_session_cache shared:bench:32m;
        ssl_session_timeout 1h;
        http2_max_concurrent_streams 256;
        access_log {log};
        location = /1k {{ return 200 "{body}"; }}
    }}
"""


class Nginx:
    """ports: plain HTTP. With an authority of tests/lib/tls.py also TLS: `new` for new connections
    (each answer writes whether its session was resumed into sessions), `kept`, and `http2`.
    address: what it listens on; it talks to 127.0.0.0/8 only. core: see machine.start. ports: how
    many of each kind."""

    def __init__(self, scratch, authority=None, address="127.0.0.1", core="upstream", ports=4):
        self.scratch, self.authority, self.address = scratch, authority, address
        self.core = machine.upstream_core() if core == "upstream" else core
        found = machine.free_ports(ports * 4)
        self.ports, self.new, self.kept, self.http2 = (found[n::4] for n in range(4))
        self.sessions, self.process = scratch + "/sessions", None

    def _listen(self, ports, more=""):
        line = "        listen %s:%d%s backlog=4096;"
        return "\n".join(line % (self.address, port, more) for port in ports)

    def _tls_servers(self):
        if self.authority is None:
            return ""
        certificate, key = self.authority.issue("good")
        blocks = []
        for ports, more, log in (
            (self.new, " ssl", self.sessions + " session"),
            (self.kept, " ssl", "off"),
            (self.http2, " ssl http2", "off"),
        ):
            blocks.append(
                TLS_SERVER.format(
                    listen=self._listen(ports, more),
                    certificate=certificate,
                    key=key,
                    log=log,
                    body=letters(BODY_BYTES),
                )
            )
        return "\n".join(blocks)

    @staticmethod
    def present():
        return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

    def _configure(self):
        descriptors = machine.raise_descriptors()
        os.makedirs(self.scratch + "/www", exist_ok=True)
        path = self.scratch + "/nginx.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(
                CONFIG.format(
                    scratch=self.scratch,
                    user="user root;" if os.geteuid() == 0 else "",  # else it is nobody
                    descriptors=descriptors,
                    connections=min(descriptors - 64, 16384),
                    listen=self._listen(self.ports),
                    body=letters(BODY_BYTES),
                    servers=self._tls_servers(),
                )
            )
        return path

    def start(self):
        command = [self.present(), "-p", self.scratch, "-c", self._configure()]
        command += ["-e", self.scratch + "/nginx-error.log"]
        self.process = machine.start(command, self.core)
        machine.wait_for_port(self.ports[0], self.process)
        return self

    def stop(self):
        if self.process is not None:
            machine.stop(self.process)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_exc):
        self.stop()

    def worker(self):
        """The process number of its worker."""
        path = "/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)
        with open(path, encoding="ascii") as file:
            return int(file.read().split()[0])

    def status(self):
        """Requests that were answered so far, this one not counted."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open("http://127.0.0.1:%d/status" % self.ports[0], timeout=10) as reply:
            text = reply.read().decode("ascii")
        return int(re.search(r"\n\s*\d+\s+\d+\s+(\d+)", text).group(1)) - 1

    def resumed(self):
        """(new TLS connections so far, those of them whose session was resumed)."""
        with open(self.sessions, encoding="ascii") as file:
            lines = file.read().split()
        return len(lines), lines.count("r")

    def urls(self, count, path="/1k", ports=None):
        """count URLs, over the plain ports in turn, or over others with TLS."""
        scheme, ports = ("https", ports) if ports else ("http", self.ports)
        return [
            "%s://127.0.0.1:%d%s?n=%d" % (scheme, ports[n % len(ports)], path, n)
            for n in range(count)
        ]

    def host_urls(self, count, path="/1k", net=1):
        """count URLs, each of a host of its own: 127.net.x.y."""
        hosts = [
            "127.%d.%d.%d" % (net + n // 62500, n % 62500 // 250, n % 250 + 1) for n in range(count)
        ]
        ports = self.ports
        return [
            "http://%s:%d%s" % (host, ports[n % len(ports)], path) for n, host in enumerate(hosts)
        ]


def letters(count):
    """Text that is the same in each run, and no more compressible than words are."""
    source = random.Random(count)
    return "".join(source.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(count))
