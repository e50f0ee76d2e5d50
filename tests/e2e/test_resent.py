# SPDX-License-Identifier: MIT
"""A kept connection dies under a request, which is sent again: the result tells what became of the last
sending. The outcome is the same however the first one ended, and the same as of a request that was
sent once; over TLS as without it."""
import pytest

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD = CHUNKED + b"3\r\nabc\r\nxyz\r\n"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
HALF_HEAD = b"HTTP/1.1 200 OK\r\nContent-Le"

# name: (what the upstream does, type, phase, errno), `cut` = FIN without a close_notify
ANSWERS = {
    "bad-chunk": ((BAD, "stall"), "http_protocol_error", "receive", None),
    "bad-chunk-fin": ((BAD, "fin"), "http_protocol_error", "receive", None),
    "bad-chunk-cut": ((BAD, "cut"), "http_protocol_error", "receive", None),
    "bad-chunk-rst": ((BAD, "rst-now"), "http_protocol_error", "receive", None),
    "half-rst": ((HALF, "rst"), "connection_terminated", "receive", 104),
    "half-fin": ((HALF, "fin"), "http_response_incomplete", "receive", None),
    "half-cut": ((HALF, "cut"), "http_response_incomplete", "receive", None),
    "half-head-rst": ((HALF_HEAD, "rst"), "connection_terminated", "receive", 104),
    "rst": (("rst-now",), "connection_terminated", "wait", 104),
    "fin": (("fin",), "connection_terminated", "wait", None),
    "cut": (("cut",), "connection_terminated", "wait", None),
    "no-http": ((b"<html>\n", "fin"), "http_protocol_error", "wait", None),
}


@pytest.fixture(params=["http", "https"])
def url(request, origin, tls_ports):
    """Makes URLs of the origin, in either scheme."""
    port = tls_ports.port() if request.param == "https" else origin.port
    return lambda path: origin.url(path, port=port, scheme=request.param)


def check(result, name):
    _, kind, phase, os_errno = ANSWERS[name]
    error = result["error"]
    assert (error["type"], error["phase"], error["os_errno"]) == (kind, phase, os_errno), error
    assert error["sent"] is True
    if os_errno is None:
        assert "failure: " not in error["message"], error
    else:
        assert error["message"] == "Recv failure: Connection reset by peer"


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_sent_once(gatherd, origin, url, name):
    origin.raw(name, *ANSWERS[name][0])
    result = gatherd.one({"url": url("/raw/" + name), "fresh_connection": True})
    assert result["num_retries"] == 0 and result["num_connects"] == 1
    assert result["size_download"] == result["size_delivered"]
    check(result, name)


@pytest.mark.parametrize("first", ["rst", "fin", "cut"])
@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_sent_again(gatherd, origin, url, name, first):
    origin.raw(name, *ANSWERS[name][0])
    assert gatherd.one(url("/size/1"))["ok"] is True
    path = "/first/%s/raw/%s" % (first, name)
    result = gatherd.one(url(path))
    assert origin.count(path) == 2 and result["num_retries"] == 1 and result["num_connects"] == 1
    check(result, name)


@pytest.mark.parametrize("first", ["rst", "fin", "cut"])
def test_sent_again_and_answered(gatherd, origin, url, first):
    assert gatherd.one(url("/size/1"))["ok"] is True
    result = gatherd.one(url("/first/%s/size/9" % first))
    assert result["ok"] is True and result["num_retries"] == 1 and result["size_delivered"] == 9


@pytest.mark.parametrize("name", ["rst", "fin", "cut", "bad-chunk"])
def test_bodies_of_all_sendings_are_counted(gatherd, origin, url, name):
    origin.raw(name, *ANSWERS[name][0])
    assert gatherd.one(url("/size/1"))["ok"] is True
    path = "/first/fin/raw/%s" % name
    result = gatherd.one({"url": url(path), "method": "PUT", "body": "0123456789"})
    assert origin.count(path) == 2 and result["num_retries"] == 1
    assert result["size_upload"] == 20 and result["num_connects"] == 1
    check(result, name)


@pytest.mark.parametrize("idle", [1, 3])
@pytest.mark.parametrize("first", ["rst", "fin", "cut"])
def test_what_is_not_sent_again_was_sent(gatherd, origin, url, first, idle):
    """A POST, whose body had gone out whole: what was waited for is the answer, also where another kept
    connection is there, for which libcurl has gone back to the body's beginning."""
    assert gatherd.batch([url("/delay/50/size/%d" % n) for n in range(idle)])["ok"] is True
    path = "/first/%s/size/9" % first
    result = gatherd.one({"url": url(path), "method": "POST", "body": "0123456789"})
    error = result["error"]
    assert (error["type"], error["phase"], error["sent"]) == ("connection_terminated", "wait", True)
    assert origin.count(path) == 1 and result["size_upload"] == 10 and result["num_retries"] == 0


@pytest.mark.parametrize("answer", [b"", HALF])
def test_tls_that_breaks(gatherd, origin, tls_origin, answer):
    """Bytes that are no TLS in the place of a record: no lost connection, and no HTTP."""
    origin.raw("broken", answer, bytearray(b"this is no TLS record"), "stall")
    result = gatherd.one({"url": tls_origin.url("/raw/broken"), "fresh_connection": True})
    error = result["error"]
    assert (error["type"], error["phase"]) == ("tls_protocol_error", "receive" if answer else "wait")
    assert error["os_errno"] is None and result["retryable"] is False
