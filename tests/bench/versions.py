# SPDX-License-Identifier: MIT
"""Versions of everything that took part."""
import shutil
import subprocess

import machine
import peers
import upstream


def _gatherd(program):
    """gatherd -V says its own version and those of its libraries, a line each or all in one."""
    done = subprocess.run([program, "-V"], stdout=subprocess.PIPE, check=False)
    return ", ".join(done.stdout.decode("utf-8", "replace").strip().split("\n"))


def rows(program):
    """[(what, version)]; what is not there is left out."""
    found = [("gatherd", _gatherd(program))]
    for name, command in (
        ("nginx", [upstream.Nginx.present(), "-v"]),
        ("curl", ["curl", "-q", "-V"]),
        ("Go", ["go", "version"]),
        ("wrk", ["wrk", "-v"]),
        ("compiler", ["cc", "--version"]),
    ):
        if command[0] and shutil.which(command[0]):
            found.append((name, machine.first_line(command)))
    python = peers.aiohttp_python()
    if python:
        code = (
            "import sys, aiohttp\n"
            "try: import uvloop; u = 'uvloop ' + uvloop.__version__\n"
            "except ImportError: u = 'no uvloop'\n"
            "print('Python', sys.version.split()[0] + ', aiohttp', aiohttp.__version__ + ',', u)"
        )
        found.append(("aiohttp", machine.first_line([python, "-c", code])))
    return [(name, version) for name, version in found if version]
