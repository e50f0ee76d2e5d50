#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What gathering gained: the answers of the same batch one after the other and gathered."""
import json
import sys

SIZES = [7699, 20875, 19252]
SPEEDUP = 2.5  # (0.500 + 0.500 + 0.577) / 0.577 = 2.73, less what the machine adds


def load(name):
    with open(name, encoding="utf-8") as file:
        return json.load(file)


def main():
    sequential, gathered = load(sys.argv[1]), load(sys.argv[2])
    slowest_ms = max(result["total_ms"] or 0 for result in gathered["results"])
    speedup = sequential["total_ms"] / gathered["total_ms"]
    print(f"one after the other        {sequential['total_ms']:9.3f} ms")
    print(f"gathered                   {gathered['total_ms']:9.3f} ms")
    print(f"  its slowest member       {slowest_ms:9.3f} ms")
    print(f"  what the others added    {gathered['total_ms'] - slowest_ms:9.3f} ms")
    print(f"speedup                    {speedup:9.3f}")
    for name, answer in (("one after the other", sequential), ("gathered", gathered)):
        sizes = [result["size_download"] for result in answer["results"]]
        if not answer["ok"] or sizes != SIZES:
            sys.exit(f"{name}: expected three good answers of {SIZES} bytes, got {sizes}")
    if speedup < SPEEDUP:
        sys.exit(f"the speedup is below {SPEEDUP}")


main()
