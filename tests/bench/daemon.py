# SPDX-License-Identifier: MIT
"""gatherd under measurement: started with explicit options on a core of its own, and a client that
costs next to nothing while the clocks run.

Answers are checked after the clocks stopped, and by their head and a count: an answer of 100,000
members is not decoded.
"""
import functools
import http.client
import json
import os
import re
import subprocess
import time

import machine

LISTENING = re.compile(r"listening address=127\.0\.0\.1:(\d+)")
KEPT_S = 15
SETTLE_S = 0.03  # the daemon frees a batch after its answer has gone


@functools.lru_cache(None)
def knows_loops(program):
    """Whether this gatherd has [daemon] loops."""
    dump = subprocess.run([program, "-c", "/dev/null", "-T"], stdout=subprocess.PIPE, check=False)
    return re.search(rb"^loops = ", dump.stdout, re.MULTILINE) is not None


class Client:
    """One kept connection; a new one where gatherd may have closed it meanwhile (keep_alive)."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=170)
        self.used = time.monotonic()

    def post(self, body):
        """The bytes of the answer to one batch."""
        if time.monotonic() - self.used > KEPT_S:
            self.connection.close()
        self.connection.request("POST", "/v1/batch", body, {"Content-Type": "application/json"})
        reply = self.connection.getresponse()
        data = reply.read()
        self.used = time.monotonic()
        if reply.status != 200:
            raise RuntimeError("gatherd answers %d: %r" % (reply.status, data[:500]))
        return data

    def close(self):
        self.connection.close()


class Gatherd:
    """One running daemon. loops: for a binary that knows the option. core: see machine.start."""

    def __init__(self, program, scratch, *options, loops=1, core="measured"):
        self.options = ["listener.default.bind=127.0.0.1:0", *options]
        if loops is not None and knows_loops(program):
            self.options.append("daemon.loops=%d" % loops)
        self.program, self.client = program, None
        self.core = machine.measured_core() if core == "measured" else core
        self.log_path = os.path.join(scratch, "gatherd-%d.log" % time.monotonic_ns())

    def start(self):
        command = [self.program, "-c", "/dev/null"]
        for option in self.options:
            command += ["-o", option]
        with open(self.log_path, "wb") as log:
            self.process = machine.start(command, self.core, stderr=log)
        self.pid, self.port = self.process.pid, self._wait_port()
        self.client = Client(self.port)
        return self

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def _wait_port(self):
        deadline = time.monotonic() + 15
        while True:
            match = LISTENING.search(self.log())
            if match:
                return int(match.group(1))
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("gatherd does not listen:\n" + self.log()[-2000:])
            time.sleep(0.01)

    def stop(self):
        self.client.close()
        status = machine.stop(self.process, 40)
        if status != 0:
            raise RuntimeError("gatherd left with status %d:\n%s" % (status, self.log()[-2000:]))

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:
            machine.stop(self.process, 2)

    def shown_options(self):
        return " ".join("-o " + o for o in self.options if not o.startswith("listener."))

    def post(self, body):
        return self.client.post(body)

    def cpu_us(self):
        """CPU time so far, once what an answer leaves behind is done."""
        time.sleep(SETTLE_S)
        return machine.cpu_us(self.pid)

    def rss_kb(self):
        return machine.memory_kb(self.pid)


def batch_body(urls, **fields):
    """The posted bytes."""
    document = dict(fields, requests=urls) if fields else urls
    return json.dumps(document, separators=(",", ":")).encode()


def split_answer(answer):
    """(all of an answer but its results, decoded; how many results there are)."""
    at = answer.index(b'"results":[')
    head = json.loads(answer[:at].rstrip().rstrip(b",") + b"}")
    return head, answer.count(b'{"index":', at)


def check_answer(answer, count, delivered):
    """Raises unless all count members are ok and have so many bytes in all; returns the head."""
    head, results = split_answer(answer)
    if head["counts"]["ok"] != count or results != count:
        raise RuntimeError("not all of %d are ok: %s %s" % (count, head["counts"], head["errors"]))
    if delivered is not None and head["sizes"]["size_delivered"] != delivered:
        raise RuntimeError("%d bytes instead of %d" % (head["sizes"]["size_delivered"], delivered))
    return head
