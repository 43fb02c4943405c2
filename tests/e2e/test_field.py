"""Commands and answers from the field, with the id of each case."""

import base64
import os
import time

import pytest

from application import Application
from coap import POST, PUT


@pytest.fixture
def device(bench):
    return bench.registered("</1/0>,</3/0>,</5/0>")


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
