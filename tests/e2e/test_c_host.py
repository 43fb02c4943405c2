"""What a host in C can do besides: keys, authorization, signals, subscriptions for each device."""

import signal

import pytest

from application import Application
from coap import TEXT
from conftest import Bench
from device import Device
from gateway import CHost, CHostThreaded, Process, binary, free_udp_port, wait_for

pytestmark = pytest.mark.c_only

KEY = b"sixteen bytes !!".hex()


@pytest.fixture(params=[CHost, CHostThreaded], ids=["polled", "threaded"])
def start(request, programs):
    """Starts a host for one test; returns its bench."""
    applications = []

    def start(settings=None, arguments=()):
        gateway = request.param(settings, arguments)
        programs.append(gateway)
        applications.append(Application(gateway.mqtt))
        return Bench(gateway, applications[-1])

    yield start
    for application in applications:
        application.close()


def test_the_host_decides_who_registers(start):
    bench = start(arguments=["--guard"])
    device = bench.registered()
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"
    device.update()
    denied = Device(bench.gateway, "deny-1")
    assert denied.register(expect="4.03").payload == b"not welcome"
    denied.close()
    assert not bench.app.reports("deny-1")
    assert bench.gateway.log().count('authorize {"endpoint":') == 2


def test_the_host_knows_the_keys(start, programs):
    port = free_udp_port()
    bench = start({"listeners.dtls.default.bind": f'"127.0.0.1:{port}"'}, ["--guard"])

    def simulate(identity, key):
        program = Process(
            [
                *(binary(), "simulate", "--server", f"coaps://127.0.0.1:{port}"),
                *("--endpoint-prefix", f"{identity}-", "--psk-identity", identity),
                *("--psk-key", key, "--duration", "4"),
            ]
        )
        programs.append(program)
        return program

    simulate("host-a", KEY)
    simulate("host-b", KEY[::-1])
    stranger = simulate("stranger", KEY)
    bench.app.report("host-a-0")
    assert '"identity":"host-a"' in bench.gateway.log()
    stranger.process.wait(20)
    assert "key of host-b at 127.0.0.1:" in bench.gateway.log()
    assert "key of stranger at 127.0.0.1:" in bench.gateway.log()
    assert not bench.app.reports("host-b-0") and not bench.app.reports("stranger-0")


def test_sighup_and_sigusr1(start):
    bench = start({"publish_deregister": "false"})
    device = bench.registered()
    config = bench.gateway.config
    good = config.read_text()
    config.write_text(good.replace("publish_deregister = false", "publish_deregister = 7"))
    bench.gateway.send_signal(signal.SIGHUP)
    wait_for(lambda: "not reloaded: publish_deregister" in bench.gateway.log(), 5, "the complaint")
    config.write_text(good.replace("publish_deregister = false", "publish_deregister = true"))
    bench.gateway.send_signal(signal.SIGHUP)
    wait_for(lambda: "configuration reloaded" in bench.gateway.log(), 5, "the new configuration")
    assert bench.gateway.statistics()["registrations"] == 1
    device.deregister()
    bench.app.wait(lambda m: m.type == "deregister")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end(start, number):
    bench = start()
    bench.registered()
    assert bench.gateway.stop(number, timeout=5) == 0


def test_c8_what_waits_at_the_end_is_answered(start):
    bench = start()
    device = bench.registered()
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    device.expect(1)
    assert bench.gateway.stop() == 0
    assert bench.app.result(request_id).data["reason"] == "gateway_stopping"


def test_a_subscription_for_each_device(start):
    bench = start(arguments=["--per-device"])
    device = bench.registered()
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"
    # Nobody asked for the commands of a device that is not there.
    request_id = bench.app.command("nobody", "read", {"path": "/3/0/0"})
    bench.app.nothing(lambda m: m.json.get("reqID") == request_id, 0.5)
    device.deregister()
    device.register()
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"
