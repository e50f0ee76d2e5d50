# SPDX-License-Identifier: MIT
"""What the checks share: where the tree is, C without its comments, and an answer in TAP."""
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(os.environ.get("top_srcdir") or pathlib.Path(__file__).resolve().parents[2])

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def strip_c(text, keep_strings=False):
    """C source without comments (and string contents); the line numbers stay."""

    def blank(match):
        token = match.group()
        if token[0] in "\"'":
            return token if keep_strings else token[0] * 2
        return " " + "\n" * token.count("\n")

    return TOKEN.sub(blank, text)


def relative(path):
    return path.relative_to(ROOT).as_posix()


def skip(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


def finish(what, violations):
    """One TAP case; each violation is a line of its diagnosis."""
    for violation in violations:
        print(f"# {violation}")
    print(f"{'not ok' if violations else 'ok'} 1 - {what}")
    print("1..1")
    sys.exit(0)
