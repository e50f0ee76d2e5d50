# SPDX-License-Identifier: MIT
"""The raw requests that others collected, as they are and aimed: sent to gatherd's own path under a
name it goes by, so that what is wrong with them is judged by itself and not by their Host."""
import base64
import re

MODES = {
    "whole": lambda raw: [raw],
    "bytes": lambda raw: [raw[i : i + 1] for i in range(len(raw))],
    "lines": lambda raw: re.findall(rb".*?\r\n|.+\Z", raw, re.S),
}
FIRST_WORDS = re.compile(rb"\A((?:\r\n)*)[^\s:]+ +[^\s]+")
HOST = re.compile(rb"^host:[^\r\n]*", re.I | re.M)


def cases(vectors):
    """(key, vector, raw) of each; a name that comes again has a number."""
    seen = {}
    for vector in vectors:
        name = vector["name"]
        seen[name] = seen.get(name, 0) + 1
        key = name if seen[name] == 1 else "%s #%d" % (name, seen[name])
        yield key, vector, base64.b64decode(vector["bytes_b64"])


def aimed(raw):
    """POST /v1/batch to localhost, and ended where it is not; all else as it was."""
    match = FIRST_WORDS.match(raw)
    if match is None:
        return raw + b"\r\n\r\n"
    start = len(match.group(1))
    raw = raw[:start] + b"POST /v1/batch" + raw[match.end() :] + b"\r\n\r\n"
    found = HOST.search(raw, 0, raw.find(b"\r\n\r\n", start))
    if found:
        return raw[: found.start()] + b"Host: localhost" + raw[found.end() :]
    line_end = raw.find(b"\n", start) + 1
    return raw[:line_end] + b"Host: localhost\r\n" + raw[line_end:]


def statuses(got):
    """The status of each answer in a stream of them."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\nDate:", got)]
