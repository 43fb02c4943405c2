import os
import pathlib
import shutil
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from application import Application  # noqa: E402
from device import Device  # noqa: E402
from gateway import HOSTS, free_udp_port  # noqa: E402
from secure import SecureDevice, fresh_identity, key_of, pool_lines  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--host", default="standalone", choices=sorted(HOSTS))
    parser.addoption(
        "--transport", default="udp", choices=["udp", "dtls"], help="of the scripted devices"
    )
    parser.addoption(
        "--stop-rounds", type=int, default=2, help="how often a loaded gateway is stopped"
    )


def pytest_collection_modifyitems(config, items):
    """Leaves out what is about another host or transport: `pytest.mark.HOST_only`, `udp_only`."""
    host, transport = config.getoption("--host"), config.getoption("--transport")
    others = {f"{other}_only" for other in HOSTS if other != host}
    others |= {"udp_only"} if transport != "udp" else set()
    left_out = [item for item in items if others & {mark.name for mark in item.iter_markers()}]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


class Bench:
    """A running gateway, an application and any number of devices."""

    def __init__(self, gateway, application, kind=Device):
        self.gateway, self.app, self.kind = gateway, application, kind
        self.devices = []

    def device(self, endpoint=None, **options):
        """A device that has not said anything yet."""
        device = self.kind(self.gateway, endpoint, **options)
        self.devices.append(device)
        return device

    def registered(self, *args, endpoint=None, **kwargs):
        """A registered device the application knows of."""
        device = self.device(endpoint)
        device.register(*args, **kwargs)
        self.app.report(device.endpoint)
        return device

    def read(self, device, path, *reply, **kwargs):
        """A read answered at once; returns what the application gets."""
        request_id = self.app.command(device.endpoint, "read", {"path": path})
        request = device.expect(1)
        device.reply(request, *reply, **kwargs)
        return self.app.result(request_id, kind="read")


def listener(address, psk_file):
    if not psk_file:
        return {}
    return {
        "listeners.dtls.default.bind": toml("%s:%d" % address),
        "listeners.dtls.default.psk_file": toml(str(psk_file)),
    }


class Gateways:
    """Gateways by their settings; each is started once a run."""

    def __init__(self, host):
        self.host = host
        self.running = {}

    def __call__(self, settings=None, psk_file=None):
        """With a `psk_file` there is a DTLS listener too, at `gateway.dtls`."""
        key = (psk_file, *sorted((settings or {}).items()))
        if key not in self.running:
            address = ("127.0.0.1", free_udp_port()) if psk_file else None
            gateway = self.host({**listener(address, psk_file), **(settings or {})})
            gateway.dtls = address
            self.running[key] = (gateway, Application(gateway.mqtt))
        gateway, application = self.running[key]
        assert gateway.process.poll() is None, f"the gateway has ended:\n{gateway.log()[-3000:]}"
        return gateway, application

    def stop(self):
        problems = []
        for gateway, application in self.running.values():
            application.close()
            try:
                code = gateway.stop()
            except AssertionError as error:
                problems.append(str(error)[-2000:])
                continue
            if code != 0 or "panicked" in gateway.log():
                problems.append(f"exit code {code} of {gateway.command}:\n{gateway.log()[-2000:]}")
        self.running.clear()
        assert not problems, "\n".join(problems)


@pytest.fixture(scope="session")
def gateways(request):
    gateways = Gateways(HOSTS[request.config.getoption("--host")])
    yield gateways
    gateways.stop()


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """A PSK file with the identities of `secure.fresh_identity`."""
    return psk_file(tmp_path_factory.mktemp("psk") / "pool", pool_lines())


def psk_file(path, lines):
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def gateway(request, gateways):
    """Starts (or finds) a gateway with these settings: `gateway({"queue.max_commands": 3})`."""
    benches = []

    def start(settings=None):
        settings = {key: toml(value) for key, value in (settings or {}).items()}
        if request.config.getoption("--transport") == "udp":
            bench = Bench(*gateways(settings))
        else:
            pool = request.getfixturevalue("pool")
            bench = Bench(*gateways(settings, pool), SecureDevice)
        benches.append(bench)
        return bench

    yield start
    for bench in benches:
        for device in bench.devices:
            device.close()


@pytest.fixture
def secure(gateways, pool, tmp_path):
    """Starts (or finds) a gateway with a DTLS listener: `secure({"takeover": "end"})`. Its devices
    have identities of the pool, or with `psk` those of these lines; `settings` are others."""
    benches = []

    def start(options=None, psk=None, settings=None):
        settings = dict(settings or {})
        for key, value in (options or {}).items():
            settings[f"listeners.dtls.default.{key}"] = value
        settings = {key: toml(value) for key, value in settings.items()}
        file = pool if psk is None else psk_file(tmp_path / "psk", psk)
        bench = Bench(*gateways(settings, file), SecureDevice)
        bench.psk_file = file
        benches.append(bench)
        return bench

    yield start
    for bench in benches:
        for device in bench.devices:
            device.close()


@pytest.fixture
def bench(gateway):
    """The gateway with its default settings."""
    return gateway()


@pytest.fixture
def client(bench, clients):
    """A device of LwM2M 1.2 at the gateway with its default settings."""
    return clients(bench)


@pytest.fixture
def clients(request):
    """Registers devices: `clients(bench, "Q", known=[112])`."""
    pytest.importorskip("aiocoap", reason="aiocoap is not installed")
    pytest.importorskip("cbor2", reason="cbor2 is not installed")
    from client import Client

    started = []
    secured = request.config.getoption("--transport") == "dtls"
    if secured:
        pytest.importorskip("DTLSSocket", reason="DTLSSocket is not installed")

    def start(bench, *query, lwm2m="1.2", ct=None, **kwargs):
        if secured:
            kwargs["credentials"] = ((identity := fresh_identity()), key_of(identity))
        client = Client(bench.gateway, **kwargs)
        started.append(client)
        client.register(*query, lwm2m=lwm2m, ct=ct)
        bench.app.report(client.endpoint)
        return client

    yield start
    for client in started:
        client.close()


def toml(value):
    """Text that begins with a bracket is TOML already."""
    if isinstance(value, bool):
        return str(value).lower()
    if str(value).startswith(("[", "{")) and str(value).endswith(("]", "}")):
        return value
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.fixture(scope="session")
def cache():
    """Where the test command keeps what it fetched."""
    return pathlib.Path(os.environ.get("E2E_CACHE", pathlib.Path(__file__).parents[1] / ".cache"))


@pytest.fixture
def programs():
    """Programs of a test; they are ended with it."""
    started = []
    yield started
    for program in started:
        if program.process.poll() is None:
            program.stop(signal.SIGKILL)


def needs(program):
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"{program} is not installed"
    )
