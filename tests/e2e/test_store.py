"""Nothing lost: what a gateway with a store knows after it was killed."""

import json
import os
import random
import subprocess
import threading
import time

import pytest

from application import Application
from coap import ACK, CON, GET, POST, RST, TEXT, URI_PATH, Message
from device import Device
from patience import patient
from gateway import Process, Standalone, binary, free_tcp_port, free_udp_port, answers_ping, accepts_tcp, wait_for

pytestmark = pytest.mark.standalone_only


class Kept(Standalone):
    """A gateway with a store, which comes back at the same addresses."""

    def __init__(self, directory, settings=None, broker=None):
        self.directory = directory
        self.settings = {"shards": "2", **(settings or {})}
        self.again = {"broker": broker, "arguments": ["--store", str(directory)]}
        super().__init__(self.settings, **self.again)
        self.arguments = self.command

    def restart(self, number=9):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(15)
        Process.__init__(self, self.arguments)
        self.wait_ready(lambda: answers_ping(self.udp) and accepts_tcp(self.mqtt))


@pytest.fixture
def kept(tmp_path):
    running = []

    def start(settings=None, directory=None, **kwargs):
        gateway = Kept(directory or tmp_path / "store", settings, **kwargs)
        running.append(gateway)
        return gateway

    yield start
    for gateway in running:
        gateway.stop()
        assert "panicked" not in gateway.log()


def written():
    """Longer than `store.sync`."""
    time.sleep(patient(0.2))


def serve(device, app, request_id, value):
    device.reply(device.expect(GET), "2.05", value, TEXT)
    return app.result(request_id)


def test_since_when_it_sleeps_outlives_a_restart(kept):
    def told():
        return [m.data for m in app.messages if m.type == "state" and m.data["ep"] == asleep.endpoint]

    gateway = kept({"qmode_time_window": '"1s"'})
    app, awake, asleep = Application(gateway.mqtt), Device(gateway), Device(gateway)
    awake.register()
    asleep.register("</3/0>", lwm2m="1.0", extra=["b=UQ"])
    wait_for(lambda: [it["state"] for it in told()] == ["online", "asleep"], 10, "asleep")
    since = {m.data["ep"]: m.data["since"] for m in app.messages if m.type == "state"}
    app.close()
    time.sleep(1.5)
    gateway.restart()
    app = Application(gateway.mqtt)
    states = lambda: {m.data["ep"]: m.data for m in app.messages if m.type == "state"}  # noqa: E731
    wait_for(lambda: len(states()) == 2, 10, "the states")
    assert states()[asleep.endpoint]["state"] == "asleep" and states()[awake.endpoint]["state"] == "online"
    for endpoint, before in since.items():
        # Clocks are read in turns.
        assert abs(states()[endpoint]["since"] - before) < 500, (states()[endpoint], before)
    app.close()


@pytest.mark.parametrize("number", [9, 15])
def test_a_device_is_there_again(kept, number):
    gateway = kept()
    device = Device(gateway)
    device.register()
    app = Application(gateway.mqtt)
    observe = app.command(device.endpoint, "observe", {"path": "/3303/0/5700"})
    request = device.expect(GET)
    device.reply(request, "2.05", "20", TEXT, observe=1)
    app.result(observe)
    app.close()
    written()
    gateway.restart(number)
    app = Application(gateway.mqtt)
    # A notification of the old observation.
    device.notify(request, 2, "21", TEXT)
    notification = app.wait(lambda m: m.type == "notify" and m.json["reqID"] == observe)
    assert notification.data["content"][0]["value"] == 21
    device.silence(0.3, lambda m: m.type == RST)
    device.update()
    read = app.command(device.endpoint, "read", {"path": "/3/0/0"})
    assert "repeated" not in serve(device, app, read, "x").json
    app.close()
    device.close()


def test_a_device_is_known_at_each_address_of_the_gateway(kept):
    """What it spoke to is kept: nothing but its address shows whose a Send is."""
    gateway = kept()
    port = free_udp_port()
    gateway.arguments += ["--set", f'listeners.udp.everywhere.bind="0.0.0.0:{port}"']
    gateway.restart()
    gateway.udp = ("127.0.0.99", port)
    device = Device(gateway)
    device.register(lwm2m="1.1")
    written()
    gateway.restart()
    app = Application(gateway.mqtt)
    read = app.command(device.endpoint, "read", {"path": "/3/0/0"})
    serve(device, app, read, "x")
    payload = b'[{"n":"/3/0/9","v":74}]'
    answer = device.request(POST, "/dp", payload=payload, content_format=110)
    assert answer.code_text == "2.04"
    app.close()
    device.close()


def test_commands_wait_for_their_device(kept):
    gateway = kept({"qmode_time_window": '"1s"'})
    device = Device(gateway)
    device.register(extra=["b=U", "Q"])
    app = Application(gateway.mqtt)
    time.sleep(1.2)
    ids = [app.command(device.endpoint, "read", {"path": f"/3/0/{n}"}) for n in (0, 1)]
    ids.append(app.command(device.endpoint, "execute", {"path": "/3/0/4"}))
    app.close()
    written()
    gateway.restart()
    app = Application(gateway.mqtt)
    device.silence(0.3)
    device.update()
    for request_id in ids[:2]:
        serve(device, app, request_id, "x")
    device.reply(device.expect(POST, "/3/0/4"), "2.04")
    assert app.result(ids[2]).data["code"] == "2.04"
    app.close()
    device.close()


def test_an_execute_is_not_sent_twice(kept):
    gateway = kept()
    device = Device(gateway)
    device.register()
    device.update()
    app = Application(gateway.mqtt)
    execute = app.command(device.endpoint, "execute", {"path": "/3/0/4"})
    device.expect(POST, "/3/0/4")
    gateway.restart()
    app.close()
    device.inbox.clear()
    app = Application(gateway.mqtt)
    device.silence(1.0, lambda m: m.code == POST)
    app.close()
    device.close()


def test_a_service_has_a_store(tmp_path):
    """What is run with a configuration file, unless that says otherwise."""
    file = tmp_path / "gateway.toml"
    for text, kept in [("", True), ("[store]\nenable = false\n", False)]:
        file.write_text(text)
        gateway = Standalone(arguments=["--config", str(file)])
        assert gateway.stop() == 0
        assert ("using the store" in gateway.log()) == kept, gateway.log()
        assert os.path.exists(os.path.join(gateway.state.name, "store.redb")) == kept
    gateway = Standalone()
    assert gateway.stop() == 0
    assert "running without a store" in gateway.log()


def test_a_directory_is_for_one(kept, tmp_path):
    gateway = kept()
    command = [binary(), "run", "--udp", str(free_udp_port()), "--mqtt", str(free_tcp_port())]
    other = Process([*command, "--store", tmp_path / "store"])
    assert other.process.wait(10) == 1
    assert "in use by another process" in other.log()
    assert oct(os.stat(gateway.directory).st_mode & 0o777) == "0o700"


@pytest.mark.parametrize("damage", ["foreign", "cut", "overwritten", "empty"])
def test_a_damaged_store_is_moved_aside(kept, damage):
    gateway = kept()
    device = Device(gateway)
    device.register()
    written()
    assert gateway.stop() == 0
    file = gateway.directory / "store.redb"
    data = file.read_bytes()
    if damage == "foreign":
        file.write_text("not a store\n")
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "cut":
        file.write_bytes(data[: len(data) // 3])
    else:
        middle = random.Random(7).randbytes(len(data) // 2)
        file.write_bytes(data[: len(data) // 4] + middle + data[len(data) // 4 + len(middle) :])
    gateway.restart()
    assert gateway.log().count("the store is damaged") == 1, gateway.log()
    assert [name for name in os.listdir(gateway.directory) if "damaged" in name]
    device.update(expect="4.04")
    device.register()
    written()
    gateway.restart()
    device.update()
    device.close()


@pytest.fixture
def small_disk(tmp_path):
    """A small file system."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_at_the_first_start(kept, small_disk):
    with open(small_disk / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass
    store = small_disk / "store"
    store.mkdir()
    command = [binary(), "run", "--store", str(store), "--udp", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "No space left" in done.stderr + done.stdout
    os.unlink(small_disk / "ballast")
    # Nothing half-made is taken for a damaged store.
    gateway = kept(None, store)
    assert "the store is damaged" not in gateway.log()
    assert "cannot use the stored" not in gateway.log()


@pytest.mark.parametrize("refuses", [False, True])
def test_a_full_disk(kept, small_disk, refuses):
    settings = {"store.on_failure": '"refuse"'} if refuses else {}
    gateway = kept(settings, small_disk / "store")
    device = Device(gateway)
    device.register(lt=3600)
    app = Application(gateway.mqtt)
    written()
    # Nothing is left for others.
    with open(small_disk / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass
    others = []
    while "cannot write the store" not in gateway.log():
        assert len(others) < 200
        others.append(Device(gateway))
        others[-1].register(lt=3600, extra=[f"filler={'x' * 3000}"])
        time.sleep(0.06)
    # The service goes on.
    read = app.command(device.endpoint, "read", {"path": "/3/0/0"})
    if refuses:
        answer = app.result(read)
        assert (answer.data["code"], answer.data["reason"]) == ("5.03", "not_durable")
    else:
        assert serve(device, app, read, "x").json["durable"] is False
    late = Device(gateway)
    late.register(lt=3600)
    # Room again: what was kept in memory is written.
    os.unlink(small_disk / "ballast")
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    wait_for(lambda: "the store can be written again" in gateway.log(), 10, "the store")
    read = app.command(device.endpoint, "read", {"path": "/3/0/0"})
    assert "durable" not in serve(device, app, read, "x").json
    app.close()
    written()
    gateway.restart()
    for it in [device, *others, late]:
        it.update()
        it.close()


def test_devices_that_speak_at_once_are_known(kept):
    """The gateway serves while it takes its devices in, a few at a time: whoever speaks before its turn,
    or is spoken of, is there as well."""
    gateway = kept()
    fleet = [Device(gateway) for _ in range(400)]
    for device in fleet:
        device.register(lt=3600)
    written()
    gateway.process.kill()
    gateway.process.wait(15)
    Process.__init__(gateway, gateway.arguments)
    gateway.wait_ready(lambda: accepts_tcp(gateway.mqtt))
    app = Application(gateway.mqtt)
    # The last ones first.
    called = fleet[-20:]
    reads = [app.command(device.endpoint, "read", {"path": "/3/0/0"}) for device in called]
    mids = {}
    for device in reversed(fleet):
        mids[device] = device.next_mid()
        options = [(URI_PATH, part.encode()) for part in device.location.split("/")]
        device.send(Message(CON, POST, mids[device], b"u", options))
    for device in fleet:
        answer = device.wait(lambda m: m.mid == mids[device] and m.type == ACK)
        assert answer.code_text == "2.04"
    for device, read in zip(called, reads):
        assert "repeated" not in serve(device, app, read, "x").json
    app.close()
    for device in fleet:
        device.close()


def test_killed_at_any_moment(kept):
    """Commands under load while the gateway is killed again and again: each that was accepted is
    answered, none twice but what says so, and no Execute is done twice. `STORE_ROUNDS=100` and
    `STORE_SEED` make more of it."""
    rounds = int(os.environ.get("STORE_ROUNDS", "5"))
    gateway = kept({"store.sync": '"always"', "coap.max_retransmit": "4"})
    devices = [Device(gateway) for _ in range(8)]
    executed = []
    stopping = threading.Event()

    def live(device):
        while not stopping.is_set():
            device._receive(0.1)
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
    threads = [threading.Thread(target=live, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    answers, accepted, number = {}, set(), 0
    chance = random.Random(os.environ.get("STORE_SEED", "1"))
    try:
        for _ in range(rounds):
            app = Application(gateway.mqtt)
            sent = []
            for _ in range(chance.randrange(20, 120)):
                device = chance.choice(devices)
                number += 1
                if chance.random() < 0.5:
                    request = app.command(device.endpoint, "read", {"path": "/3/0/0"})
                else:
                    data = {"path": "/3/0/4", "args": f"0='{number}'"}
                    request = app.command(device.endpoint, "execute", data)
                sent.append(request)
            time.sleep(chance.random() * 0.3)
            # The embedded broker has acknowledged them; they are durable a moment later.
            accepted.update(sent)
            time.sleep(0.1)
            gateway.process.kill()
            gateway.process.wait(15)
            for message in app.messages:
                if "reqID" in message.json and message.type not in ("notify", "ack"):
                    answers.setdefault(message.json["reqID"], []).append(message.json)
            app.close()
            # An application that was there would have heard what is said from now on.
            Process.__init__(gateway, gateway.arguments)
            app = None
            gateway.wait_ready(lambda: accepts_tcp(gateway.mqtt))
            app = Application(gateway.mqtt)
            time.sleep(1.0)
            for message in app.messages:
                if "reqID" in message.json and message.type not in ("notify", "ack"):
                    answers.setdefault(message.json["reqID"], []).append(message.json)
            app.close()
        # What waits goes to its device, or is answered in its place.
        def left():
            for device in devices:
                device.send(Message(CON, 0, device.next_mid()))
            app = Application(gateway.mqtt)
            lists = [app.command(device.endpoint, "list-queue") for device in devices]
            waiting = [app.result(it).data["content"] for it in lists]
            app.close()
            return not any(waiting)

        wait_for(left, 30, "answers to all commands")
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
        for device in devices:
            device.close()
    assert len(executed) == len(set(executed)), "an Execute was done twice"
    assert gateway.stop() == 0
    export = subprocess.run(
        [binary(), "store", "export", gateway.directory], capture_output=True, text=True, check=True
    )
    stored = [json.loads(line) for line in export.stdout.splitlines()]
    assert sorted(it["endpoint"] for it in stored) == sorted(it.endpoint for it in devices)
    assert not any(it["commands"] for it in stored), "without an answer"
    for request, said in answers.items():
        assert len([it for it in said if not it.get("repeated")]) <= 1, said
