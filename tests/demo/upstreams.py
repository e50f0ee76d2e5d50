#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Three slow servers on loopback for `./bootstrap demo`, with the article's pages.

Prints `batch [URL, URL, URL]` (JSON) when all listen, and serves until it is stopped."""
import http.server
import json
import signal
import sys
import threading
import time

# bytes, seconds until the answer
PAGES = [(7699, 0.500), (20875, 0.500), (19252, 0.577)]


def page(size):
    """A page of exactly `size` bytes."""
    head = b"<!doctype html>\n<title>A slow page</title>\n<p>\n"
    line = b"All work and no gather makes a dull boy.\n"
    return (head + line * (size // len(line)))[: size - 1] + b"\n"


class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One write an answer: a head that waits for its body's ACK would cost 40 ms.
    wbufsize = 65536
    disable_nagle_algorithm = True

    def do_GET(self):
        time.sleep(self.server.delay_s)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_):
        pass


class Upstream(http.server.ThreadingHTTPServer):
    def __init__(self, size, delay_s):
        super().__init__(("127.0.0.1", 0), Slow)
        self.body = page(size)
        self.delay_s = delay_s
        self.url = f"http://127.0.0.1:{self.server_port}/"


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    upstreams = [Upstream(size, delay_s) for size, delay_s in PAGES]
    for upstream in upstreams:
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
    print("batch", json.dumps([upstream.url for upstream in upstreams]), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
