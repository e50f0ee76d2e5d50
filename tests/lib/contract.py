# SPDX-License-Identifier: MIT
"""The answer's contract, asserted for every answer that a test gets.

`check` takes the bytes of a JSON answer: exactly the documented fields, results in the order
asked, counts and sizes that add up, and timings that add up to the microsecond. Figures are read
as decimals, so that "adds up" means equal and not nearly equal.
"""
import decimal
import json
import re
import urllib.parse

PHASES = ("queue", "dns", "connect", "tls", "send", "wait", "receive")
STATES = ("done", "failed", "denied", "cancelled")
SIZES = ("size_request", "size_upload", "size_header", "size_download", "size_delivered")
TOP = (
    "schema_version",
    "batch_id",
    "ok",
    "complete",
    "started_at",
    "total_ms",
    "counts",
    "status_codes",
    "errors",
    "sizes",
    "latency_ms",
    "concurrency",
    "critical_path",
    "daemon",
    "results",
    "retry",
)
COUNTS = (
    "requests",
    "done",
    "ok",
    "http_error",
    "failed",
    "timed_out",
    "denied",
    "cancelled",
    "retried",
    "reused_connections",
)
RESULT = (
    "index",
    "id",
    "ok",
    "state",
    "url",
    "url_effective",
    "method",
    "scheme",
    "status",
    "http_version",
    "content_type",
    "remote_ip",
    "remote_port",
    "num_connects",
    "num_redirects",
    "num_retries",
    "started_at",
    "start_offset_ms",
    "ttfb_ms",
    "total_ms",
    "timings_ms",
    *SIZES,
    "truncated",
    "speed_download",
    "retryable",
    "retry_after_ms",
    "error",
)
ERROR = ("type", "phase", "message", "exitcode", "os_errno", "rule", "sent")
LATENCY = ("min", "mean", "p50", "p90", "p95", "p99", "max")
ERROR_TYPES = frozenset(
    """
    dns_error dns_timeout connection_refused connection_timeout connection_terminated
    connection_read_timeout connection_write_timeout destination_unavailable
    destination_ip_prohibited destination_ip_unroutable tls_protocol_error tls_certificate_error
    http_request_denied http_response_incomplete http_response_header_section_size
    http_response_content_coding http_response_timeout http_protocol_error proxy_internal_error
    proxy_loop_detected url_invalid too_many_redirects queue_timeout deadline_exceeded cancelled
    expectation_failed""".split()
)
TIMEOUTS = frozenset(
    [
        "dns_timeout",
        "connection_timeout",
        "connection_read_timeout",
        "connection_write_timeout",
        "http_response_timeout",
        "queue_timeout",
    ]
)
RETRYABLE_STATUS = frozenset([408, 429, 500, 502, 503, 504])
INCLUDED = {
    "headers": ("headers",),
    "body": ("body", "body_base64"),
    "body_sha256": ("body_sha256",),
    "text_length": ("text_length",),
    "redirects": ("redirects",),
    "curl": ("curl",),
}
STARTED_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")


def loads(data):
    """JSON with numbers as Decimal where they have a point, and no duplicate keys."""
    return json.loads(data, parse_float=decimal.Decimal, object_pairs_hook=_unique)


def _unique(pairs):
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), "duplicate keys: %r" % names
    return dict(pairs)


def us(ms):
    """Milliseconds with at most three decimals to whole microseconds; None stays None."""
    if ms is None:
        return None
    value = decimal.Decimal(ms) * 1000
    assert value == value.to_integral_value(), "%s ms is finer than a microsecond" % ms
    return int(value)


def check(data, requests=None, fields=None, query=""):
    """Asserts a whole JSON answer; returns it decoded."""
    doc = loads(data)
    assert tuple(sorted(doc)) == tuple(sorted(TOP)), sorted(set(doc) ^ set(TOP))
    include = asked(fields or {}, query)
    results = doc["results"]
    check_summary(doc, results)
    if requests is not None:
        assert len(results) == len(requests)
    for index, result in enumerate(results):
        member = requests[index] if requests is not None else None
        check_result(result, index, member, include)
        check_span(result, doc)
    return doc


def asked(fields, query):
    """The include list of a batch, from its body or its query."""
    if "include" in fields:
        return list(fields["include"])
    values = urllib.parse.parse_qs(query).get("include", [""])
    return [name for name in values[0].split(",") if name]


def check_summary(doc, results):
    """Everything but the results themselves; results may be a list from NDJSON."""
    assert doc["schema_version"] == 1
    assert isinstance(doc["batch_id"], str) and doc["batch_id"]
    assert STARTED_AT.match(doc["started_at"]), doc["started_at"]
    assert us(doc["total_ms"]) >= 0
    counts = doc["counts"]
    assert tuple(counts) == COUNTS, list(counts)
    states = [r["state"] for r in results]
    assert counts["requests"] == len(results)
    for state in STATES:
        assert counts[state] == states.count(state), (state, counts)
    assert counts["requests"] == sum(counts[state] for state in STATES)
    assert counts["ok"] == sum(r["ok"] for r in results)
    assert doc["ok"] is (counts["ok"] == counts["requests"])
    assert counts["timed_out"] == sum(
        1 for r in results if r["state"] == "failed" and r["error"]["type"] in TIMEOUTS
    ), counts
    assert counts["http_error"] == sum(
        1 for r in results if r["state"] == "done" and r["status"] >= 400
    )
    assert counts["retried"] == sum(1 for r in results if r["num_retries"])
    _check_tables(doc, results)
    _check_latency(doc["latency_ms"], results)
    _check_concurrency(doc, results)
    assert tuple(doc["daemon"]) == ("loop_lag_max_ms", "overhead_ms")
    assert all(us(v) >= 0 for v in doc["daemon"].values())
    _check_retry(doc["retry"], results)


def _check_tables(doc, results):
    codes, errors = {}, {}
    for result in results:
        if result["status"] is not None and result["state"] == "done":
            key = str(result["status"])
            codes[key] = codes.get(key, 0) + 1
        if result["error"] is not None:
            key = result["error"]["type"]
            errors[key] = errors.get(key, 0) + 1
    assert doc["status_codes"] == codes
    assert doc["errors"] == errors
    assert set(errors) <= ERROR_TYPES
    assert tuple(doc["sizes"]) == SIZES
    for name in SIZES:
        assert doc["sizes"][name] == sum(r[name] or 0 for r in results), name


def _check_latency(latency, results):
    done = [r for r in results if r["state"] == "done"]
    assert latency["population"] == "done" and latency["count"] == len(done)
    for name, field in (("total", "total_ms"), ("ttfb", "ttfb_ms")):
        stats = latency[name]
        if not done:
            assert stats is None or all(v is None for v in stats.values()), stats
            continue
        assert tuple(stats) == LATENCY
        values = sorted(us(r[field]) for r in done if r[field] is not None)
        assert us(stats["min"]) == values[0] and us(stats["max"]) == values[-1], (stats, values[:3])
        assert abs(us(stats["mean"]) - sum(values) / len(values)) <= 1
        figures = [us(stats[k]) for k in ("min", "p50", "p90", "p95", "p99", "max")]
        assert figures == sorted(figures), stats
        for rank in (50, 90, 95, 99):
            nearest = values[max(0, -(-rank * len(values) // 100) - 1)]
            assert us(stats["p%d" % rank]) == nearest, (rank, stats)


def _check_concurrency(doc, results):
    figures = doc["concurrency"]
    assert tuple(figures) == ("limit", "peak", "sequential_ms", "speedup")
    assert 0 <= figures["peak"] <= figures["limit"]
    assert us(figures["sequential_ms"]) == sum(us(r["total_ms"]) or 0 for r in results)
    path = doc["critical_path"]
    if path is None:
        assert all(r["started_at"] is None for r in results)
        return
    assert tuple(path) == ("index", "phase", "ms", "saves_ms")
    timings = results[path["index"]]["timings_ms"] if len(results) > path["index"] else None
    assert path["phase"] in PHASES
    if timings is not None and results[path["index"]]["index"] == path["index"]:
        assert us(path["ms"]) == (us(timings[path["phase"]]) or 0)
    assert 0 <= us(path["saves_ms"]) <= us(doc["total_ms"])


def _check_retry(retry, results):
    again = [r for r in results if r["retryable"]]
    assert (retry is None) or again, "retry without a retryable member"
    if retry is not None:
        assert len(retry["requests"]) == len(again)


def check_result(result, index, member=None, include=()):
    """One entry of `results`, wherever it came from."""
    names = set(RESULT)
    for field in include:
        names |= set(INCLUDED[field])
    extra = set(result) - names
    assert set(RESULT) <= set(result) and not extra, (set(RESULT) - set(result), extra)
    assert result["index"] == index and result["state"] in STATES
    for field in include:
        assert any(name in result for name in INCLUDED[field]), field
    check_timings(result)
    _check_error(result)
    _check_outcome(result)
    if member is not None:
        _check_echo(result, member)


def _check_echo(result, member):
    if isinstance(member, str):
        assert result["id"] is None
    else:
        assert result["id"] == member.get("id")
        if "method" in member:
            assert result["method"] == member["method"]


def check_timings(result):
    """They add up, are never negative, and say null where nothing happened."""
    timings = result["timings_ms"]
    assert tuple(timings) == PHASES + ("total",), list(timings)
    parts = {p: us(timings[p]) for p in PHASES}
    total = us(timings["total"])
    assert all(v is None or v >= 0 for v in parts.values()), timings
    assert total == sum(v or 0 for v in parts.values()), timings
    work = us(result["total_ms"])
    if work is None:
        assert result["started_at"] is None and result["start_offset_ms"] is None
        assert result["ttfb_ms"] is None
        assert all(parts[p] is None for p in PHASES if p != "queue"), timings
        assert total == (parts["queue"] or 0)
        return
    assert STARTED_AT.match(result["started_at"]) and us(result["start_offset_ms"]) >= 0
    assert work == sum(parts[p] or 0 for p in PHASES if p != "queue"), (work, timings)
    assert total == (parts["queue"] or 0) + work
    if result["ttfb_ms"] is not None:
        assert 0 <= us(result["ttfb_ms"]) <= work, (result["ttfb_ms"], work)


def check_span(result, doc):
    """A member lies within its batch."""
    if result["total_ms"] is None:
        return
    end = us(result["start_offset_ms"]) + us(result["total_ms"])
    assert end <= us(doc["total_ms"]), (end, doc["total_ms"])


def _check_error(result):
    error = result["error"]
    if result["state"] == "done":
        assert error is None, error
        return
    assert tuple(error) == ERROR, list(error)
    assert error["type"] in ERROR_TYPES, error
    assert error["phase"] is None or error["phase"] in PHASES
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["sent"], bool)
    assert result["ok"] is False
    for name in ("exitcode", "os_errno"):
        assert error[name] is None or error[name] > 0, error
    denied = error["type"] in (
        "destination_ip_prohibited",
        "http_request_denied",
        "proxy_loop_detected",
    )
    assert (result["state"] == "denied") == denied, error
    if result["state"] == "cancelled":
        assert error["type"] in ("deadline_exceeded", "cancelled"), error


def _check_outcome(result):
    if result["state"] == "done":
        assert isinstance(result["status"], int) and 100 <= result["status"] <= 999
        assert result["ok"] is (result["status"] < 400)
        assert result["retryable"] is (result["status"] in RETRYABLE_STATUS)
        assert result["http_version"] in ("1.0", "1.1", "2", "3"), result["http_version"]
        assert result["remote_ip"] and result["remote_port"] > 0
        assert result["ttfb_ms"] is not None
    assert isinstance(result["truncated"], bool)
    for name in SIZES:
        assert result[name] is None or result[name] >= 0
    if result["url"] is not None:
        assert "secret" not in result["url"], "credentials are never echoed"


def problem(reply, status=400):
    """Asserts an RFC 9457 document; returns it."""
    assert reply.status == status, reply
    assert reply.type == "application/problem+json", reply
    doc = reply.json()
    assert doc["status"] == status and doc["title"] and isinstance(doc.get("detail", ""), str), doc
    return doc


def ndjson(reply, requests=None, fields=None, query=""):
    """Asserts an NDJSON answer; returns (results by index, summary)."""
    assert reply.status == 200 and reply.type == "application/x-ndjson", reply
    assert reply.body.endswith(b"\n")
    lines = [loads(line) for line in reply.body.splitlines()]
    kinds = [line.pop("type") for line in lines]
    assert kinds[-1] == "summary" and set(kinds[:-1]) <= {"result", "ping"}, kinds
    results = sorted(
        (line for line, kind in zip(lines, kinds) if kind == "result"), key=lambda r: r["index"]
    )
    summary = lines[-1]
    assert set(summary) == set(TOP) - {"results"}, set(summary) ^ (set(TOP) - {"results"})
    check_summary(summary, results)
    include = asked(fields or {}, query)
    for index, result in enumerate(results):
        check_result(result, index, requests[index] if requests else None, include)
        check_span(result, summary)
    return results, summary


SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})? (NaN|[+-]?Inf|[-+0-9.eE]+)\Z")


def metrics(reply):
    """Asserts the Prometheus text format; returns {name with labels: value}."""
    assert reply.status == 200 and reply.type == "text/plain", reply
    assert "version=0.0.4" in reply.header("Content-Type")
    values, kinds, family = {}, {}, None
    text = reply.body.decode()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# "):
            _, word, family, rest = line.split(" ", 3)
            assert word in ("HELP", "TYPE"), line
            if word == "TYPE":
                assert family not in kinds and rest in (
                    "counter",
                    "gauge",
                    "histogram",
                    "summary",
                ), line
                kinds[family] = rest
            continue
        match = SAMPLE.match(line)
        assert match, line
        name = match.group(1)
        base = re.sub(r"_(bucket|sum|count)\Z", "", name)
        assert name in kinds or kinds.get(base) in ("histogram", "summary"), "no TYPE: " + line
        assert line.split(" ")[0] not in values, "twice: " + line
        values[name + (match.group(2) or "")] = float(match.group(3))
    assert values
    return values
