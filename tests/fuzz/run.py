#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`make fuzz`: runs each libFuzzer target for some CPU time and says what came of it.

    run.py BUILD SECONDS [TARGET...]

A target begins with its seeds and what earlier runs found, which lies in FUZZ_CORPUS/TARGET
(~/.cache/gatherd/fuzz unless set), outside of the tree; folders in FUZZ_EXTRA (by colons) are read
as well. 0 seconds: the seeds alone. The time is CPU time, so that a busy machine does not make a run shorter. A finding stops
its target, its input is kept in FUZZ_CORPUS/findings, and the exit status is 1. What to do with
it: tests/fuzz/README.md.
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
CORPUS = pathlib.Path(
    os.environ.get("FUZZ_CORPUS")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gatherd/fuzz"
)
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
INPUT_SECONDS = 20  # one input that takes longer is a finding: a hang
DICTIONARIES = {
    "cidr": "policy", "config": "config", "front": "http", "request": "json",
    "upstream": "http", "url_policy": "url",
}


def targets():
    return sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c")
                  if path.stem != "fuzz_main")


def command(build, target, findings, seconds):
    corpus = CORPUS / target
    corpus.mkdir(parents=True, exist_ok=True)
    line = [f"{build}/tests/fuzz/fuzz_{target}", f"-artifact_prefix={findings}/{target}-",
            f"-timeout={INPUT_SECONDS}", "-print_final_stats=1", "-use_value_profile=1"]
    if seconds == 0:
        line.append("-runs=0")
    dictionary = HERE / f"{DICTIONARIES.get(target, target)}.dict"
    if dictionary.exists():
        line.append(f"-dict={dictionary}")
    extra = [folder for folder in os.environ.get("FUZZ_EXTRA", "").split(":") if folder]
    return [*line, str(corpus), str(HERE / "seeds" / target), *extra]


def cpu_seconds(pid):
    """What the process has used; None when it is gone."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if fields[0] == "Z":
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(build, target, seconds):
    """Whether nothing was found."""
    findings = CORPUS / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    log = CORPUS / f"{target}.log"
    used = 0.0
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(build, target, findings, seconds), stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, env={**ENVIRONMENT, **os.environ})
        while (now := cpu_seconds(process.pid)) is not None and (seconds == 0 or used < seconds):
            used = now
            time.sleep(0.2)
        # libFuzzer ends at the next input, with status 0.
        process.send_signal(signal.SIGUSR1)
        try:
            status = process.wait(timeout=10 * INPUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    text = log.read_text(encoding="utf-8", errors="replace")
    runs = re.findall(r"^(?:stat::number_of_executed_units: |#)(\d+)", text, re.MULTILINE)
    covered = re.findall(r" cov: (\d+) ft: (\d+)", text)
    count = int(runs[-1]) if runs else 0
    print(f"{target:12s} {used:6.0f} s CPU  {count:10d} inputs  {count / max(used, 0.1):7.0f}/s  "
          f"{covered[-1][0] if covered else '?':>6s} edges  "
          f"{'nothing found' if status == 0 else f'FOUND SOMETHING (status {status})'}",
          flush=True)
    if status != 0:
        print("\n".join(text.splitlines()[-40:]))
    return status == 0


def main():
    build, seconds, *wanted = sys.argv[1:]
    unknown = set(wanted) - set(targets())
    if unknown:
        sys.exit(f"no target {' '.join(sorted(unknown))}; there are: {' '.join(targets())}")
    results = [run(build, target, float(seconds)) for target in wanted or targets()]
    print(f"corpus: {CORPUS}")
    sys.exit(0 if all(results) else 1)


main()
