# SPDX-License-Identifier: MIT
"""Fixtures of the end-to-end tests. The program under test is $GATHERD, else build/gatherd; where
there is none, everything but the tests of the library itself is skipped, and says so."""
import os
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import dns as dns_server  # noqa: E402
from lib import origin as scripted_origin  # noqa: E402
from lib import proc  # noqa: E402

TEST_LIMIT_S = proc.form(90, 3000)
LOOPBACK = ("policy.default.allow=127.0.0.1", "policy.default.allow=::1")


def pytest_configure(config):
    config.addinivalue_line("markers", "library: tests of tests/lib alone; need no daemon")


def pytest_collection_modifyitems(items):
    if proc.program() is not None:
        return
    skip = pytest.mark.skip(reason="no gatherd: set GATHERD, or build in build/")
    for item in items:
        if "library" not in item.keywords:
            item.add_marker(skip)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """A test that hangs fails, by its own name."""

    def expired(*_):
        raise TimeoutError("%s took more than %d s" % (item.name, TEST_LIMIT_S * proc.scale()))

    previous = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, TEST_LIMIT_S * proc.scale())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture(scope="session")
def origin_server():
    with scripted_origin.Origin() as server:
        yield server


@pytest.fixture
def origin(origin_server):
    """The scripted origin, with nothing seen yet; a path that is no script fails the test."""
    origin_server.reset()
    yield origin_server
    assert not origin_server.unknown, "paths that are no script: %r" % origin_server.unknown


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    tls = pytest.importorskip("lib.tls", reason="python3-cryptography is not installed")
    return tls.Authority(tmp_path_factory.mktemp("ca"))


class TlsOrigin:
    """TLS ports of the origin, one for each certificate, opened when first asked for."""

    def __init__(self, origin, authority):
        self.origin, self.authority, self.ports = origin, authority, {}

    def port(self, name="good", **context):
        key = (name, *sorted(context.items()))
        if key not in self.ports:
            self.ports[key] = self.origin.listen(tls=self.authority.context(name, **context))
        return self.ports[key]

    def url(self, path="/ok", name="good", host="127.0.0.1", **context):
        return self.origin.url(path, port=self.port(name, **context), host=host, scheme="https")


@pytest.fixture(scope="session")
def tls_ports(origin_server, authority):
    return TlsOrigin(origin_server, authority)


@pytest.fixture
def tls_origin(origin, tls_ports):
    return tls_ports


@pytest.fixture(scope="session")
def dns_service():
    with dns_server.Server() as server:
        yield server


@pytest.fixture
def dns(dns_service):
    """The scripted name server. Names are cached by a module's daemon: use a name only once."""
    dns_service.reset()
    return dns_service


@pytest.fixture(scope="session")
def base_options(authority, dns_service):
    """What every daemon here is started with: own trust, own name server."""
    return ("fetch.ca_file=" + authority.ca_file, "fetch.dns_servers=" + dns_service.address)


@pytest.fixture(scope="module")
def module_daemon(base_options):
    """A list of the one daemon that the tests of a module share, loopback allowed; its clean end is
    asserted after the last test."""
    running = [proc.Gatherd(*LOOPBACK, *base_options)]
    yield running
    try:
        running[0].stop()
    finally:
        running[0].kill()


@pytest.fixture
def gatherd(module_daemon, base_options):
    """The module's daemon. A test that kills it fails by itself; the next one has a new daemon."""
    yield module_daemon[0]
    dead = module_daemon[0]
    if dead.process.poll() is not None:
        dead.reader.join(5)
        dead.kill()
        module_daemon[0] = proc.Gatherd(*LOOPBACK, *base_options)
        pytest.fail("gatherd died, status %d\n%s" % (dead.process.returncode, dead.tail()))


@pytest.fixture
def spawn(base_options):
    """Starts daemons with options of a test's own; all must end cleanly."""
    started = []

    def start(*options, loopback=True, **more):
        daemon = proc.Gatherd(*(LOOPBACK if loopback else ()), *base_options, *options, **more)
        started.append(daemon)
        return daemon

    yield start
    try:
        for daemon in started:
            daemon.stop()
    finally:
        for daemon in started:
            daemon.kill()


@pytest.fixture
def offline(tmp_path, base_options):
    """Starts daemons in a network of their own with no way out, reached by a Unix socket: what is
    allowed fails as unroutable at once, and no packet leaves this machine."""
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user and network namespaces (unshare -rn)")
    started = []

    def start(*options):
        path = tmp_path / ("gatherd-%d" % len(started))
        started.append(
            proc.Gatherd(*base_options, *options, bind="unix:%s" % path, wrapper=("unshare", "-rn"))
        )
        return started[-1]

    yield start
    try:
        for daemon in started:
            daemon.stop()
    finally:
        for daemon in started:
            daemon.kill()


@pytest.fixture
def refused():
    """A port of 127.0.0.1 on which nobody listens."""
    closed = scripted_origin.ClosedPort()
    yield closed.port
    closed.close()


@pytest.fixture
def blackhole():
    """A port of 127.0.0.1 that drops SYNs."""
    hole = scripted_origin.Blackhole()
    yield hole.port
    hole.close()
