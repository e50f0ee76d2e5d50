# SPDX-License-Identifier: MIT
"""The other side of fail.c: a file that a daemon maps and through which a test says which call fails.

    control = Control(path)
    daemon = spawn(env=control.environment())
    control.arm(MEMORY, 17);  ...;  control.disarm();  control.failed, control.where
"""
import ctypes
import mmap
import os

from lib import proc

MEMORY, SYSTEM, MULTI, STALL, LIMIT = 1, 2, 4, 8, 16  # see fail.c


class _Layout(ctypes.Structure):
    _fields_ = [
        ("kinds", ctypes.c_int64),
        ("at", ctypes.c_int64),
        ("counted", ctypes.c_int64),
        ("failed", ctypes.c_int64),
        ("not_open", ctypes.c_int64),
        ("what", ctypes.c_char * 64),
        ("who", ctypes.c_char * 192),
    ]


def library():
    """The preloaded library, or None where it is not built."""
    path = os.path.join(os.environ.get("top_builddir", "build"), "tests", "lib", "fail.so")
    return os.path.abspath(path) if os.path.exists(path) else None


class Control:
    """One control file; a daemon that was started with `environment()` reads it all the time."""

    def __init__(self, path):
        self.path = str(path)
        with open(self.path, "wb") as file:
            file.write(bytes(ctypes.sizeof(_Layout)))
        with open(self.path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), ctypes.sizeof(_Layout))
        self.layout = _Layout.from_buffer(self.map)

    def environment(self):
        # The address sanitizer asks to come first; it works behind this library as well.
        sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        leaks = "suppressions=" + os.path.join(proc.ROOT, "tests", "checks", "lsan.supp")
        return {
            "GATHERD_FAIL": self.path, "LD_PRELOAD": library(), "ASAN_OPTIONS": sanitizer,
            "LSAN_OPTIONS": leaks + ":print_suppressions=0",
        }

    def arm(self, kinds, at=0):
        """From now on calls of these kinds are counted, and number `at` fails (0: none, -1: all)."""
        self.layout.kinds = 0
        self.layout.counted = self.layout.failed = self.layout.not_open = 0
        self.layout.what = self.layout.who = b""
        self.layout.at = at
        self.layout.kinds = kinds

    def disarm(self):
        """Nothing fails or counts any more; returns how many were counted."""
        self.layout.kinds = 0
        return self.layout.counted

    @property
    def failed(self):
        return self.layout.failed

    def check_closes(self):
        """Since it was armed nothing was closed that was not open."""
        assert not self.layout.not_open, "%d closes of no descriptor" % self.layout.not_open

    @property
    def where(self):
        return "%s, called by %s" % (self.layout.what.decode(), self.layout.who.decode())
