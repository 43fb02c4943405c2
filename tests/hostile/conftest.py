"""Senders that mean harm: the helpers and options of `tests/e2e`, and what this suite adds.

    python -m pytest -c tests/e2e/pytest.ini tests/hostile --host mosquitto

Each test has the id of its case in its name. Harm is counted: answers that honest devices get,
datagrams, messages, bytes. No test measures time; a deadline is generous and only ends what hangs.
"""

import pathlib
import sys

import pytest

TESTS = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "e2e"), str(pathlib.Path(__file__).parent)]

from e2e.conftest import *  # noqa: E402, F403 - its options, hooks and fixtures
from e2e.conftest import Bench, listener, psk_file, toml  # noqa: E402
from application import Application  # noqa: E402
from flooding import LIMIT, Honest, limited  # noqa: E402
from gateway import HOSTS, free_udp_port  # noqa: E402
from secure import SecureDevice, pool_lines  # noqa: E402


def pytest_addoption(parser):
    from e2e import conftest

    conftest.pytest_addoption(parser)
    parser.addoption(
        "--slow", action="store_true", help="floods for longer, and a million registrations"
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: runs with --slow alone")


def pytest_runtest_setup(item):
    if "slow" in item.keywords and not item.config.getoption("--slow"):
        pytest.skip("runs with --slow alone")


@pytest.fixture
def own(request, tmp_path, pool):
    """Starts a gateway for one test: `own({"limits.memory": "64MB"})`, with its listeners for
    plain UDP and DTLS. `psk` are lines of its key file, `kind` is how it is started."""
    started = []

    def start(settings=None, psk=None, kind=None, **options):
        settings = {key: toml(value) for key, value in (settings or {}).items()}
        file = pool if psk is None else psk_file(tmp_path / "own-psk", psk)
        address = ("127.0.0.1", free_udp_port())
        kind = kind or HOSTS[request.config.getoption("--host")]
        gateway = kind({**listener(address, file), **settings}, **options)
        gateway.dtls = address
        bench = Bench(gateway, Application(gateway.mqtt))
        started.append(bench)
        return bench

    yield start
    for bench in started:
        for device in bench.devices:
            device.close()
        bench.app.close()
        if bench.gateway.process.poll() is None:
            bench.gateway.stop()


class Arena:
    """One gateway in a process of 1 GB, for all floods: what one leaves behind is there when the
    next begins. A gateway that has died is replaced, so that each flood has its own verdict."""

    def __init__(self, host, psk):
        self.host, self.psk, self.gateway = host, psk, None

    def bench(self, settings):
        if self.gateway is None or self.gateway.process.poll() is not None:
            address = ("127.0.0.1", free_udp_port())
            self.gateway = limited(self.host)({**listener(address, self.psk), **settings})
            self.gateway.dtls = address
            self.at_rest = self.gateway.memory()
        return self.gateway

    def stop(self):
        if self.gateway and self.gateway.process.poll() is None:
            self.gateway.stop()


@pytest.fixture(scope="session")
def arena(request, pool):
    arena = Arena(HOSTS[request.config.getoption("--host")], pool)
    yield arena
    arena.stop()
