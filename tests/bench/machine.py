# SPDX-License-Identifier: MIT
"""The machine under the benchmark: cores, clocks, memory, and processes that end with us.

CPU time is the kernel's CPU clock of a process (clock_getcpuclockid), in ns, read from outside: it
counts every thread, also one that has ended, and a running one up to now. schedstat has the same
figures for each thread, but loses what an ended one had.
"""
import ctypes
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("top_builddir") or os.path.join(ROOT, "build")
PR_SET_PDEATHSIG = 1


def cores():
    return sorted(os.sched_getaffinity(0))


def upstream_core():
    """Where upstreams, load generators and this program run; None: no pinning on one core."""
    return cores()[0] if len(cores()) > 1 else None


def measured_core():
    """Where what is measured runs, alone."""
    return cores()[1] if len(cores()) > 1 else None


def say(words):
    print("bench: " + words, flush=True)


# --- processes -----------------------------------------------------------------------------------


def environment():
    """Ours, without proxies and without what systemd or another gatherd would hand on."""
    drop = re.compile(r"(?i).*_proxy$|NOTIFY_SOCKET$|LISTEN_|WATCHDOG_|CREDENTIALS_DIRECTORY$")
    return {k: v for k, v in os.environ.items() if not drop.match(k)}


def _child_setup(core, libc=ctypes.CDLL(None)):
    def setup():
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if core is not None:
            os.sched_setaffinity(0, core if isinstance(core, (set, list)) else {core})

    return setup


def raise_descriptors():
    """The soft limit up to the hard one, for us and what we start; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def be_nice(niceness):
    """Our priority and that of what we start. Sessions share the cores first (autogroup), where the
    kernel does that, so that the session's niceness is what counts."""
    if niceness == 0:
        return
    os.nice(niceness)
    try:
        with open("/proc/self/autogroup", "w", encoding="ascii") as file:
            file.write(str(niceness))
    except OSError:
        pass


def start(command, core=None, **options):
    """A child that gets SIGTERM when this program ends, whatever ended it. core: one, several, or
    None for all."""
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("env", environment())
    return subprocess.Popen(command, preexec_fn=_child_setup(core), **options)


def stop(process, seconds=10.0):
    """SIGTERM, then SIGKILL; returns the exit status."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class Outcome:
    """A program that ran to its end: status, what it wrote, wall and CPU time. (ru_maxrss would be
    what we had when we forked.)"""

    def __init__(self, status, out, error, wall_s, usage):
        self.status, self.out, self.error, self.wall_s = status, out, error, wall_s
        self.cpu_us = (usage.ru_utime + usage.ru_stime) * 1e6


def run(command, core=None, seconds=120.0, scratch="/tmp", **options):
    """Runs a program to its end, at most so long. It writes to files: nobody has to read."""
    names = [os.path.join(scratch, "run-" + what) for what in ("out", "err")]
    with open(names[0], "wb") as out, open(names[1], "wb") as err:
        begin = time.monotonic()
        process = start(command, core, stdout=out, stderr=err, **options)
        usage = _wait(process, begin + seconds)
    texts = []
    for name in names:
        with open(name, encoding="utf-8", errors="replace") as file:
            texts.append(file.read())
    return Outcome(process.returncode, *texts, process.ended - begin, usage)


def _wait(process, deadline):
    signal.signal(signal.SIGALRM, lambda *_: process.kill())
    signal.setitimer(signal.ITIMER_REAL, max(0.01, deadline - time.monotonic()))
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.ended = time.monotonic()
        process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return usage


def wait_for_port(port, process, seconds=10.0, host="127.0.0.1"):
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("nothing listens on port %d" % port) from None
            time.sleep(0.02)


def free_ports(count):
    """Ports that nobody uses now, below the range of outgoing connections where possible."""
    ports, candidate = [], 21000 + os.getpid() % 1000 * 8
    while len(ports) < count:
        candidate = candidate + 1 if candidate < 32000 else 21000
        with socket.socket() as sock:
            try:
                sock.bind(("0.0.0.0", candidate))
                ports.append(candidate)
            except OSError:
                pass
    return ports


# --- clocks and memory ---------------------------------------------------------------------------


def cpu_us(pid):
    """CPU time of a process so far, all its threads."""
    return time.clock_gettime((~pid << 3) | 2) * 1e6


def thread_cpu_us(pid):
    """{"thread number name": CPU time}, from schedstat."""
    times = {}
    for task in os.listdir("/proc/%d/task" % pid):
        folder = "/proc/%d/task/%s/" % (pid, task)
        try:
            with open(folder + "schedstat", encoding="ascii") as file:
                cpu = int(file.read().split()[0]) / 1000
            with open(folder + "comm", encoding="utf-8") as file:
                times["%s %s" % (task, file.read().strip())] = cpu
        except OSError:
            pass
    return times


def threads(pid):
    return len(os.listdir("/proc/%d/task" % pid))


def memory_kb(pid, field="VmRSS"):
    with open("/proc/%d/status" % pid, encoding="ascii") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    raise KeyError(field)


def idle_s(core):
    """Seconds that a core was idle so far."""
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            if line.startswith("cpu%d " % core):
                fields = line.split()
                return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
    return 0.0


# --- what it is ----------------------------------------------------------------------------------


def first_line(command):
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False
        )
        return done.stdout.decode("utf-8", "replace").strip().split("\n")[0]
    except (OSError, subprocess.TimeoutExpired):
        return None


def description():
    """[(what, which)] of the machine."""
    model = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    virtual = first_line(["systemd-detect-virt"]) if shutil.which("systemd-detect-virt") else None
    rows = [("cpu", model), ("cores", str(len(cores()))), ("kernel", platform.release())]
    if virtual:
        rows.append(("virtualisation", virtual))
    with open("/proc/meminfo", encoding="ascii") as file:
        rows.append(("memory", "%d MiB" % (int(file.readline().split()[1]) // 1024)))
    return rows


def load():
    """The load average of the last minute: work of others, before the benchmark begins."""
    return os.getloadavg()[0]
