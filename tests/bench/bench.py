#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make bench: gatherd beside its limit and its peers, in one run; see README.md in this folder.

Each workload measures its subjects in turn (ABAB...), so that a noisy neighbour hits all of them,
and judges by the median of the ratios. A missed bound is printed and is no error; the exit status
is 1 when a measurement itself broke.
"""
import argparse
import contextlib
import datetime
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))  # tests/, for lib

import batch_size
import bodies
import daemon
import handshakes
import held
import hosts
import latency
import loops
import machine
import names
import peers
import report
import throughput
import upstream
import versions
import waiting

WORKLOADS = {
    "a": ("20,000 small fetches in one batch", throughput.workload_a),
    "b": ("the same as 200 batches of 100", throughput.workload_b),
    "c": ("small batches from 1, 16 and 128 clients", latency.workload_c),
    "d": ("batches of 10 to 100,000", batch_size.workload_d),
    "e": ("TLS: new connections, kept ones, HTTP/2", handshakes.workload_e),
    "f": ("1,000 upstreams of 1 s", waiting.workload_f),
    "g": ("what many clients and transfers hold", held.workload_g),
    "h": ("bodies of 1 MB and 100 MB", bodies.workload_h),
    "i": ("2,000 names, 50 of them dead", names.workload_i),
    "j": ("many hosts", hosts.workload_j),
    "k": ("a 1-URL batch beside heavy work", latency.workload_k),
    "l": ("two loops against one", loops.workload_l),
}


class Bench:
    """What the workloads share. known: what one found and another needs. skipped: what was not
    there."""

    def __init__(self, arguments, scratch):
        self.arguments, self.scratch = arguments, scratch
        self.quick, self.program = arguments.quick, arguments.gatherd
        self.known, self.skipped = {"load": machine.load()}, []
        self._stack, self._nginx, self._authority = contextlib.ExitStack(), {}, None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return self._stack.__exit__(*exc)

    def start_nginx(self, name, **what):
        """An upstream for all workloads that ask for this name; ends with the run."""
        if name not in self._nginx:
            scratch = os.path.join(self.scratch, name)
            os.makedirs(scratch)
            self._nginx[name] = self._stack.enter_context(upstream.Nginx(scratch, **what))
        return self._nginx[name]

    @property
    def nginx(self):
        """The plain upstream."""
        return self.start_nginx("plain")

    @property
    def authority(self):
        """The local CA, or None without python3-cryptography."""
        if self._authority is None:
            try:
                from lib import tls  # pylint: disable=import-outside-toplevel
            except ImportError:
                self.has("TLS (python3-cryptography)", False)
                return None
            folder = os.path.join(self.scratch, "authority")
            os.makedirs(folder)
            self._authority = tls.Authority(folder)
        return self._authority

    @property
    def tls_nginx(self):
        """The upstream with TLS, on the upstream's core."""
        return self.start_nginx("tls", authority=self.authority)

    @property
    def host_nginx(self):
        """The upstream that is reached by each address of 127.0.0.0/8."""
        return self.start_nginx("hosts", address="0.0.0.0")

    def gatherd(self, *options, program=None, **what):
        what.setdefault("loops", self.arguments.loops)
        return daemon.Gatherd(program or self.program, self.scratch, *options, **what)

    def rounds(self, full, quick):
        return self.arguments.repeat or (quick if self.quick else full)

    def size(self, full, quick):
        return quick if self.quick else full

    def has(self, name, found):
        """Whether it was found; notes it as skipped once if not."""
        if not found and name not in self.skipped:
            self.skipped.append(name)
            machine.say("skipped: " + name)
        return bool(found)

    def interleave(self, subjects, rounds):
        """{name: [Sample]}: every subject once a round. A peer that fails is left out, gatherd and
        limit may not."""
        samples = {name: [] for name in subjects}
        for _ in range(rounds):
            for name in list(samples):
                try:
                    samples[name].append(subjects[name]())
                except peers.Failed as problem:
                    if str(name).startswith(("gatherd", "limit")):
                        raise
                    del samples[name]
                    self.has("%s (failed: %s)" % (name, problem), False)
        return samples


# --- one run -------------------------------------------------------------------------------------


def run_workload(bench, letter):
    """The workload's section, and whether it broke."""
    title, function = WORKLOADS[letter]
    section, begin, broke = report.Section(letter, title), time.monotonic(), False
    machine.say("(%s) %s" % (letter, title))
    try:
        function(bench, section)
    except Exception as problem:  # pylint: disable=broad-except
        traceback.print_exc()
        section.say("**The measurement broke**: %s: %s" % (type(problem).__name__, problem))
        broke = True
    print("\n" + section.text(), flush=True)
    machine.say("(%s) took %.0f s" % (letter, time.monotonic() - begin))
    return section, broke


def results(bench, sections):
    """The text of RESULTS.md."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    parts = ["# Results of `make bench`\n", "Made by tests/bench/bench.py, %s.\n" % now]
    rows = machine.description() + [("load before the run", report.figure(bench.known["load"]))]
    parts.append(report.table(["machine", ""], rows))
    parts.append(report.table(["version", ""], versions.rows(bench.program)))
    if bench.skipped:
        parts.append("Skipped: " + ", ".join(bench.skipped) + "\n")
    verdicts = sorted((v for s in sections for v in s.verdicts), key=lambda v: v.number)
    parts.append("## The figures to judge\n")
    parts.append(report.table(report.VERDICT_HEADER, [v.row() for v in verdicts]))
    return "\n".join(parts + [section.text() for section in sections])


def write_results(bench, sections):
    """RESULTS.md and the plot into the folder asked for; after a run of a part only if asked."""
    folder = bench.arguments.output
    if folder is None and not bench.quick and not bench.arguments.only:
        folder = machine.HERE
    if folder is None:
        return
    with open(os.path.join(folder, "RESULTS.md"), "w", encoding="utf-8") as file:
        file.write(results(bench, sections))
    if "plot" in bench.known:
        svg = os.path.join(folder, "cost.svg")
        bench.has("plot (gnuplot-nox)", report.plot(svg, bench.known["plot"], bench.scratch))
    machine.say("wrote RESULTS.md in " + folder)


def run(bench):
    if bench.known["load"] > 0.7:
        words = "this machine has other work, a load of %.1f: latencies and walls mean little now"
        machine.say(words % bench.known["load"])
    letters = bench.arguments.only or list(WORKLOADS)
    done = [run_workload(bench, letter) for letter in letters]
    sections = [section for section, _ in done]
    write_results(bench, sections)
    verdicts = sorted((v for s in sections for v in s.verdicts), key=lambda v: v.number)
    print(report.table(report.VERDICT_HEADER, [v.row() for v in verdicts]))
    reached = sum(v.reached is True for v in verdicts)
    words = "%d of %d figures reached, %d workloads broke"
    machine.say(words % (reached, len(verdicts), sum(broke for _, broke in done)))
    return 1 if any(broke for _, broke in done) else 0


def letters_of(text):
    letters = [x.strip() for x in text.split(",") if x.strip()]
    unknown = [x for x in letters if x not in WORKLOADS]
    if unknown or not letters:
        raise argparse.ArgumentTypeError("no workload %s; see --list" % ",".join(unknown))
    return letters


def read_arguments():
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer rounds and smaller sizes, under 2 minutes")
    add("--only", metavar="a,c", type=letters_of, help="these workloads")
    add("--nice", metavar="N", type=int, default=0,
        help="run everything at this niceness; below 0 on a machine that others use as well")
    add("--repeat", metavar="N", type=int, help="rounds of each workload")
    add("--list", action="store_true", help="print the workloads and end")
    add("--vs", metavar="OLD_GATHERD", help="compare two binaries on (a) and (b), and end")
    add("--gatherd", metavar="PATH", default=os.environ.get("GATHERD") or
        os.path.join(machine.BUILD, "gatherd"), help="the program (build/gatherd)")
    add("--loops", metavar="N", type=int, default=1,
        help="[daemon] loops where a workload does not say it itself (1)")
    add("--output", metavar="DIR", help="write RESULTS.md and cost.svg there")
    return parser.parse_args()


def on_signal(number, _frame):
    raise SystemExit(128 + number)


def main():
    arguments = read_arguments()
    if arguments.list:
        for letter, (title, _) in WORKLOADS.items():
            print("%s  %s" % (letter, title))
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    if not upstream.Nginx.present():
        sys.exit("bench: nginx is missing: ./bootstrap packages bench")
    tools = [os.path.join(machine.BUILD, "tests/bench", x) for x in ("limit", "clients", "slow")]
    for program in filter(None, [arguments.gatherd, arguments.vs, *tools]):
        if not os.access(program, os.X_OK):
            sys.exit("bench: no program %s (make bench makes its tools)" % program)
    machine.raise_descriptors()
    machine.be_nice(arguments.nice)
    scratch = tempfile.mkdtemp(prefix="gatherd-bench-")
    try:
        with Bench(arguments, scratch) as bench:
            if arguments.vs:
                throughput.compare(bench, arguments.vs)
                return 0
            return run(bench)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
