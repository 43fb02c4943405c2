"""The gateway as a client of brokers of other makers, and several gateways on one of them."""

import json
import signal
import time

import pytest

import brokers
from application import Application
from coap import GET, TEXT
from conftest import Bench
from gateway import Standalone, wait_for

pytestmark = pytest.mark.standalone_only

QOS_1 = {
    f"translators.{name}.qos": "1" for name in ("command", "response", "notify", "register", "update")
}
KINDS = ("mosquitto", "rabbitmq", "aedes")
SUBSCRIBE = ("shared", "per-device")


@pytest.fixture
def broker(tmp_path, programs, cache):
    """Starts a broker: `broker("rabbitmq")`."""

    def start(kind):
        if reason := brokers.missing(kind, cache):
            pytest.skip(reason)
        broker = brokers.broker(kind, tmp_path, programs, cache)
        broker.start()
        return broker

    return start


@pytest.fixture
def start(programs):
    """Starts a gateway at a broker, and with it an application that every broker can serve."""
    applications = []

    def start(broker, settings=None, **options):
        gateway = Standalone({**QOS_1, **(settings or {})}, broker.address)
        programs.append(gateway)
        # Of MQTT 3.1.1, with a session.
        name = f"application-{len(applications)}"
        options = {"client_id": name, "clean": False, **options}
        application = Application(broker.address, **options)
        applications.append(application)
        wait_for(lambda: "connected" in gateway.log(), 20, "the connection")
        return Bench(gateway, application)

    yield start
    for application in applications:
        application.close()


def answers(bench, device, text):
    """Whether a command goes to the device and its answer to the application."""
    return bench.read(device, "/3/0/0", "2.05", text, TEXT).data["content"][0]["value"] == text


@pytest.mark.parametrize("kind", KINDS)
def test_b16_any_broker(broker, start, kind):
    bench = start(broker(kind))
    device = bench.registered()
    assert answers(bench, device, "x")
    result = bench.app.result(bench.app.command("nobody", "read", {"path": "/3/0/0"}))
    assert result.data["reason"] == "not_registered"
    log = bench.gateway.log()
    lacking = log.count("connected with MQTT 3.1.1, which lacks")
    assert (lacking, log.count("trying MQTT 3.1.1")) == ((0, 0) if kind == "mosquitto" else (1, 1))
    assert "cannot connect" not in log


@pytest.mark.parametrize("kind", ("mosquitto", "rabbitmq"))
def test_b16_version_3_1_1_when_it_is_wanted(broker, start, kind):
    bench = start(broker(kind), {"mqtt.version": '"3.1.1"'})
    device = bench.registered()
    assert answers(bench, device, "x")
    assert "trying" not in bench.gateway.log()


def test_b16_version_5_when_it_is_wanted(broker, programs):
    aedes = broker("aedes")
    gateway = Standalone({"mqtt.version": '"5"'}, aedes.address)
    programs.append(gateway)
    wait_for(lambda: "no answer to CONNECT of MQTT 5" in gateway.log(), 10, "the reason")
    assert "trying MQTT 3.1.1" not in gateway.log()


@pytest.mark.parametrize("subscribe", SUBSCRIBE)
@pytest.mark.parametrize("kind", KINDS)
def test_b7_b16_nothing_of_qos_1_is_lost_over_a_restart_of_the_broker(
    broker, start, kind, subscribe
):
    there = broker(kind)
    bench = start(there, {"mqtt.subscribe": subscribe})
    device = bench.registered()
    request_id = bench.app.command(device.endpoint, "observe", {"path": "/3/0/9"})
    request = device.expect(GET)
    device.reply(request, "2.05", "0", TEXT, observe=1)
    bench.app.result(request_id)
    there.stop()
    for number in range(2, 52):
        device.notify(request, number, str(number))
    there.start()
    # Aedes forgets its sessions: who is there later than the gateway misses what it publishes.
    if kind != "aedes":

        def seen():
            published = bench.app.all(
                lambda m: m.type == "notify" and m.json["reqID"] == request_id
            )
            return {m.json["seqNum"] for m in published}

        wait_for(lambda: len(seen()) == 50, 60, "all notifications")
    wait_for(bench.app.client.is_connected, 20, "the application is back")
    wait_for(lambda: connections(bench) == 2, 60, "the gateway is back")
    device.update()
    assert answers(bench, device, "x")


@pytest.mark.parametrize("subscribe", SUBSCRIBE)
@pytest.mark.parametrize("kind", KINDS)
def test_b16_no_command_of_qos_1_is_lost_over_a_restart_of_the_broker(
    broker, start, kind, subscribe
):
    there = broker(kind)
    bench = start(there, {"mqtt.subscribe": subscribe})
    device = bench.registered()
    numbers = range(1, 31)

    def send():
        for number in numbers:
            command = {"reqID": number, "msgType": "read", "data": {"path": f"/33000/0/{number}"}}
            topic = f"lwm2m/{device.endpoint}/dn/dm"
            bench.app.client.publish(topic, json.dumps(command), 1)

    there.stop()
    wait_for(lambda: not bench.app.client.is_connected(), 10, "the application has noticed")
    if kind == "aedes":
        # It forgets its sessions: who is there later than the application misses what it publishes.
        there.start()
        wait_for(lambda: connections(bench) == 2, 60, "the gateway is back")
        wait_for(bench.app.client.is_connected, 20, "the application is back")
        send()
    else:
        # The broker has all of it before the gateway is back.
        bench.gateway.send_signal(signal.SIGSTOP)
        taken = []
        bench.app.client.on_publish = lambda *_: taken.append(1)
        send()
        there.start()
        wait_for(lambda: len(taken) == len(numbers), 60, "the broker has the commands")
        bench.gateway.send_signal(signal.SIGCONT)
    left = set(numbers)
    while left:
        request = device.expect(GET, timeout=60)
        device.reply(request, "2.05", f"at {request.path}", TEXT)
        left.discard(int(request.path.rpartition("/")[2]))
    for number in numbers:
        answer = bench.app.result(number, timeout=30, kind="read")
        assert answer.data["content"][0]["value"] == f"at /33000/0/{number}"


def connections(bench):
    return bench.gateway.log().count(" INFO connected ")


@pytest.mark.parametrize("kind", KINDS)
def test_b7_a_command_for_a_device_of_one_of_two_gateways_is_answered_once(broker, start, kind):
    there = broker(kind)
    benches = [start(there, {"mqtt.subscribe": "per-device"}) for _ in range(2)]
    devices = [bench.registered() for bench in benches]
    for bench, device in zip(benches, devices):
        for _ in range(3):
            request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
            device.reply(device.expect(GET), "2.05", "x", TEXT)
            answer = bench.app.result(request_id, kind="read")
            assert answer.data["content"][0]["value"] == "x"
            # Whoever was to answer as well would have done so before this.
            assert answers(bench, device, "y")
            assert [m.type for m in bench.app.results(request_id) if m.type != "ack"] == ["read"]
    # For a device of nobody there is no answer, and after the end of one neither.
    nobody = benches[0].app.command("nobody", "read", {"path": "/3/0/0"})
    devices[0].deregister()
    gone = benches[0].app.command(devices[0].endpoint, "read", {"path": "/3/0/0"})
    assert answers(benches[1], devices[1], "z")
    time.sleep(0.5)
    for request_id in (nobody, gone):
        assert benches[0].app.results(request_id) == []


def test_b7_a_device_that_registers_again_is_still_served(broker, start):
    bench = start(broker("mosquitto"), {"mqtt.subscribe": "per-device"})
    device = bench.registered()
    for number in range(1, 4):
        device.register()
        bench.app.report(device.endpoint, after=number)
        assert answers(bench, device, str(number))
    device.deregister()
    time.sleep(3)
    device.register()
    bench.app.report(device.endpoint, after=4)
    assert answers(bench, device, "again")


@pytest.mark.parametrize("kind", KINDS)
def test_b13_two_gateways_with_the_default_identifier_stay(broker, start, kind):
    there = broker(kind)
    benches = [start(there, {"mqtt.subscribe": "per-device"}) for _ in range(2)]
    time.sleep(2)
    for bench in benches:
        device = bench.registered()
        assert answers(bench, device, "x")
        assert "connection lost" not in bench.gateway.log()


@pytest.mark.parametrize("kind", ("mosquitto", "aedes"))
def test_b13_one_identifier_for_two_is_an_error_with_a_long_pause(broker, start, kind):
    there = broker(kind)
    both = [start(there, {"mqtt.client_id": "same"}) for _ in range(2)]

    def told():
        return [bench for bench in both if "mqtt.client_id" in bench.gateway.log()]

    wait_for(told, 30, "the error")
    (other,) = [bench for bench in both if bench not in told()]
    device = other.registered()
    lost = sum(connections(bench) for bench in both)
    for number in range(5):
        assert answers(other, device, str(number))
        time.sleep(0.5)
    assert sum(connections(bench) for bench in both) == lost, "nobody comes back so soon"


@pytest.fixture
def served(start, broker, programs):
    """A gateway with its own broker, or as a client of Mosquitto, and an application of MQTT 5."""
    closing = []

    def served(kind):
        if kind == "mosquitto":
            return start(broker(kind), client_id="", clean=True, filters=("lwm2m/#", "answers/#"))
        gateway = Standalone(QOS_1)
        programs.append(gateway)
        application = Application(gateway.mqtt, filters=("lwm2m/#", "answers/#"))
        closing.append(application)
        return Bench(gateway, application)

    yield served
    for application in closing:
        application.close()


@pytest.mark.parametrize("kind", ("embedded", "mosquitto"))
def test_b14_answers_go_to_the_response_topic_with_the_correlation_data(served, kind):
    bench = served(kind)
    device = bench.registered()
    reply = ("answers/7", b"\0c7")
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"}, reply=reply)
    device.reply(device.expect(GET), "2.05", "x", TEXT)
    copy = bench.app.wait(lambda m: m.topic == "answers/7")
    own = bench.app.result(request_id, kind="read")
    assert own.topic == f"lwm2m/{device.endpoint}/up/resp" and own.correlation is None
    assert (copy.json, copy.correlation) == (own.json, b"\0c7")
    # An answer is no command, and nobody speaks for another device by it.
    for topic in (f"lwm2m/{device.endpoint}/dn/x", "lwm2m/other/up/resp", "x" * 1025):
        refused = (topic, b"1")
        request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"}, reply=refused)
        device.reply(device.expect(GET), "2.05", "y", TEXT)
        assert bench.app.result(request_id, kind="read").data["content"][0]["value"] == "y"
    assert bench.gateway.statistics()["replies_refused"] == 3
    assert not [m for m in bench.app.messages if m.topic == "lwm2m/other/up/resp"]
