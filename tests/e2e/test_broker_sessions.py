"""Persistent sessions of the embedded broker: they lose nothing when connections break or are taken over, and
with a store they are there after a restart and `kill -9`."""

import random
import signal
import socket
import struct
import threading
import time

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from device import Device
from gateway import Standalone, wait_for
from patience import patient
from plain_mqtt import packet, text
from test_brokers import QOS_1
from test_store import Kept

pytestmark = pytest.mark.standalone_only

STOPS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
VERSIONS = pytest.mark.parametrize("version", [mqtt.MQTTv311, mqtt.MQTTv5])


class Paho(mqtt.Client):
    """Without a fault of 1.6: it takes no PUBREL with a reason code (MQTT 5 section 3.6.2.1)."""

    def _handle_pubrel(self):
        self._in_packet["packet"] = self._in_packet["packet"][:2]
        self._in_packet["remaining_length"] = 2
        return super()._handle_pubrel()


class Client:
    """A client with a session of its own; without `acks` it acknowledges nothing."""

    def __init__(self, gateway, name="app", version=mqtt.MQTTv5, clean=False, expiry=3600, acks=True, password=None):
        self.got, self.present = [], None
        self._connected, self._subscribed = threading.Event(), threading.Event()
        kept = {"clean_session": clean} if version == mqtt.MQTTv311 else {}
        self.client = Paho(client_id=name, protocol=version, **kept)
        if not acks:
            self.client._send_puback = lambda _mid: mqtt.MQTT_ERR_SUCCESS
        if password:
            self.client.username_pw_set(name, password)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = lambda _client, _data, message: self.got.append(message)
        options = {}
        if version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry
            options = {"clean_start": clean, "properties": properties}
        host, port = gateway.mqtt
        self.client.connect(host, port, 60, **options)
        self.client.loop_start()
        assert self._connected.wait(10)

    def _on_connect(self, _client, _data, flags, reason, _properties=None):
        assert reason == 0, str(reason)
        self.present = bool(flags["session present"])
        self._connected.set()

    def subscribe(self, *filters):
        for topic, qos in filters:
            self._subscribed.clear()
            self.client.subscribe(topic, qos)
            assert self._subscribed.wait(10)
        return self

    def payloads(self):
        return [message.payload.decode() for message in self.got]

    def gets(self, expected):
        expected = list(expected)
        try:
            wait_for(lambda: len(self.got) >= len(expected), 10, f"{len(expected)} messages")
        finally:
            assert self.payloads() == expected

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def kept(tmp_path, programs):
    def start(**settings):
        named = {f"mqtt.{key}": value for key, value in settings.items()}
        gateway = Kept(tmp_path / "store", {**QOS_1, **named})
        programs.append(gateway)
        return gateway

    yield start


def publish(gateway, numbers, topic="e/x", qos=1, size=0):
    client = Client(gateway, "publisher", clean=True, expiry=0)
    for number in numbers:
        client.client.publish(topic, str(number).ljust(size, "."), qos).wait_for_publish(10)
    client.close()


def committed(gateway):
    """Everything so far is on the disk, however long that takes: changes are written in order, so with a
    session that begins now all before it is in the file, and with one that begins then it is safe there."""
    file = gateway.directory / "mqtt-sessions.redb"
    # Acknowledgements may be on their way to the broker.
    time.sleep(patient(0.1))
    for number in range(2):
        name = f"mark-{time.monotonic_ns()}-{number}"
        Client(gateway, name).close()
        wait_for(lambda: name.encode() in file.read_bytes(), 20, f"{name} in the file")


@STOPS
@VERSIONS
def test_what_came_while_the_client_was_away_comes_in_order(kept, version, number):
    gateway = kept()
    app = Client(gateway, version=version).subscribe(("e/#", 1), ("f/#", 2))
    assert not app.present
    publish(gateway, range(3))
    app.gets("012")
    app.close()
    for qos, numbers in ((1, range(10)), (2, range(10, 20))):
        publish(gateway, numbers, "e/x" if qos == 1 else "f/x", qos)
    committed(gateway)
    gateway.restart(number)
    publish(gateway, range(20, 30), "f/y", 2)
    committed(gateway)
    # A second one, with messages from before the first.
    gateway.restart(number)
    publish(gateway, range(30, 40))
    app = Client(gateway, version=version)
    assert app.present
    wait_for(lambda: len(app.got) >= 40, 10, "what waited")
    # A message of QoS 2 is there when it is released, so the two kinds have each their own order.
    of = lambda qos: [int(message.payload) for message in app.got if message.qos == qos]
    assert of(1) == [*range(10), *range(30, 40)]
    assert of(2) == [*range(10, 30)]
    publish(gateway, [40])
    wait_for(lambda: of(1)[-1] == 40, 10, "the next one")
    app.close()
    committed(gateway)
    # What was acknowledged does not come again.
    gateway.restart(number)
    app = Client(gateway, version=version)
    assert app.present
    publish(gateway, ["last"])
    app.gets(["last"])
    app.close()


@STOPS
@VERSIONS
def test_what_was_not_acknowledged_comes_again(kept, version, number):
    gateway = kept()
    app = Client(gateway, version=version, acks=False).subscribe(("e/#", 1))
    publish(gateway, range(5))
    app.gets("01234")
    committed(gateway)
    # Before: it would come back by itself, and get those that follow as well.
    app.client.loop_stop()
    gateway.restart(number)
    publish(gateway, range(5, 8))
    app = Client(gateway, version=version)
    assert app.present
    app.gets("01234567")
    assert [message.dup for message in app.got] == [True] * 5 + [False] * 3
    app.close()


@VERSIONS
def test_a_message_of_qos_2_comes_once(kept, version):
    """The same client, whose library knows what it has: the packet identifiers are those of before."""
    gateway = kept()
    app = Client(gateway, version=version).subscribe(("f/#", 2))
    publish(gateway, range(3), "f/x", 2)
    app.gets("012")
    committed(gateway)
    gateway.restart(signal.SIGKILL)
    wait_for(lambda: app.client.is_connected(), 20, "the client is back")
    publish(gateway, range(3, 6), "f/x", 2)
    app.gets("012345")
    app.close()


@STOPS
def test_events_of_devices(kept, number):
    gateway = kept()
    app = Client(gateway).subscribe(("lwm2m/#", 1))
    app.close()
    device = Device(gateway)
    device.register(lt=3600)
    committed(gateway)
    gateway.restart(number)
    again = Device(gateway)
    again.register(lt=3600)
    app = Client(gateway)
    assert app.present

    def registered():
        texts = [text for text in app.payloads() if '"register"' in text]
        return [endpoint for text in texts for endpoint in (device.endpoint, again.endpoint) if endpoint in text]

    wait_for(lambda: len(registered()) == 2, 10, "both registrations")
    assert registered() == [device.endpoint, again.endpoint]
    app.close()
    for it in (device, again):
        it.close()


def test_a_session_that_has_ended_meanwhile_is_gone(kept):
    gateway = kept()
    short = Client(gateway, "short", expiry=2).subscribe(("e/#", 1))
    long = Client(gateway, "long", expiry=3600).subscribe(("e/#", 1))
    endless = Client(gateway, "endless", expiry=0xFFFFFFFF).subscribe(("e/#", 1))
    short.close(), endless.close()
    publish(gateway, "1")
    committed(gateway)
    gateway.process.kill()
    gateway.process.wait()
    long.client.loop_stop()
    time.sleep(3)
    gateway.restart()
    short = Client(gateway, "short")
    assert not short.present
    # It was connected, and has its message.
    long.gets("1")
    long = Client(gateway, "long")
    endless = Client(gateway, "endless")
    assert long.present and endless.present
    endless.gets("1")
    assert long.got == []
    long.close(), endless.close()
    assert short.got == []
    short.close()


@VERSIONS
def test_a_clean_start_and_an_unsubscription_are_kept(kept, version):
    gateway = kept()
    Client(gateway, "clean", version).subscribe(("e/#", 1)).close()
    other = Client(gateway, "other", version).subscribe(("e/#", 1), ("f/#", 1))
    other.client.unsubscribe("e/#")
    other.close()
    publish(gateway, "1", "f/x")
    Client(gateway, "clean", version, clean=True, expiry=0).close()
    committed(gateway)
    gateway.restart(signal.SIGKILL)
    publish(gateway, "2")
    clean = Client(gateway, "clean", version)
    assert not clean.present
    other = Client(gateway, "other", version)
    assert other.present
    publish(gateway, "3", "f/x")
    other.gets("13")
    assert clean.got == []
    clean.close(), other.close()


def test_bounds(kept):
    gateway = kept(max_queued="20")
    Client(gateway).subscribe(("e/#", 1)).close()
    # Before the broker knows that it has gone, it would send it the first ones.
    committed(gateway)
    publish(gateway, range(50))
    committed(gateway)
    gateway.restart(signal.SIGKILL)
    app = Client(gateway)
    # As without a restart, the oldest give way.
    app.gets(map(str, range(30, 50)))
    app.close()


def test_bytes_and_sessions_are_bounded(kept):
    gateway = kept(max_queued_bytes='"64KB"', max_connections="2")
    for name in ("a", "b", "c"):
        Client(gateway, name).subscribe(("e/#", 1)).close()
    publish(gateway, range(50), size=1000)
    # There is no room for one more session to look for.
    time.sleep(patient(2))
    assert gateway.statistics()["sessions_refused"] > 0
    gateway.restart(signal.SIGKILL)
    clients = [Client(gateway, name) for name in ("a", "b", "c")]
    assert [client.present for client in clients] == [True, True, False]
    time.sleep(1)
    got = sum(len(payload) for client in clients for payload in client.payloads())
    assert 0 < got <= 64 << 10
    for client in clients:
        client.close()


def test_a_damaged_file_is_set_aside(kept, tmp_path):
    gateway = kept()
    Client(gateway).subscribe(("e/#", 1)).close()
    committed(gateway)
    gateway.stop()
    file = tmp_path / "store" / "mqtt-sessions.redb"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(b"x" * 10_000)
    gateway.restart()
    app = Client(gateway)
    assert not app.present
    assert "cannot read the stored MQTT sessions" in gateway.log()
    assert file.with_name("mqtt-sessions.redb.damaged").exists()
    app.subscribe(("e/#", 1)).close()
    committed(gateway)
    gateway.restart(signal.SIGKILL)
    app = Client(gateway)
    assert app.present
    app.close()


def test_no_password_is_on_the_disk(kept, tmp_path):
    gateway = kept()
    Client(gateway, password="tell-nobody").subscribe(("e/secret-free", 1)).close()
    committed(gateway)
    gateway.stop()
    content = (tmp_path / "store" / "mqtt-sessions.redb").read_bytes()
    assert b"e/secret-free" in content
    assert b"tell-nobody" not in content


def test_a_new_connection_takes_over_without_loss_or_disorder(kept):
    """Messages come all the time while the client connects anew, each time before the old connection ends."""
    gateway = kept()
    app = Client(gateway).subscribe(("e/#", 1))
    sender = Client(gateway, "publisher", clean=True, expiry=0)
    clients, count = [app], 600
    for number in range(count):
        sender.client.publish("e/x", str(number), 1).wait_for_publish(10)
        if number % 40 == 20:
            app.client.loop_stop()
            app = Client(gateway)
            assert app.present
            clients.append(app)
    seen = lambda: [int(text) for client in clients for text in client.payloads()]
    wait_for(lambda: len(set(seen())) == count, 20, "every message")
    for client in clients:
        numbers = [int(text) for text in client.payloads()]
        assert numbers == sorted(numbers)
    sender.close(), app.close()


class Raw:
    """A connection of a session that outlasts it, byte by byte (MQTT 5); it acknowledges by the book."""

    # Session Expiry Interval: an hour.
    EXPIRY = bytes([5, 0x11]) + struct.pack(">I", 3600)
    CONNECT = packet(0x10, text("MQTT") + bytes([5, 0, 0, 60]) + EXPIRY + text("raw"))

    def __init__(self, gateway, releases=True):
        self.socket = socket.create_connection(gateway.mqtt, 20)
        self.got, self.released, self.releases = [], [], releases
        self.socket.sendall(self.CONNECT)
        first, body = self.read()
        assert (first, body[1]) == (0x20, 0), body
        self.present = body[0] == 1

    def read(self):
        head, length, shift = self.take(1)[0], 0, 0
        while True:
            digit = self.take(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return head, self.take(length)

    def take(self, count):
        taken = b""
        while len(taken) < count:
            part = self.socket.recv(count - len(taken))
            if not part:
                raise ConnectionResetError
            taken += part
        return taken

    def subscribe(self, topic, qos):
        self.socket.sendall(packet(0x82, b"\0\1\0" + text(topic) + bytes([qos])))
        assert self.read()[0] == 0x90
        return self

    def step(self):
        """Takes a packet and says what has to be said."""
        head, body = self.read()
        if head >> 4 == 6:
            self.released.append(body[:2])
            if self.releases:
                self.socket.sendall(packet(0x70, body[:2]))
            return
        if head >> 4 != 3:
            return
        size = struct.unpack(">H", body[:2])[0]
        name = body[2 + size : 4 + size]
        # No properties come here.
        assert body[4 + size] == 0
        self.got.append(int(body[5 + size :].split(b".")[0]))
        self.socket.sendall(packet(0x40 if head & 6 == 2 else 0x50, name))

    def abort(self):
        """Without a word, and what is under way is thrown away."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


WITH_STORE = pytest.mark.parametrize("with_store", [False, True])


@pytest.fixture
def started(programs, tmp_path):
    def start(with_store):
        programs.append(Kept(tmp_path / "store") if with_store else Standalone(QOS_1))
        return programs[-1]

    return start


@WITH_STORE
def test_nothing_is_lost_when_connections_break_while_messages_come(started, with_store):
    gateway = started(with_store)
    chance = random.Random(5)
    raw = Raw(gateway).subscribe("e/#", 1)
    count, got, sender = 600, [], Client(gateway, "publisher", clean=True, expiry=0)

    def send():
        for number in range(count):
            sender.client.publish("e/x", str(number).ljust(1000, "."), 1).wait_for_publish(10)

    sending = threading.Thread(target=send)
    sending.start()
    while sending.is_alive():
        for _ in range(chance.randrange(1, 12)):
            raw.step()
            if not sending.is_alive():
                break
        got += raw.got
        raw.abort()
        raw = Raw(gateway)
        assert raw.present
    sending.join()
    raw.socket.settimeout(patient(10))
    while len({*got, *raw.got}) < count:
        raw.step()
    raw.abort()
    sender.close()


@WITH_STORE
def test_releases_are_not_lost_by_short_connections(started, with_store):
    gateway = started(with_store)
    raw = Raw(gateway, releases=False).subscribe("f/#", 2)
    publish(gateway, range(5), "f/x", 2)
    raw.socket.settimeout(patient(10))
    while len(raw.released) < 5:
        raw.step()
    raw.abort()
    for _ in range(3):
        Raw(gateway).abort()
    again = Raw(gateway)
    again.socket.settimeout(patient(10))
    while len(again.released) < 5:
        again.step()
    assert (again.got, again.released) == ([], raw.released)
    again.abort()


@WITH_STORE
def test_a_client_that_does_not_read_is_taken_over_without_loss(started, with_store):
    gateway = started(with_store)
    stuck = Raw(gateway).subscribe("e/#", 1)
    publish(gateway, range(100), size=60_000)
    # Those that opened a connection and closed it do not take the session from the last one.
    for _ in range(3):
        with socket.create_connection(gateway.mqtt, 10) as connection:
            connection.sendall(Raw.CONNECT)
            # The broker takes them in this order.
            time.sleep(patient(0.1))
    raw = Raw(gateway)
    assert raw.present
    raw.socket.settimeout(patient(10))
    while len(set(raw.got)) < 100:
        raw.step()
    assert list(dict.fromkeys(raw.got)) == [*range(100)]
    publish(gateway, [100])
    while raw.got[-1] != 100:
        raw.step()
    raw.abort(), stuck.abort()


@pytest.mark.parametrize("clean", [0, 2])
@pytest.mark.parametrize("with_store", [False, True])
def test_a_client_that_comes_back_at_once_is_let_in(programs, tmp_path, with_store, clean):
    """Its last connection ends meanwhile: it is not told that the server is not available."""
    gateway = Kept(tmp_path / "store") if with_store else Standalone()
    programs.append(gateway)
    connect = packet(0x10, text("MQTT") + bytes([5, clean, 0, 60, 0]) + text("quick"))
    told = []
    for _ in range(150):
        with socket.create_connection(gateway.mqtt, 10) as connection:
            connection.sendall(connect)
            told.append(connection.recv(100)[3])
            connection.sendall(b"\xe0\0")
    assert told == [0] * 150
