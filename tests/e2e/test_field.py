"""Commands and answers from the field, with the id of each case."""

import base64
import os
import struct
import time

import pytest

from application import Application
from coap import CONTENT_FORMAT, GET, JSON, LINK, POST, PUT, TLV, resource


@pytest.fixture
def device(bench):
    return bench.registered("</1/0>,</3/0>,</5/0>")


def content(result):
    assert result.data["code"] == "2.05", result.json
    return {entry["path"]: entry["value"] for entry in result.data["content"]}


def test_a4_an_object_without_content(bench, device):
    assert content(bench.read(device, "/3303", "2.05")) == {}


def test_a5_an_instance_without_a_content_format(bench, device):
    result = bench.read(device, "/3/0", "2.05", bytes.fromhex("c10058c1095f"))
    assert content(result) == {"/3/0/0": "X", "/3/0/9": 95}


def test_a7_another_resource(bench, device):
    data = bench.read(device, "/3/0/9", "2.05", bytes.fromhex("c40041636d65"), TLV).data
    assert (data["code"], data["reason"]) == ("4.00", "undecodable")
    assert "not what was asked for" in data["detail"] and "content" not in data
    assert base64.b64decode(data["raw"]) == bytes.fromhex("c40041636d65")


def test_a8_a_date_in_cbor(bench, device):
    date = bytes.fromhex("c07819323032332d31312d31345432323a31333a32302b30303a3030")
    result = bench.read(device, "/3/0/13", "2.05", date, 60)
    assert content(result) == {"/3/0/13": 1700000000}
    pack = bytes.fromhex("81a200672f332f302f313303") + date[1:]
    result = bench.read(device, "/3/0/13", "2.05", pack, 112)
    assert content(result) == {"/3/0/13": 1700000000}
    assert "inferred" not in result.data["content"][0]


def test_a9_a_time_in_cbor_is_tagged(bench, device):
    data = {"path": "/3/0/13", "value": 1700000000, "format": "cbor"}
    request_id = bench.app.command(device.endpoint, "write", data)
    request = device.expect(PUT, "/3/0/13")
    assert request.payload == bytes.fromhex("c11a6553f100")
    device.reply(request, "2.04")
    assert bench.app.result(request_id).data["code"] == "2.04"


@pytest.mark.parametrize(
    ("payload", "content_format", "link"),
    [
        ("64333a3000", 60, "3:0"),
        ("3a7cb9ffff", 60, "33606:0"),
        ("81a200672f312f302f3130023a7cb9ffff", 112, "33606:0"),
    ],
)
def test_a10_object_links(bench, device, payload, content_format, link):
    result = bench.read(device, "/1/0/10", "2.05", bytes.fromhex(payload), content_format)
    assert content(result) == {"/1/0/10": link}


@pytest.mark.parametrize(
    ("payload", "links"),
    [(b"", []), (b"</3/0>,", ["</3/0>"]), (b"</3>, </3/0>", ["</3>", "</3/0>"])],
)
def test_a11_links(bench, device, payload, links):
    request_id = bench.app.command(device.endpoint, "discover", {"path": "/3/0"})
    device.reply(device.expect(GET, "/3/0"), "2.05", payload, LINK)
    assert bench.app.result(request_id).data["content"] == links


def test_a17_object_lists_without_a_slash(bench):
    device = bench.device()
    device.register("<1/1>,</3/0>")
    assert bench.app.report(device.endpoint).data["objectList"] == ["/1/1", "/3/0"]


def test_a18_one_readable_byte(bench, device):
    result = bench.read(device, "/40000/0/1", "2.05", b"\xc1\x01\x37", TLV)
    assert content(result) == {"/40000/0/1": 55}
    assert result.data["content"][0]["inferred"] is True


def test_b6_a_base_name_that_ends_within_an_id(bench, device):
    pack = b'{"bn":"3/0/1","e":[{"n":"1/0","v":0},{"n":"1/1","v":0}]}'
    result = bench.read(device, "/3/0/11", "2.05", pack, JSON)
    assert content(result) == {"/3/0/11/0": 0, "/3/0/11/1": 0}


def test_b9_temperatures(bench, device):
    """By definition, and without one: the type of a resource does not change with its value."""
    for path in ("/3303/0/5700", "/40000/0/1"):
        for number in (20.2, 20.4, 0.0, 21.2, 85.1, -88.2):
            identifier = int(path.rsplit("/", 1)[1])
            for form in (">d", ">f"):
                value = struct.pack(form, number)
                result = bench.read(device, path, "2.05", resource(identifier, value), TLV)
                (seen,) = content(result).values()
                assert seen == pytest.approx(number, rel=1e-6), (path, form, number)
            assert ("inferred" in result.data["content"][0]) == path.startswith("/4")


def test_b9_a_text_stays_text(bench, device):
    for text in (b"off", b"on", b"A", b"open"):
        result = bench.read(device, "/40000/0/2", "2.05", resource(2, text), TLV)
        assert content(result) == {"/40000/0/2": text.decode()}


@pytest.mark.parametrize(
    ("version", "formats", "tried"),
    [("1.1", "0 42", [42]), ("1.1", None, [42]), ("1.1", "110 112", [42]), ("1.0", None, [TLV, 42])],
)
def test_b1_bytes_go_as_they_are(bench, version, formats, tried):
    device = bench.device()
    root = f'</>;rt="oma.lwm2m";ct="{formats}"' if formats else '</>;rt="oma.lwm2m"'
    device.register(f"{root},</5/0>", lwm2m=version)
    image = bytes(range(256))
    value = base64.b64encode(image).decode()
    data = {"path": "/5/0/0", "type": "Opaque", "value": value}
    request_id = bench.app.command(device.endpoint, "write", data)
    for number in tried:
        request = device.expect(PUT, "/5/0/0")
        assert request.uint(CONTENT_FORMAT) == number
        device.reply(request, "2.04" if number == 42 else "4.15")
    assert request.payload == image
    assert bench.app.result(request_id).data["code"] == "2.04"


def test_b2_attributes_are_unset(bench, device):
    data = {"path": "/3/0/9", "pmin": "", "pmax": 60, "gt": None}
    request_id = bench.app.command(device.endpoint, "write-attr", data)
    request = device.expect(PUT, "/3/0/9")
    assert request.query == ["gt", "pmax=60", "pmin"]
    device.reply(request, "2.04")
    assert bench.app.result(request_id).data["code"] == "2.04"


def test_b3_any_argument_is_sent(bench, device):
    request_id = bench.app.command(device.endpoint, "execute", {"path": "/3/0/4", "args": "2-3"})
    request = device.expect(POST, "/3/0/4")
    assert request.payload == b"2-3"
    device.reply(request, "4.00", b"no such argument")
    data = bench.app.result(request_id).data
    assert data["code"] == "4.00" and data["diagnostic"] == "no such argument"


def test_b4_an_image_in_one_write(bench, device):
    image = os.urandom(800_000)
    value = base64.b64encode(image).decode()
    data = {"path": "/5/0/0", "type": "Opaque", "value": value}
    request_id = bench.app.command(device.endpoint, "write", data)
    body, requests = device.collect_blocks(device.expect(PUT, "/5/0/0", timeout=15))
    assert body.endswith(image)
    assert bench.app.result(request_id).data["code"] == "2.04"


def test_b4_an_image_that_is_too_large(gateway):
    bench = gateway({"limits.max_command_size": 2048})
    device = bench.registered()
    data = {"path": "/5/0/0", "type": "Opaque", "value": "A" * 800_000}
    request_id = bench.app.command(device.endpoint, "write", data, extra=[1])
    result = bench.app.result(request_id)
    assert result.type == "write" and result.json["extra"] == [1]
    assert (result.data["code"], result.data["reason"]) == ("4.00", "too_large")
    assert result.data["reqPath"] == "/5/0/0"
    device.silence(0.2)


class Bridge(Application):
    """Copies what the gateway publishes for a device to its commands."""

    def __init__(self, address, endpoint):
        self.copied = 0
        self.target = f"lwm2m/{endpoint}/dn/dm"
        super().__init__(address, [f"lwm2m/{endpoint}/up/#"])

    def _on_message(self, client, userdata, message):
        self.copied += 1
        client.publish(self.target, message.payload, 1)


def test_b8_a_loop_ends(bench, device):
    bridge = Bridge(bench.gateway.mqtt, device.endpoint)
    try:
        request_id = bench.app.command(device.endpoint, "read", {"path": "/nowhere/to/be/found/x"})
        assert bench.app.result(request_id).data["reason"] == "bad_path"
        read = bench.read(device, "/3/0/0", "2.05", b"ACME", 0)
        assert read.data["code"] == "2.05"
        time.sleep(1)
        assert bridge.copied == 2
        assert len(bench.app.results(request_id)) == 1
        device.silence(0.2)
    finally:
        bridge.close()
