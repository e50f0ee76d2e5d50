# SPDX-License-Identifier: MIT
"""Random members over every behaviour of the origin: whatever happens, the figures add up.

`contract.check` asserts for each member that the phases are null or not negative, that they sum
up to the total to the microsecond, and that the member lies within its batch. 1,500 members;
10,000 with GATHERD_LONG=1. The seed is printed, and set by GATHERD_SEED.
"""
import os
import random

import pytest

from lib import contract, hostile, proc

MEMBERS = 10000 if os.environ.get("GATHERD_LONG") == "1" else 1500
A_BATCH = 250


def random_path(rng):
    number = rng.randrange
    return rng.choice(
        [
            lambda: "/size/%d" % number(5000),
            lambda: "/delay/%d/size/%d" % (number(120), number(500)),
            lambda: "/status/%d/size/%d"
            % (rng.choice([200, 201, 204, 301, 302, 304, 400, 404, 429, 500, 503]), number(50)),
            lambda: "/redirect/%d/to/size/%d" % (number(1, 13), number(100)),
            lambda: "/redirect/%d/to/delay/%d/size/9" % (number(1, 4), number(40)),
            lambda: "/drip/%d/%d" % (number(1, 20), number(1, 15)),
            lambda: "/never",
            lambda: "/reset",
            lambda: "/reset/after/%d" % number(2000),
            lambda: "/cut/after/%d" % number(2000),
            lambda: "/stall/after/%d" % number(300),
            lambda: "/close/before-head",
            lambda: "/short/%d/%d" % (1000, number(1000)),
            lambda: "/gzip/size/%d" % number(50000),
            lambda: "/br/size/%d" % number(5000),
            lambda: "/chunked/%d" % number(20000),
            lambda: "/trailers/%d/size/%d" % (number(1, 20), number(100)),
            lambda: "/1xx/%d/size/3" % number(10),
            lambda: "/headers/%d/size/3" % number(200),
            lambda: "/http10/size/%d" % number(1000),
            lambda: "/close-after/size/%d" % number(1000),
            lambda: "/close-delimited/size/%d" % number(1000),
            lambda: "/gzip/bomb/3000000",
            lambda: "/infinite",
            lambda: "/echo",
            lambda: "/weird/" + rng.choice(sorted(hostile.WEIRD)),
            lambda: "/weird/" + rng.choice(sorted(hostile.WEIRD)),
        ]
    )()


def random_member(rng, origin, places):
    place = rng.choices(places, [60, 12, 3, 3, 3, 2, 2])[0]
    member = {
        "url": place + (random_path(rng) if place.count(":") > 1 else "/"),
        "timeout_ms": rng.choice([30, 80, 150, 300]),
        "connect_timeout_ms": rng.choice([40, 100, 200]),
        "max_response_bytes": rng.choice([1, 100, 10000, 1 << 20]),
        "max_redirects": rng.choice([0, 1, 5, 10]),
    }
    if rng.random() < 0.2:
        member["method"] = rng.choice(["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
    if rng.random() < 0.2 and member.get("method") not in ("HEAD",):
        member["body"] = "x" * rng.choice([0, 1, 1000, 200000])
    if rng.random() < 0.1:
        member["fresh_connection"] = True
    if rng.random() < 0.1:
        member["queue_timeout_ms"] = rng.choice([1, 20, 100])
    return member


@pytest.mark.parametrize("part", range(MEMBERS // A_BATCH))
def test_figures_add_up(gatherd, origin, tls_origin, dns, refused, blackhole, part):
    seed = int(os.environ.get("GATHERD_SEED", "20261101")) * 1000 + part
    print("GATHERD_SEED part: %d" % seed)
    rng = random.Random(seed)
    dns.add("p%d.prop.test" % part, a=["127.0.0.1"], delay=0.02)
    dns.add("s%d.prop.test" % part, silent=True)
    places = [
        "http://127.0.0.1:%d" % origin.port,
        "https://127.0.0.1:%d" % tls_origin.port(),
        "http://127.0.0.1:%d" % refused,
        "http://127.0.0.1:%d" % blackhole,
        "http://p%d.prop.test:%d" % (part, origin.port),
        "http://s%d.prop.test" % part,
        "https://127.0.0.1:%d" % tls_origin.port("expired"),
    ]
    members = [random_member(rng, origin, places) for _ in range(A_BATCH)]
    fields = {
        "concurrency": rng.choice([20, 50, 100, 200]),
        "deadline_ms": rng.choice([400, 1000, 3000]),
        "include": rng.choice(
            [[], ["headers", "redirects"], ["body", "text_length", "curl"], ["body_sha256"]]
        ),
    }
    if rng.random() < 0.3:
        results, summary = contract.ndjson(
            gatherd.post(
                dict(fields, requests=members), "format=ndjson", timeout=60 * proc.scale()
            ),
            members,
            fields,
        )
    else:
        summary = gatherd.batch(members, **fields)
        results = summary["results"]
    origin.unknown.clear()  # Locations of hostile replies are no scripts
    # Under this load the loop itself may be late; test_time.py holds the promise to the letter.
    assert summary["total_ms"] <= fields["deadline_ms"] + 250 * proc.scale()
    assert summary["concurrency"]["peak"] <= fields["concurrency"]
    for result, member in zip(results, members):
        start = result["start_offset_ms"]
        if start is not None:
            assert 0 <= start <= summary["total_ms"]
            assert abs(
                contract.us(start) - contract.us(result["timings_ms"]["queue"] or 0)
            ) <= contract.us(summary["total_ms"])
        if (
            result["state"] == "done"
            and not result["truncated"]
            and result["num_redirects"] == 0
            and "/size/" in member["url"]
            and "/status/" not in member["url"]
            and "/short/" not in member["url"]
            and result["method"] != "HEAD"
        ):
            assert (
                result["size_delivered"] == int(member["url"].rsplit("/", 1)[1])
                or result["status"] >= 300
            )
        if result["state"] == "done" and result["num_redirects"] == 0:
            assert result["size_delivered"] <= member["max_response_bytes"]


def test_the_daemon_is_unhurt(gatherd, origin):
    """After all that: nothing is active, and a plain batch works."""
    doc = gatherd.batch([origin.url("/size/%d" % n) for n in range(100)])
    assert doc["counts"]["ok"] == 100
    values = gatherd.metrics()
    assert values["gatherd_members_active"] == values["gatherd_members_queued"] == 0
