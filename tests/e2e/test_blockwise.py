"""Block-wise transfer (RFC 7959), both ways. Block-wise Register is in test_registration.py."""

import base64
import os
import time

import pytest

from coap import (
    BLOCK1,
    BLOCK2,
    CON,
    CONTENT_FORMAT,
    GET,
    LINK,
    OCTETS,
    POST,
    PUT,
    SIZE1,
    TEXT,
    TLV,
    block,
    resource,
    uint,
)


@pytest.fixture
def device(bench):
    return bench.registered("</1/0>,</3/0>,</5/0>")


BODY = bytes(range(256)) * 20  # 5120 bytes


@pytest.mark.parametrize("szx", [6, 4, 2])
def test_read_of_5_kilobytes(bench, device, szx):
    request_id = bench.app.command(device.endpoint, "read", {"path": "/5/0/0"})
    requests = device.serve_blocks(device.expect(GET, "/5/0/0"), BODY, OCTETS, szx)
    assert len(requests) == 5120 >> (szx + 4)
    assert len({request.mid for request in requests}) == len(requests)
    assert [request.uint(BLOCK2) >> 4 for request in requests[1:]] == list(range(1, len(requests)))
    result = bench.app.result(request_id)
    assert base64.b64decode(result.data["content"][0]["value"]) == BODY
    assert len(bench.app.results(request_id)) == 1


def test_read_of_a_large_text(bench, device):
    text = "Ünï" * 1000  # blocks end inside of characters
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    device.serve_blocks(device.expect(GET), text.encode(), TEXT, 2)
    assert bench.app.result(request_id).data["content"] == [{"path": "/3/0/0", "value": text}]


def test_a_lost_block_is_asked_for_again(bench, device):
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    first = device.expect(GET)
    device.reply(first, "2.05", b"a" * 64, TEXT, options=[(BLOCK2, block(0, True, 2))])
    lost = device.expect(GET)
    repeated = device.expect(GET)
    assert repeated.raw == lost.raw
    device.reply(repeated, "2.05", b"b" * 10, TEXT, options=[(BLOCK2, block(1, False, 2))])
    value = bench.app.result(request_id).data["content"][0]["value"]
    assert value == "a" * 64 + "b" * 10


def test_a_failed_block_is_reported_once(bench, device):
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    device.reply(
        device.expect(GET), "2.05", b"a" * 64, TEXT, options=[(BLOCK2, block(0, True, 2))]
    )
    device.reply(device.expect(GET), "5.00")
    data = bench.app.result(request_id).data
    assert data["code"] == "5.00" and "content" not in data


def test_write_of_4_kilobytes(bench, device):
    value = os.urandom(4096)
    request_id = bench.app.command(
        device.endpoint,
        "write",
        {"path": "/5/0/0", "type": "Opaque", "value": base64.b64encode(value).decode()},
    )
    body, requests = device.collect_blocks(device.expect(PUT, "/5/0/0"))
    # B1: bytes as they are.
    assert body == value
    assert len(requests) == 4
    assert all(request.uint(CONTENT_FORMAT) == 42 for request in requests)
    assert len({request.mid for request in requests}) == 4
    assert bench.app.result(request_id).data == {
        "reqPath": "/5/0/0",
        "code": "2.04",
        "codeMsg": "changed",
    }


def test_the_device_may_choose_smaller_blocks(bench, device):
    request_id = bench.app.command(
        device.endpoint, "write", {"path": "/3/0/14", "type": "String", "value": "x" * 3000}
    )
    body, requests = device.collect_blocks(device.expect(PUT), szx=4)
    assert body == resource(14, b"x" * 3000)
    assert all(request.uint(BLOCK1) & 7 <= 4 for request in requests[1:])
    bench.app.result(request_id)


def test_a_device_without_block1_says_so(bench, device):
    request_id = bench.app.command(
        device.endpoint, "write", {"path": "/3/0/14", "type": "String", "value": "x" * 3000}
    )
    sizes = []
    while not bench.app.results(request_id):
        try:
            request = device.expect(PUT, timeout=0.5)
        except AssertionError:
            continue
        assert len(sizes) < 8
        sizes.append(len(request.payload))
        device.reply(request, "4.13")
        time.sleep(0.05)
    # Smaller blocks may do (RFC 7959 section 2.9.3), but there is an end to it.
    assert sizes == sorted(set(sizes), reverse=True)
    data = bench.app.result(request_id).data
    assert data["codeMsg"] == "request_entity_too_large"


def test_block_size_from_the_configuration(gateway):
    bench = gateway({"blockwise.max_block_size": 64})
    device = bench.registered()
    request_id = bench.app.command(
        device.endpoint, "write", {"path": "/3/0/14", "type": "String", "value": "y" * 200}
    )
    request = device.expect(PUT)
    assert request.uint(BLOCK1) == 0 << 4 | 8 | 2
    body, _ = device.collect_blocks(request)
    assert body == resource(14, b"y" * 200)
    bench.app.result(request_id)


def test_large_notification(bench, device):
    request_id = bench.app.command(device.endpoint, "observe", {"path": "/3/0/0"})
    request = device.expect(GET)
    device.reply(request, "2.05", "small", TEXT, observe=1)
    bench.app.result(request_id)
    text = "n" * 1500
    sent = device.notify(
        request, 2, text[:1024], kind=CON, options=[(BLOCK2, block(0, True, 6))]
    )
    device.expect_ack(sent)
    more = device.expect(GET, "/3/0/0")
    assert more.uint(BLOCK2) == 1 << 4 | 6
    assert more.token != request.token
    device.reply(more, "2.05", text[1024:], TEXT, options=[(BLOCK2, block(1, False, 6))])
    message = bench.app.wait(
        lambda m: m.json.get("reqID") == request_id and m.type == "notify"
    )
    assert message.data["content"][0]["value"] == text


def post_block(device, number, more, part, **kwargs):
    return device.request(
        POST,
        "/rd",
        [f"ep={device.endpoint}", "lt=300", "lwm2m=1.1"],
        part,
        LINK,
        [(BLOCK1, uint(number << 4 | (8 if more else 0) | 2))],
        **kwargs,
    )


def test_blocks_of_a_register_out_of_order(bench):
    device = bench.device()
    assert post_block(device, 0, True, b"<" + b"/1/0>,<" * 9).code_text == "2.31"
    assert post_block(device, 2, True, b"x" * 64).code_text == "4.08"
    assert post_block(bench.device(), 1, False, b"x" * 64).code_text == "4.08"


def test_a_register_that_is_too_large(gateway):
    bench = gateway({"blockwise.max_body_size": 1024})
    device = bench.device()
    part = (b"</30000/0>," * 6)[:64]
    number = 0
    while (answer := post_block(device, number, True, part)).code_text == "2.31":
        number += 1
        assert number <= 16
    assert answer.code_text == "4.13"
    assert number >= 15
    if answer.get(SIZE1):
        assert answer.uint(SIZE1) == 1024


def test_a_repeated_block_is_taken_once(bench):
    device = bench.device()
    body = b"</1/0>,</3/0>,</30000/0>,</30001/0>,</30002/0>,</30003/0>,</30004/0>"
    mid, token = device.next_mid(), b"\7\7"
    first = post_block(device, 0, True, body[:64], mid=mid, token=token)
    again = post_block(device, 0, True, body[:64], mid=mid, token=token)
    assert first.raw == again.raw
    assert post_block(device, 1, False, body[64:]).code_text == "2.01"
    objects = bench.app.report(device.endpoint).data["objectList"]
    assert objects[0] == "/1/0" and objects[-1] == "/30004/0" and len(objects) == 7


def test_blockwise_update(bench, device):
    body = ",".join(f"</{31000 + n}/0>" for n in range(20)).encode()
    for number in range(0, (len(body) + 63) // 64):
        more = (number + 1) * 64 < len(body)
        answer = device.request(
            POST,
            device.location,
            (),
            body[number * 64 : (number + 1) * 64],
            LINK,
            [(BLOCK1, uint(number << 4 | (8 if more else 0) | 2))],
        )
    assert answer.code_text == "2.04"
    assert len(bench.app.report(device.endpoint, "update").data["objectList"]) == 20


def test_blockwise_can_be_switched_off(gateway):
    bench = gateway({"blockwise.enable": False})
    assert post_block(bench.device(), 0, True, b"</1/0>".ljust(64)).code_text == "4.02"


def test_the_blocks_of_a_read_are_asked_for_alike(bench, device):
    """A device may keep its answer under all options of the request (RFC 7252 section 5.4.2)."""
    bench.app.command(device.endpoint, "read", {"path": "/5/0/0"})
    requests = device.serve_blocks(device.expect(GET), BODY, OCTETS)
    options = [[o for o in request.options if o[0] != BLOCK2] for request in requests]
    assert all(other == options[0] for other in options)


def test_without_blocks_a_body_larger_than_a_datagram_is_refused(gateway):
    bench = gateway({"blockwise.enable": False})
    device = bench.registered("</5/0>")

    def write(size):
        value = base64.b64encode(bytes(size)).decode()
        data = {"path": "/5/0/0", "type": "Opaque", "value": value}
        return bench.app.command(device.endpoint, "write", data)

    data = bench.app.result(write(70_000)).data
    assert (data["code"], data["reason"]) == ("4.00", "too_large")
    assert "blockwise.enable" in data["detail"]
    # What fits goes in one.
    request_id = write(1200)
    request = device.expect(PUT, "/5/0/0")
    assert len(request.payload) == 1200
    device.reply(request, "2.04")
    assert bench.app.result(request_id).data["code"] == "2.04"
