"""`lwm2m-gateway simulate` against the gateway."""

import base64
import hashlib
import itertools
import os
import re
import signal
import socket
import threading
import time

import pytest

from coap import ACK, BLOCK2, Message, block, code
from gateway import Process, binary, wait_for

_number = itertools.count()


@pytest.fixture
def simulate(bench, programs):
    def start(*arguments):
        prefix = f"simulated{next(_number)}-"
        command = [binary(), "simulate", "--server", "coap://%s:%d" % bench.gateway.udp]
        program = Process([*command, "--endpoint-prefix", prefix, *map(str, arguments)])
        programs.append(program)
        return prefix, program

    return start


def run(bench, endpoint, kind, **data):
    return bench.app.result(bench.app.command(endpoint, kind, data))


def test_one_device(bench, simulate):
    prefix, program = simulate("--objects", "3,6,3303", "--lifetime", 60)
    endpoint = prefix + "0"
    report = bench.app.report(endpoint)
    assert report.data["objectList"] == ["/3/0", "/6/0", "/3303/0"]
    assert report.data["lt"] == 60
    content = run(bench, endpoint, "read", path="/3/0").data["content"]
    values = {entry["path"]: entry["value"] for entry in content}
    assert values["/3/0/1"] == "Simulated sensor"
    assert values["/3/0/7/0"] == 3800 and values["/3/0/7/1"] == 5000
    assert 0 < values["/3/0/9"] <= 100
    content = run(bench, endpoint, "read", path="/6/0/0").data["content"]
    assert 52 < content[0]["value"] < 53
    links = run(bench, endpoint, "discover", path="/3303").data["content"]
    assert "</3303/0/5700>" in links
    result = run(bench, endpoint, "write", path="/3/0/15", type="String", value="Z" * 4000)
    assert result.data["code"] == "2.04"
    content = run(bench, endpoint, "read", path="/3/0/15").data["content"]
    assert content == [{"path": "/3/0/15", "value": "Z" * 4000}]
    assert run(bench, endpoint, "execute", path="/3/0/4").data["code"] == "2.04"
    bench.app.report(endpoint, after=1)
    assert program.stop(signal.SIGINT) == 0
    assert "registered 1 of 1" in program.log()


@pytest.mark.parametrize("arguments", [(), ("--con-notify",)])
def test_observation(bench, simulate, arguments):
    prefix, program = simulate("--objects", "3303", "--notify-every", "0.2", *arguments)
    endpoint = prefix + "0"
    bench.app.report(endpoint)
    request_id = bench.app.command(endpoint, "observe", {"path": "/3303/0"})

    def notifications():
        return [m for m in bench.app.results(request_id) if m.type == "notify"]

    wait_for(lambda: len(notifications()) >= 5, 10, "notifications")
    numbers = [m.json["seqNum"] for m in notifications()]
    assert numbers == list(range(1, len(numbers) + 1))
    run(bench, endpoint, "cancel-observe", path="/3303/0")
    time.sleep(0.3)
    count = len(notifications())
    time.sleep(0.6)
    assert len(notifications()) == count
    assert program.stop() == 0
    assert "errors 0" in program.log()


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_versions_and_updates(gateway, programs, version):
    bench = gateway({"update_msg_publish_condition": "always"})
    prefix = f"versions{next(_number)}-"
    program = Process(
        [
            *(binary(), "simulate", "--server", "coap://%s:%d" % bench.gateway.udp),
            *("--endpoint-prefix", prefix, "--version-lwm2m", version, "--lifetime", "2"),
        ]
    )
    programs.append(program)
    assert bench.app.report(prefix + "0").data["lwm2m"] == version
    bench.app.report(prefix + "0", "update", after=1)
    assert program.stop() == 0


def test_queue_mode(gateway, programs):
    bench = gateway({"qmode_time_window": "1s"})
    prefix = f"sleepy{next(_number)}-"
    program = Process(
        [
            *(binary(), "simulate", "--server", "coap://%s:%d" % bench.gateway.udp),
            *("--endpoint-prefix", prefix, "--queue-mode", "--awake", "1", "--lifetime", "5"),
        ]
    )
    programs.append(program)
    bench.app.report(prefix + "0")
    time.sleep(1.5)
    ids = [bench.app.command(prefix + "0", "read", {"path": f"/3/0/{n}"}) for n in (0, 1, 2)]
    results = [bench.app.result(request_id) for request_id in ids]
    assert all(result.data.get("code") == "2.05" for result in results)
    assert program.stop() == 0


def test_many_devices_are_observable(bench, simulate):
    count = 2000
    prefix, program = simulate(
        *("--devices", count, "--objects", "3303", "--notify-every", 5, "--lifetime", 300)
    )
    wait_for(lambda: f"registered {count} of {count}" in program.log(), 60, "registrations")
    wait_for(
        lambda: len(bench.app.all(lambda m: m.type == "register" and prefix in m.topic)) == count,
        20,
        "reports",
    )
    ids = {
        bench.app.command(f"{prefix}{n}", "observe", {"path": "/3303/0/5700"})
        for n in range(count)
    }

    def notified():
        return {
            m.json["reqID"]
            for m in bench.app.all(lambda m: m.type == "notify" and m.json.get("reqID") in ids)
        }

    wait_for(lambda: notified() == ids, 60, "a notification of each device")
    assert program.stop(timeout=30) == 0
    assert re.search(rf"registered {count} of {count} .* errors 0", program.log()), program.log()


def test_no_server(programs):
    done = Process(
        [binary(), "simulate", "--server", "coap://127.0.0.1:9", "--duration", "0.5"]
    )
    programs.append(done)
    assert done.process.wait(10) != 0
    assert "registered 0 of 1" in done.log()


CTS = {"1.0": "", "1.1": ";ct=112", "1.2": ";ct=112"}


@pytest.mark.parametrize("version", CTS)
def test_the_root_link(bench, programs, version):
    """Servers of others refuse a list with `ct=11542`, Wakaama's with several formats as well."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    listener.settimeout(10)
    server = "coap://127.0.0.1:%d" % listener.getsockname()[1]
    program = Process([binary(), "simulate", "--server", server, "--version-lwm2m", version])
    programs.append(program)
    register = Message.decode(listener.recv(2048))
    listener.close()
    assert register.payload.startswith(b'</>;rt="oma.lwm2m"%s,' % CTS[version].encode())


def values(result):
    assert result.data["code"] == "2.05", result.json
    return {entry["path"]: entry["value"] for entry in result.data["content"]}


@pytest.mark.parametrize("form", ["tlv", "senml-json", "senml-cbor"])
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_formats(bench, simulate, version, form):
    prefix, _ = simulate("--version-lwm2m", version)
    endpoint = prefix + "0"
    bench.app.report(endpoint)
    seen = values(run(bench, endpoint, "read", path="/3/0", format=form))
    assert seen["/3/0/0"] == "Example Devices" and seen["/3/0/7/1"] == 5000
    assert seen["/3/0/13"] > 1_700_000_000
    assert values(run(bench, endpoint, "read", path="/6/0/4", format=form)) == {"/6/0/4": "ABD+/w=="}
    data = dict(path="/3/0/15", type="String", value="Etc/" + form, format=form)
    assert run(bench, endpoint, "write", **data).data["code"] == "2.04"
    assert values(run(bench, endpoint, "read", path="/3/0/15", format=form)) == {
        "/3/0/15": "Etc/" + form
    }


def test_plain_cbor(bench, simulate):
    prefix, _ = simulate("--version-lwm2m", "1.2")
    endpoint = prefix + "0"
    bench.app.report(endpoint)
    assert values(run(bench, endpoint, "read", path="/3/0/16", format="cbor")) == {"/3/0/16": "U"}
    data = dict(path="/3/0/14", type="String", value="+05:30", format="cbor")
    assert run(bench, endpoint, "write", **data).data["code"] == "2.04"
    assert values(run(bench, endpoint, "read", path="/3/0/14")) == {"/3/0/14": "+05:30"}


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_composites(bench, simulate, version):
    prefix, _ = simulate("--version-lwm2m", version, "--notify-every", "0.2")
    endpoint = prefix + "0"
    bench.app.report(endpoint)
    paths = ["/3/0/15", "/3303/0/5700"]
    seen = values(run(bench, endpoint, "read-composite", paths=paths))
    assert seen["/3/0/15"] == "Etc/UTC" and 15 < seen["/3303/0/5700"] < 27
    entries = [
        {"path": "/3/0/15", "type": "String", "value": "CET"},
        {"path": "/1/0/3", "type": "Integer", "value": 7},
    ]
    assert run(bench, endpoint, "write-composite", content=entries).data["code"] == "2.04"
    assert values(run(bench, endpoint, "read", path="/1/0/3")) == {"/1/0/3": 7}
    request_id = bench.app.command(endpoint, "observe-composite", {"paths": paths})

    def notifications():
        return [m for m in bench.app.results(request_id) if m.type == "notify"]

    wait_for(lambda: len(notifications()) >= 3, 10, "notifications")
    assert all(set(values(m)) == set(paths) for m in notifications())
    run(bench, endpoint, "cancel-observe-composite", paths=paths)


def test_send(bench, simulate):
    prefix, program = simulate("--objects", "1,3,3303")
    endpoint = prefix + "0"
    bench.app.report(endpoint)

    def sends():
        return bench.app.all(lambda m: m.type == "send" and endpoint in m.topic)

    assert not sends()
    program.send_signal(signal.SIGUSR1)
    wait_for(sends, 10, "a Send")
    (entry,) = sends()[0].data["content"]
    assert entry["path"] == "/3303/0/5700" and 15 < entry["value"] < 27
    data = dict(path="/1/0/23", type="Boolean", value=True)
    assert run(bench, endpoint, "write", **data).data["code"] == "2.04"
    program.send_signal(signal.SIGUSR1)
    run(bench, endpoint, "read", path="/3/0/0")
    assert len(sends()) == 1, "mute"
    assert program.stop() == 0
    assert "sends 1" in program.log()


def test_send_every(bench, simulate):
    prefix, _ = simulate("--send-every", "0.2")
    wait_for(
        lambda: len(bench.app.all(lambda m: m.type == "send" and prefix in m.topic)) >= 3,
        10,
        "three Sends",
    )


def observed(bench, endpoint, path):
    """The values of an observation so far."""
    request_id = bench.app.command(endpoint, "observe", {"path": path})
    bench.app.result(request_id)

    def seen():
        results = [m for m in bench.app.results(request_id) if m.data.get("content")]
        return [m.data["content"][0]["value"] for m in results]

    return seen


def install(bench, endpoint, image, program):
    digest = hashlib.sha256(image).hexdigest()
    arrived = f"{endpoint}: firmware of {len(image)} bytes arrived, SHA-256 {digest}"
    wait_for(lambda: arrived in program.log(), 20, arrived)
    assert run(bench, endpoint, "execute", path="/5/0/2").data["code"] == "2.04"
    bench.app.report(endpoint, after=1)
    seen = values(run(bench, endpoint, "read", path="/5/0"))
    assert (seen["/5/0/3"], seen["/5/0/5"], seen["/5/0/7"]) == (0, 1, digest[:12])
    assert values(run(bench, endpoint, "read", path="/3/0/3")) == {"/3/0/3": digest[:12]}


def test_a_firmware_is_pushed(bench, simulate):
    prefix, program = simulate("--notify-every", 0)
    endpoint = prefix + "0"
    bench.app.report(endpoint)
    states = observed(bench, endpoint, "/5/0/3")
    assert run(bench, endpoint, "execute", path="/5/0/2").data["code"] == "4.05"
    image = os.urandom(300_000)
    data = {"path": "/5/0/0", "type": "Opaque", "value": base64.b64encode(image).decode()}
    request_id = bench.app.command(endpoint, "write", data)
    assert bench.app.result(request_id, timeout=30).data["code"] == "2.04"
    wait_for(lambda: states() == [0, 1, 2], 10, "the states")
    install(bench, endpoint, image, program)
    assert program.stop() == 0
    assert "firmware images 1" in program.log()


class ImageServer(threading.Thread):
    """Serves one image at `/image` in blocks, over CoAP; loses each seventh answer."""

    def __init__(self, image):
        super().__init__(daemon=True)
        self.image = image
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.uri = "coap://127.0.0.1:%d/image" % self.sock.getsockname()[1]
        self.requests = 0
        self.start()

    def run(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(2048)
            except OSError:
                return
            request = Message.decode(data)
            self.requests += 1
            if self.requests == 7:
                continue
            answer = Message(ACK, code("2.05"), request.mid, request.token)
            if request.path != "/image":
                answer.code = code("4.04")
            else:
                number = request.uint(BLOCK2) >> 4
                part = self.image[number * 1024 : (number + 1) * 1024]
                more = (number + 1) * 1024 < len(self.image)
                answer.options.append((BLOCK2, block(number, more, 6)))
                answer.payload = part
            self.sock.sendto(answer.encode(), peer)


def test_a_firmware_is_pulled(bench, simulate):
    prefix, program = simulate("--notify-every", 0)
    endpoint = prefix + "0"
    bench.app.report(endpoint)
    image = os.urandom(50_000)
    server = ImageServer(image)
    try:
        states = observed(bench, endpoint, "/5/0/3")
        write = dict(path="/5/0/1", type="String", value=server.uri.replace("/image", "/other"))
        assert run(bench, endpoint, "write", **write).data["code"] == "2.04"
        wait_for(lambda: "cannot fetch the firmware: 4.04" in program.log(), 10, "a refusal")
        wait_for(lambda: states() == [0, 1, 0], 10, "the states")
        assert values(run(bench, endpoint, "read", path="/5/0/5")) == {"/5/0/5": 4}
        write["value"] = server.uri
        assert run(bench, endpoint, "write", **write).data["code"] == "2.04"
        install(bench, endpoint, image, program)
    finally:
        server.sock.close()


def test_a_firmware_that_is_not_the_one(bench, simulate):
    prefix, program = simulate("--firmware-sha256", "0" * 64)
    endpoint = prefix + "0"
    bench.app.report(endpoint)
    data = dict(path="/5/0/0", type="Opaque", value="AAEC")
    assert run(bench, endpoint, "write", **data).data["code"] == "2.04"
    seen = values(run(bench, endpoint, "read", path="/5/0"))
    assert (seen["/5/0/3"], seen["/5/0/5"]) == (0, 5)
    assert "firmware of 3 bytes refused" in program.log()


def test_a_refusal_is_explained(bench, programs):
    """Each try is later than the last one, with the reason."""
    server = "coap://%s:%d" % bench.gateway.udp
    program = Process([binary(), "simulate", "--server", server, "--endpoint-prefix", "x" * 300])
    programs.append(program)
    wait_for(lambda: "registration failed: 4.00" in program.log(), 10, "the reason")
    wait_for(lambda: "registers again in 10 s" in program.log(), 15, "the second try")
    assert program.stop() != 0
