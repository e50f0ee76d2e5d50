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
PLAIN_PORTS = 4

CONFIG = """\
daemon off;
worker_processes 1;
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
    }}
{servers}
}}
"""


class Nginx:
    """ports: plain HTTP. servers: further blocks of configuration, with {scratch} filled in."""

    def __init__(self, scratch, servers="", address="127.0.0.1"):
        self.scratch, self.servers, self.address = scratch, servers, address
        self.ports, self.process = machine.free_ports(PLAIN_PORTS), None

    @staticmethod
    def present():
        return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

    def _configure(self):
        descriptors = machine.raise_descriptors()
        os.makedirs(self.scratch + "/www", exist_ok=True)
        listen = "\n".join(
            "        listen %s:%d backlog=4096;" % (self.address, port) for port in self.ports
        )
        path = self.scratch + "/nginx.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(
                CONFIG.format(
                    scratch=self.scratch,
                    descriptors=descriptors,
                    connections=min(descriptors - 64, 16384),
                    listen=listen,
                    body=letters(BODY_BYTES),
                    servers=self.servers,
                )
            )
        return path

    def start(self):
        command = [self.present(), "-p", self.scratch, "-c", self._configure()]
        command += ["-e", self.scratch + "/nginx-error.log"]
        self.process = machine.start(command, machine.upstream_core())
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

    def urls(self, count, path="/1k"):
        """count URLs, over the plain ports in turn."""
        return [
            "http://127.0.0.1:%d%s?n=%d" % (self.ports[n % len(self.ports)], path, n)
            for n in range(count)
        ]


def letters(count):
    """Text that is the same in each run, and no more compressible than words are."""
    source = random.Random(count)
    return "".join(source.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(count))
