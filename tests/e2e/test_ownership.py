"""Several gateways on one broker, or on brokers that are bridged: a device that registers at another
one leaves the first, and what applications have set up goes along (B7)."""

import json
import signal
import threading
import time

import paho.mqtt.client as mqtt
import pytest

import brokers
from application import Application
from coap import GET, POST, TEXT
from conftest import needs
from gateway import wait_for
from test_brokers import answers, broker, start  # noqa: F401

pytestmark = [pytest.mark.standalone_only, needs("mosquitto")]

TOPIC = "site/gateways"
SETTINGS = {
    "mqtt.subscribe": '"per-device"',
    "mqtt.ownership_topic": f'"{TOPIC}"',
    "qmode_time_window": '"1s"',
}


@pytest.fixture(params=("one", "bridge"))
def pair(request, start, tmp_path, programs, cache):  # noqa: F811
    """Two gateways at one Mosquitto, or each at one of two that are bridged."""
    there = []
    for number in range(2 if request.param == "bridge" else 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        there.append(brokers.broker("mosquitto", folder, programs, cache))
        if number:
            there[1].bridge(there[0], ("lwm2m/#", f"{TOPIC}/#"))
        there[number].start()
    if len(there) == 2:
        wait_for(lambda: "Received CONNACK" in there[1].process.log(), 20, "the bridge")
    names = ("gateway-a", "gateway-b")
    return [gateway(start, there[-index], name) for index, name in enumerate(names)]


def gateway(start, there, name, **settings):  # noqa: F811
    bench = start(there, {**SETTINGS, "mqtt.client_id": f'"{name}"', **settings})
    bench.there = there
    return bench


def retained(bench):
    """What the broker keeps below the topic, by endpoint."""
    found = {}
    subscribed = threading.Event()
    client = mqtt.Client(client_id="", protocol=mqtt.MQTTv5)
    client.on_connect = lambda *_: client.subscribe(f"{TOPIC}/owner/+")
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _c, _u, m: found.update(
        {m.topic.rpartition("/")[2]: json.loads(m.payload)["gateway"]} if m.retain and m.payload else {}
    )
    client.connect(*bench.there.address)
    client.loop_start()
    assert subscribed.wait(5)
    time.sleep(0.3)
    client.loop_stop()
    client.disconnect()
    return found


def owner(bench, endpoint, name):
    wait_for(lambda: retained(bench).get(endpoint) == name, 10, f"the claim of {name}")


def value(answer):
    return answer.data["content"][0]["value"]


def arrives(bench, endpoint, extra=()):
    """The device at another gateway."""
    device = bench.device(endpoint)
    device.register(extra=extra)
    return device


SLEEPS = ["Q"]


def test_b7_a_device_that_moves_takes_observations_and_commands_along(pair):
    a, b = pair
    device = a.registered(extra=SLEEPS)
    endpoint, app = device.endpoint, a.app
    owner(b, endpoint, "gateway-a")
    device.update()
    observed = app.command(endpoint, "observe", {"path": "/3/0/9"})
    request = device.expect(GET, "/3/0/9")
    device.reply(request, "2.05", "1", TEXT, observe=1)
    app.result(observed)
    here, number = device, 1
    # There, back, and there again.
    for target, name in ((b, "gateway-b"), (a, "gateway-a"), (b, "gateway-b")):
        time.sleep(1.3)
        waiting = app.command(endpoint, "read", {"path": "/3/0/0"})
        here.silence(0.3)
        there = arrives(target, endpoint, SLEEPS)
        again = there.expect(GET, "/3/0/9", timeout=10)
        assert again.token == request.token
        there.reply(again, "2.05", str(number + 1), TEXT, observe=number + 1)
        there.reply(there.expect(GET, "/3/0/0"), "2.05", name, TEXT)
        assert value(app.result(waiting, kind="read")) == name
        number += 2
        there.notify(again, number, str(number), TEXT)
        notified = app.wait(
            lambda m: m.type == "notify" and m.json["reqID"] == observed and value(m) == number
        )
        assert notified.topic.startswith(f"lwm2m/{endpoint}/up/")
        # The one before has it no longer, and answers nothing for it.
        here.update(expect="4.04")
        owner(a, endpoint, name)
        there.update()
        asked = app.command(endpoint, "read", {"path": "/3/0/1"})
        there.reply(there.expect(GET, "/3/0/1"), "2.05", "z", TEXT)
        assert value(app.result(asked, kind="read")) == "z"
        here.silence(0.5)
        assert [m.type for m in app.results(asked) if m.type != "ack"] == ["read"]
        here = there
    first, second = (bench.gateway.statistics() for bench in pair)
    assert (first["ownership_given"], second["ownership_given"]) == (2, 1)
    assert first["ownership_taken"] == 1 and second["ownership_taken"] == 2
    assert first["ownership_refused"] + second["ownership_refused"] == 0
    # Its end clears the message.
    here.deregister()
    wait_for(lambda: endpoint not in retained(a), 10, "the message is cleared")


def test_b7_a_dead_gateway_is_not_waited_for_and_finds_the_claims_when_it_comes_back(pair, start):  # noqa: F811
    a, b = pair
    device = a.registered()
    endpoint = device.endpoint
    owner(b, endpoint, "gateway-a")
    a.gateway.process.send_signal(signal.SIGKILL)
    a.gateway.process.wait()
    there = arrives(b, endpoint, SLEEPS)
    owner(b, endpoint, "gateway-b")
    there.update()
    assert answers(b, there, "there")
    # The first comes back under its name, and gets the device again.
    back = gateway(start, a.there, "gateway-a")
    there.update()
    assert answers(b, there, "still there")
    time.sleep(1.3)
    waiting = b.app.command(endpoint, "read", {"path": "/3/0/0"})
    there.silence(0.3)
    home = arrives(back, endpoint)
    home.reply(home.expect(GET, "/3/0/0", timeout=10), "2.05", "home", TEXT)
    assert value(b.app.result(waiting, kind="read")) == "home"
    there.update(expect="4.04")
    owner(b, endpoint, "gateway-a")


def test_b7_a_store_brings_no_device_back_that_has_gone_but_what_waits_for_it(
    start, broker, tmp_path  # noqa: F811
):
    there = broker("mosquitto")
    store = {"store.path": f'"{tmp_path}/store"'}
    a, b = gateway(start, there, "gateway-a", **store), gateway(start, there, "gateway-b")
    device = a.registered(extra=SLEEPS)
    endpoint, app = device.endpoint, b.app
    observed = app.command(endpoint, "observe", {"path": "/3/0/9"})
    request = device.expect(GET, "/3/0/9")
    device.reply(request, "2.05", "1", TEXT, observe=1)
    app.result(observed)
    owner(b, endpoint, "gateway-a")
    time.sleep(1.3)
    waiting = app.command(endpoint, "read", {"path": "/3/0/0"})
    device.silence(0.5)
    a.gateway.process.send_signal(signal.SIGKILL)
    a.gateway.process.wait()
    moved = arrives(b, endpoint, SLEEPS)
    owner(b, endpoint, "gateway-b")
    back = gateway(start, there, "gateway-a", **store)
    wait_for(lambda: back.gateway.statistics()["store_restored"] == 1, 10, "the device is back")
    wait_for(lambda: back.gateway.statistics()["ownership_given"] == 1, 10, "it is given")
    owner(b, endpoint, "gateway-b")
    moved.update()
    again = moved.expect(GET, "/3/0/9")
    assert again.token == request.token
    moved.reply(again, "2.05", "2", TEXT, observe=2)
    moved.reply(moved.expect(GET, "/3/0/0"), "2.05", "x", TEXT)
    assert value(app.result(waiting, kind="read")) == "x"
    assert back.gateway.statistics()["ownership_given"] == 1


def test_b7_a_device_at_both_at_once_is_left_with_one(pair):
    a, b = pair
    for _ in range(5):
        devices = [bench.device() for bench in pair]
        devices[1].endpoint = endpoint = devices[0].endpoint
        threads = [threading.Thread(target=device.register) for device in devices]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(1)
        has = [device.request(POST, device.location).code_text for device in devices]
        assert sorted(has) == ["2.04", "4.04"]
        winner = has.index("2.04")
        owner(a, endpoint, f"gateway-{'ab'[winner]}")
        asked = a.app.command(endpoint, "read", {"path": "/3/0/0"})
        devices[winner].reply(devices[winner].expect(GET), "2.05", "x", TEXT)
        assert value(a.app.result(asked, kind="read")) == "x"
        # The other one tries again, as it is told, and has it then.
        loser = devices[1 - winner]
        loser.register()
        owner(a, endpoint, f"gateway-{'ba'[winner]}")
        devices[winner].update(expect="4.04")
        loser.update()


def test_b7_what_is_no_message_of_a_gateway_harms_nobody(pair):
    a, b = pair
    device = a.registered()
    endpoint = device.endpoint
    owner(b, endpoint, "gateway-a")
    for topic, payload in (
        (f"owner/{endpoint}", "{"),
        (f"owner/{endpoint}", json.dumps({"gateway": "x", "epoch": 2**64, "time": 1, "lifetime": 1})),
        (f"owner/{endpoint}", "x" * 100_000),
        (f"session/gateway-a/{endpoint}", "{}"),
        (f"session/gateway-a/{endpoint}", json.dumps({"from": "x", "session": {}})),
        ("session/gateway-a/nobody", b"\xff\x00"),
        ("owner/%", b"\0"),
    ):
        a.app.publish(f"{TOPIC}/{topic}", payload)
    assert answers(a, device, "still here")
    # Somebody clears the message: it is said again.
    a.app.publish(f"{TOPIC}/owner/{endpoint}", b"")
    owner(b, endpoint, "gateway-a")
    # A response topic is no way in.
    reply = (f"{TOPIC}/owner/{endpoint}", b"")
    sender = Application(a.there.address)
    asked = sender.command(endpoint, "read", {"path": "/3/0/0"}, reply=reply)
    device.reply(device.expect(GET), "2.05", "x", TEXT)
    sender.result(asked, kind="read")
    sender.close()
    statistics = a.gateway.statistics()
    assert statistics["ownership_refused"] == 7 and statistics["replies_refused"] == 1
    there = arrives(b, endpoint)
    there.update()
    owner(a, endpoint, "gateway-b")
    assert answers(b, there, "moved")
