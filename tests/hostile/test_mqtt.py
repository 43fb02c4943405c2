"""Brokers, and clients of the embedded broker, that mean harm or go away."""

import json
import random
import signal
import socket
import time

import pytest

from application import Application
from broker import Broker
from coap import POST
from device import Device
from flooding import Flood, status
from gateway import Standalone, free_tcp_port

pytestmark = pytest.mark.standalone_only
SENML_JSON = 110


@pytest.fixture
def started():
    """Gateways and brokers of a test, which end with it."""
    found = []
    yield found
    for one in found:
        if isinstance(one, Broker):
            one.close()
        elif one.process.poll() is None:
            one.stop(signal.SIGKILL)


# C8


@pytest.mark.parametrize("turn", range(3))
def test_c8_stopping_under_load_loses_nothing(started, turn):
    """Each command that the gateway has acknowledged to its broker is answered there, though
    SIGTERM comes while they stream in."""
    broker = Broker(free_tcp_port())
    started.append(broker)
    settings = {"translators.command.qos": "1", "translators.response.qos": "1"}
    gateway = Standalone(settings, broker=broker.address)
    started.append(gateway)
    assert broker.subscribed.wait(20)
    # Some that wait in a device's queue as well, and some under way.
    device = Device(gateway)
    device.register(extra=["b=UQ"])
    sent = {}
    stop_at = random.Random(turn).randrange(300, 900)
    stopping = None
    for number in range(4000):
        name = device.endpoint if number % 20 == 0 and number < 400 else f"nobody-{number}"
        command = {"reqID": number, "msgType": "read", "data": {"path": "/3/0/0"}}
        try:
            sent[broker.command(f"lwm2m/{name}/dn/dm", json.dumps(command).encode())] = number
        except OSError:
            break  # the gateway has closed the connection
        if number == stop_at:
            gateway.send_signal(signal.SIGTERM)
            stopping = time.monotonic()
        time.sleep(1 / 1500)
        if stopping and time.monotonic() - stopping > 2:
            break
    assert gateway.process.wait(30) == 0
    time.sleep(0.3)
    answered = {
        json.loads(payload).get("reqID")
        for topic, payload, _ in broker.published
        if topic.endswith("/up/resp")
    }
    lost = [sent[packet] for packet in broker.acknowledged if sent[packet] not in answered]
    assert broker.acknowledged and not lost, f"{len(lost)} of {len(broker.acknowledged)}: {lost}"
    device.close()


# C9


def test_c9_a_broker_that_is_away(started):
    """What waits for it is bounded in bytes."""
    nowhere = ("127.0.0.1", free_tcp_port())
    gateway = Standalone(broker=nowhere)
    started.append(gateway)
    device = Device(gateway)
    device.register()
    before = status(gateway.pid, "VmRSS")
    value = "x" * 60_000
    for number in range(4000):
        payload = json.dumps([{"n": "/3/0/0", "vs": value, "bt": 1_700_000_000 + number}])
        answer = device.request(POST, "/dp", payload=payload, content_format=SENML_JSON, timeout=20)
        assert answer.code >> 5 in (2, 5), f"{answer}"
    assert status(gateway.pid, "VmRSS") - before < 128 << 20
    # Its counters tell what did not fit.
    counters = gateway.statistics()
    assert counters["publish_dropped"] > 0 or counters.get("publish_dropped_bytes", 0) > 0
    device.update()
    device.close()
    assert gateway.stop() == 0


# C12. Who is let in, and how long a connection may stay silent, is the broker's business; that
# neither does harm to devices and to those who are in is ours.


def test_c12_silent_connections_harm_nobody(own):
    """Connections that send nothing, or half a CONNECT: clients come in, devices are served."""
    bench = own()
    silent = []
    for number in range(200):
        sock = socket.create_connection(bench.gateway.mqtt, 5)
        if number % 2:
            sock.send(b"\x10\x40\0\x04MQTT")
        silent.append(sock)
    device = bench.registered()
    assert bench.read(device, "/3/0/0", "2.05", "x", 0).data["code"] == "2.05"
    Application(bench.gateway.mqtt).close()
    for sock in silent:
        sock.close()
    assert bench.read(device, "/3/0/0", "2.05", "y", 0).data["code"] == "2.05"


def test_c12_password_guesses_harm_nobody(own):
    """Guesses get nobody in and fill no log; devices are served."""
    gateway = Standalone({"mqtt.username": '"admin"', "mqtt.password": '"right"'})
    device = Device(gateway)
    try:
        before = len(gateway.log())
        flood = Flood("connects", gateway.mqtt, count=5000, seconds=5)
        device.register()
        for _ in range(20):
            device.update()
        result = flood.result()
        assert result["sent"] > 0 and result["received"] == 0, "nobody guesses right"
        device.update()
        assert len(gateway.log()) - before < 20_000
    finally:
        device.close()
        assert gateway.stop() == 0
