"""A store beside another broker: a command is acknowledged once it is safe, and noted as answered once
the broker has its answer."""

import os
import random
import threading
import time

import pytest

import brokers
from application import Application
from coap import GET, POST, TEXT
from device import Device
from gateway import wait_for
from test_brokers import QOS_1
from test_store import Kept, written

pytestmark = pytest.mark.standalone_only


@pytest.fixture
def broker(tmp_path, programs, cache):
    if reason := brokers.missing("mosquitto", cache):
        pytest.skip(reason)
    broker = brokers.broker("mosquitto", tmp_path, programs, cache)
    broker.start()
    return broker


@pytest.fixture
def kept(tmp_path, broker):
    gateway = Kept(tmp_path / "store", {**QOS_1, "coap.max_retransmit": "4"}, broker.address)
    yield gateway
    gateway.stop()
    assert "panicked" not in gateway.log()


def connected(gateway):
    wait_for(lambda: " connected " in gateway.log(), 20, "the connection to the broker")


def said(app, request_id):
    return [message.json for message in app.results(request_id) if message.type != "ack"]


def test_killed_with_commands_under_way(kept, broker):
    """Commands come all the time, also while no gateway runs: each is answered, once or with a mark, and
    no Execute is done twice. `STORE_ROUNDS` and `STORE_SEED` make more of it."""
    chance = random.Random(os.environ.get("STORE_SEED", "1"))
    devices = [Device(kept) for _ in range(4)]
    executed = []
    stopping, enough = threading.Event(), threading.Event()

    def live(device):
        while not stopping.is_set():
            device._receive(0.05)
            while device.inbox:
                message = device.inbox.pop(0)
                if message.code == GET:
                    device.reply(message, "2.05", "x", TEXT)
                elif message.code == POST:
                    executed.append(bytes(message.payload))
                    device.reply(message, "2.04")

    for device in devices:
        device.register(lt=3600)
        device.update()
    connected(kept)
    app = Application(broker.address)
    sent = []

    def send():
        while not enough.is_set():
            device = chance.choice(devices)
            if len(sent) % 2:
                data = {"path": "/3/0/4", "args": f"0='{len(sent)}'"}
                sent.append(app.command(device.endpoint, "execute", data))
            else:
                sent.append(app.command(device.endpoint, "read", {"path": "/3/0/0"}))
            time.sleep(0.005)

    threads = [threading.Thread(target=live, args=(device,)) for device in devices]
    sender = threading.Thread(target=send)
    for thread in [*threads, sender]:
        thread.start()
    try:
        for _ in range(int(os.environ.get("STORE_ROUNDS", "3"))):
            time.sleep(chance.uniform(0.2, 0.8))
            kept.process.kill()
            time.sleep(chance.uniform(0, 0.3))
            kept.restart()
            connected(kept)
        enough.set()
        sender.join()
        wait_for(lambda: all(said(app, it) for it in sent), 60, "answers to all commands")
    finally:
        enough.set()
        stopping.set()
        for thread in [*threads, sender]:
            thread.join()
    for request_id in sent:
        answers = said(app, request_id)
        assert len([it for it in answers if not it.get("repeated")]) <= 1, answers
    assert len(sent) > 50
    assert len(executed) == len(set(executed)), "an Execute was done twice"
    app.close()
    for device in devices:
        device.close()


def test_an_answer_that_waits_for_the_broker_is_not_lost(kept, broker):
    connected(kept)
    device = Device(kept)
    device.register(lt=3600)
    device.update()
    app = Application(broker.address)
    read = app.command(device.endpoint, "read", {"path": "/3/0/0"})
    request = device.expect(GET)
    written()
    broker.stop()
    wait_for(lambda: "connection lost" in kept.log(), 10, "the broker is gone")
    device.reply(request, "2.05", "x", TEXT)
    written()
    assert said(app, read) == []
    kept.process.kill()
    broker.start()
    wait_for(app.client.is_connected, 20, "the application is back")
    kept.restart()
    device.reply(device.expect(GET), "2.05", "x", TEXT)
    answer = app.result(read, kind="read").json
    assert answer["data"]["content"][0]["value"] == "x"
    assert answer["repeated"] is True
    app.close()
    device.close()
