# SPDX-License-Identifier: MIT
"""pytest with TAP on standard output; its own words are the comments between the cases.

`make check` counts each test this way. The exit status is 0 when TAP says all there is to say."""
import os
import sys
import threading

import pytest


class Tap:
    """Tells each test's outcome once, however many of its stages failed."""

    def __init__(self, out):
        self.out = out
        self.count = 0
        self.worst = {}

    def say(self, ok, name, directive=""):
        self.count += 1
        name = name.replace("#", "_")
        self.out.write(f"{'ok' if ok else 'not ok'} {self.count} - {name}{directive}\n")
        self.out.flush()

    def pytest_collectreport(self, report):
        if report.failed:
            self.say(False, f"{report.nodeid or 'collection'} (collection)")

    def pytest_runtest_logreport(self, report):
        if report.failed or (report.skipped and report.nodeid not in self.worst):
            previous = self.worst.get(report.nodeid)
            if previous is None or not previous.failed:
                self.worst[report.nodeid] = report
        if report.when == "teardown":
            self.tell(report.nodeid, self.worst.pop(report.nodeid, None))

    def tell(self, name, report):
        if report is None:
            self.say(True, name)
        elif report.failed:
            self.say(False, name)
        else:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            self.say(True, name, f" # SKIP {one_line(why)}")


def one_line(text):
    return " ".join(str(text).split())[:200]


def comment(source, out):
    """Copies pytest's output as comments, so that no test can print a result."""
    with os.fdopen(source, "r", errors="replace") as lines:
        for line in lines:
            out.write(f"# {line.rstrip()}\n")
            out.flush()


def main():
    out = os.fdopen(os.dup(1), "w", errors="replace")
    source, sink = os.pipe()
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    copier = threading.Thread(target=comment, args=(source, out))
    copier.start()
    tap = Tap(out)
    status = pytest.main(sys.argv[1:], plugins=[tap])
    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    copier.join(timeout=10)
    out.write(f"1..{tap.count}\n")
    out.flush()
    told = {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED}
    interrupted = status == pytest.ExitCode.INTERRUPTED and tap.count
    os._exit(0 if status in told or interrupted else int(status))


main()
