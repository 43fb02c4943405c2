"""Stopping under load: every command that the gateway takes is answered, and what it does not take
waits for the next one. `--stop-rounds 20` for more than a look."""

import signal
import threading
import time

import pytest

from application import Application
from coap import GET, TEXT
from conftest import Bench, needs
from gateway import Process, Standalone, binary, free_tcp_port, wait_for
from plain_mqtt import PlainClient
from test_standalone import QOS_1, Mosquitto

pytestmark = pytest.mark.standalone_only

RATE = 700
DEVICES = 10


class Load(threading.Thread):
    """Commands at a rate, whether the broker is there or not."""

    def __init__(self, address, version):
        super().__init__(daemon=True)
        self.client = PlainClient(address, "application", "lwm2m/+/up/resp", version)
        self.sent = 0
        self.done = threading.Event()
        self.start()

    def run(self):
        begin = time.monotonic()
        while not self.done.wait(max(0, begin + self.sent / RATE - time.monotonic())):
            # Two thirds for devices that answer, the others for nobody.
            number = self.sent
            name = f"sim{number % DEVICES}" if number % 3 else f"nobody{number}"
            command = {"reqID": number, "msgType": "read", "data": {"path": "/3/0/0"}}
            self.client.send(number, f"lwm2m/{name}/dn/dm", command)
            self.sent += 1

    def stop(self):
        self.done.set()
        self.join()


def stop_under_load(programs, rounds, start, address, version):
    gateway = start()
    load = Load(address, version)
    for _ in range(rounds):
        server = "coap://%s:%d" % gateway.udp
        options = ["--server", server, "--devices", DEVICES, "--endpoint-prefix", "sim"]
        swarm = Process([binary(), "simulate", *options])
        programs.append(swarm)
        time.sleep(1.5)
        assert gateway.stop(signal.SIGTERM, timeout=20) == 0
        # It would try to say goodbye.
        swarm.stop(signal.SIGKILL)
        assert "not delivered before" not in gateway.log(), gateway.log()
        assert "did not take all" not in gateway.log(), gateway.log()
        gateway = start()
    load.stop()
    client, sent = load.client, set(range(load.sent))
    assert load.sent > RATE * rounds
    try:
        wait_for(lambda: not sent - client.answers.keys(), 30, "every answer")
    except AssertionError:
        lost = sent - client.answers.keys()
        acknowledged = sorted(lost & client.acknowledged)
        pytest.fail(
            f"{len(lost)} of {len(sent)} lost, {len(acknowledged)} of them acknowledged, such as "
            f"{acknowledged[:10]} and {acknowledged[-10:]}"
        )
    client.close()


@pytest.fixture
def rounds(request):
    return request.config.getoption("--stop-rounds")


@needs("mosquitto")
def test_c8_no_command_is_lost_at_the_end_with_another_broker(programs, rounds, tmp_path):
    broker = Mosquitto(tmp_path, programs)
    broker.start()

    def start():
        # Without one of its own it is made of the addresses, and these differ.
        settings = {**QOS_1, "mqtt.client_id": "stopped-and-started"}
        gateway = Standalone(settings, broker=broker.address)
        programs.append(gateway)
        return gateway

    stop_under_load(programs, rounds, start, broker.address, 5)


@pytest.mark.parametrize("version", [pytest.param(4, id="3.1.1"), 5])
def test_c8_no_command_is_lost_at_the_end_of_the_embedded_broker(programs, rounds, version):
    address = ("127.0.0.1", free_tcp_port())

    def start():
        # The same port again: the client comes back there.
        gateway = Standalone(QOS_1, mqtt=address)
        programs.append(gateway)
        return gateway

    stop_under_load(programs, rounds, start, address, version)


@pytest.mark.parametrize("remote", [False, pytest.param(True, marks=needs("mosquitto"))])
def test_c8_a_device_that_is_quick_enough_has_the_last_word(programs, tmp_path, remote):
    broker = None
    if remote:
        broker = Mosquitto(tmp_path, programs)
        broker.start()
    gateway = Standalone(QOS_1, broker=broker and broker.address)
    programs.append(gateway)
    application = Application(gateway.mqtt)
    bench = Bench(gateway, application)
    quick, slow = bench.registered(), bench.registered()
    first = application.command(quick.endpoint, "read", {"path": "/3/0/0"})
    second = application.command(slow.endpoint, "read", {"path": "/3/0/0"})
    request = quick.expect(GET)
    slow.expect(GET)
    gateway.send_signal(signal.SIGTERM)
    wait_for(lambda: "stopping" in gateway.log(), 5, "the order to stop")
    quick.reply(request, "2.05", "in time", TEXT)
    assert gateway.stop() == 0
    assert application.result(first, kind="read").data["content"][0]["value"] == "in time"
    assert application.result(second).data["reason"] == "gateway_stopping"
    application.close()
