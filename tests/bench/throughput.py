# SPDX-License-Identifier: MIT
"""Workloads (a) and (b): many small fetches on kept connections, in one batch and in many.

Also --vs, which compares two binaries of gatherd on them.
"""
import contextlib
import shutil
import time

import daemon
import machine
import peers
import report
from upstream import BODY_BYTES

ORIGINS, CONCURRENCY = 4, 100
FIELDS = {"concurrency": CONCURRENCY, "concurrency_per_host": CONCURRENCY // ORIGINS}
ALLOW = "policy.default.allow=127.0.0.1"
SMALL = 100  # members of a batch of (b)
BARE = "limit without Accept-Encoding"  # which gatherd sends


def options(count):
    return [ALLOW] + (["limits.requests=%d" % count] if count > 10000 else [])


def one_batch(gatherd, urls, body):
    """Workload (a) once."""
    threads = machine.thread_cpu_us(gatherd.pid)
    before, begin = gatherd.cpu_us(), time.monotonic()
    answer = gatherd.post(body)
    wall = time.monotonic() - begin
    cpu = gatherd.cpu_us() - before
    daemon.check_answer(answer, len(urls), len(urls) * BODY_BYTES)
    peak = machine.memory_kb(gatherd.pid, "VmHWM")
    used = {
        name: (at - threads.get(name, 0)) / len(urls)
        for name, at in machine.thread_cpu_us(gatherd.pid).items()
    }
    return peers.Sample(len(urls), len(urls) * BODY_BYTES, wall, cpu, peak, threads=used)


def many_batches(gatherd, urls, bodies):
    """Workload (b) once."""
    before, begin = gatherd.cpu_us(), time.monotonic()
    answers = [gatherd.post(body) for body in bodies]
    wall = time.monotonic() - begin
    cpu = gatherd.cpu_us() - before
    for answer in answers:
        daemon.check_answer(answer, SMALL, SMALL * BODY_BYTES)
    peak = machine.memory_kb(gatherd.pid, "VmHWM")
    return peers.Sample(len(urls), len(urls) * BODY_BYTES, wall, cpu, peak)


def bodies_of(urls):
    return [daemon.batch_body(urls[at : at + SMALL], **FIELDS) for at in range(0, len(urls), SMALL)]


def peer_subjects(bench, job):
    """{name: function} of the peers that this machine has; what it has not is noted."""
    subjects = {}
    if bench.has("curl", shutil.which("curl")):
        peers.check_curl(job)
        subjects["curl -Z"] = lambda: peers.curl(job, bench.nginx.status)
    if bench.has("aiohttp (python3-aiohttp)", peers.aiohttp_python()):
        fewer = peers.Job(  # it takes ten times as long
            bench.scratch, job.urls[: bench.size(None, 1500)], job.size, CONCURRENCY, job.per_origin
        )
        subjects["aiohttp"] = lambda: peers.aiohttp(fewer)
    if bench.has("net/http (golang-go)", shutil.which("go")):
        peers.build_net_http(bench.scratch)
        subjects["net/http, GOMAXPROCS=1"] = lambda: peers.net_http(job)
    if bench.has("wrk", shutil.which("wrk")):
        subjects["wrk (one URL)"] = lambda: peers.wrk(job)
    return subjects


def workload_a(bench, section):
    urls = bench.nginx.urls(bench.size(20000, 4000))
    job = peers.Job(bench.scratch, urls, BODY_BYTES, CONCURRENCY, CONCURRENCY // ORIGINS)
    body = daemon.batch_body(urls, **FIELDS)
    daemons = {"gatherd": bench.gatherd(*options(len(urls)))}
    if daemon.knows_loops(bench.program):
        daemons["gatherd, loops = 0"] = bench.gatherd(*options(len(urls)), loops=0)
    with contextlib.ExitStack() as stack:
        subjects = {}
        for name, gatherd in daemons.items():
            stack.enter_context(gatherd)
            gatherd.post(daemon.batch_body(urls[:1000], **FIELDS))
            subjects[name] = lambda g=gatherd: one_batch(g, urls, body)
        subjects["limit"] = lambda: peers.limit(job)
        subjects[BARE] = lambda: peers.limit(job, coded=False)
        subjects.update(peer_subjects(bench, job))
        samples = bench.interleave(subjects, bench.rounds(9, 3))
    words = "%d fetches of %d bytes, %s"
    section.say(words % (len(urls), BODY_BYTES, daemons["gatherd"].shown_options()))
    section.table(report.COST_HEADER, report.cost_rows(samples))
    say_threads(section, samples["gatherd"])
    judge_a(section, samples)


def say_threads(section, several):
    """What each thread of gatherd took, where there is more than one."""
    names = several[0].more["threads"]
    if len(names) > 1:
        cpu = {n: report.median([s.more["threads"].get(n, 0) for s in several]) for n in names}
        parts = ["%s %s us" % (name.split(" ", 1)[1], report.figure(x)) for name, x in cpu.items()]
        section.say("Threads of gatherd, CPU per fetch: " + ", ".join(parts))


def judge_a(section, samples):
    ours = [s.cpu_us_per_fetch for s in samples["gatherd"]]
    for name, bound in (
        ("limit", 1.10), (BARE, 1.10), ("curl -Z", 0.60), ("aiohttp", 0.15),
        ("net/http, GOMAXPROCS=1", 1.0),
    ):
        theirs = samples.get(name)
        value = report.ratio(ours, [s.cpu_us_per_fetch for s in theirs]) if theirs else None
        section.judge(1, "(a) CPU per fetch / that of %s" % name, value, bound)


def workload_b(bench, section):
    urls = bench.nginx.urls(bench.size(20000, 5000))
    job = peers.Job(bench.scratch, urls, BODY_BYTES, CONCURRENCY, CONCURRENCY // ORIGINS)
    bodies = bodies_of(urls)
    with bench.gatherd(*options(0)) as gatherd:
        for body in bodies[:10]:
            gatherd.post(body)
        subjects = {
            "gatherd": lambda: many_batches(gatherd, urls, bodies),
            "limit": lambda: peers.limit(job),
            "limit, 100 at a time": lambda: peers.limit(job, "--batch", str(SMALL)),
        }
        samples = bench.interleave(subjects, bench.rounds(11, 3))
    words = "%d batches of %d, one after the other, %s"
    section.say(words % (len(bodies), SMALL, gatherd.shown_options()))
    section.table(report.COST_HEADER, report.cost_rows(samples))
    for name in ("limit", "limit, 100 at a time"):
        ours, theirs = ([s.cpu_us_per_fetch for s in samples[n]] for n in ("gatherd", name))
        section.judge(2, "(b) CPU per fetch / that of " + name, report.ratio(ours, theirs), 1.20)


def take_turns(programs, start, warm_up, measure):
    """{name: CPU us per fetch}, the median of the rounds, of each program, started anew and warmed
    up; each has each place in a round once."""
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(start(program)) for name, program in programs.items()}
        for gatherd in running.values():
            warm_up(gatherd)
        spent = {name: [] for name in running}
        for turn in range(len(running)):
            for name in [*running][turn:] + [*running][:turn]:
                spent[name].append(measure(running[name]).cpu_us_per_fetch)
    return {name: report.median(several) for name, several in spent.items()}


def compare(bench, old_program):
    """--vs: two binaries on (a) and (b); prints the table.

    A process keeps for its life what its memory's place costs it, which is 5 % and more: so a pair
    is two processes started anew, and beside it runs the old program once more, to say what the
    same figure is where nothing was changed."""
    urls = bench.nginx.urls(20000)
    body, bodies = daemon.batch_body(urls, **FIELDS), bodies_of(urls)
    programs = {"new": bench.program, "old": old_program, "old again": old_program}
    rows = []
    for name, measure in (
        ("(a) one batch of 20,000", lambda g: one_batch(g, urls, body)),
        ("(b) 200 batches of 100", lambda g: many_batches(g, urls, bodies)),
    ):
        pairs = [
            take_turns(
                programs, lambda program: bench.gatherd(*options(len(urls)), program=program),
                lambda gatherd: gatherd.post(body), measure,
            )
            for _ in range(bench.rounds(7, 3))
        ]
        new, old, again = ([pair[n] for pair in pairs] for n in ("new", "old", "old again"))
        rows.append([name, report.median(old), report.median(new), report.median_between(new, old),
                     report.median_between(again, old)])
    header = ["CPU us/fetch", "old", "new", "new / old (between)", "old / old (between)"]
    print(report.table(header, rows))
