"""Loss, repetition, silence and nonsense: what UDP does to a gateway."""

import os
import random
import time

import pytest

from coap import CON, GET, NON, POST, RST, TEXT, Message


@pytest.fixture
def device(bench):
    return bench.registered()


def test_a_lost_request_is_repeated_with_the_same_message_id(bench, device):
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    lost = device.expect(GET)
    begin = time.monotonic()
    repeated = device.expect(GET)
    assert repeated.raw == lost.raw
    assert 0.2 <= time.monotonic() - begin <= 1.0
    device.reply(repeated, "2.05", "x", TEXT)
    assert bench.app.result(request_id).type == "read"
    device.silence(0.8)
    assert len(bench.app.results(request_id)) == 1


def test_a_lost_answer_is_repeated_by_the_device(bench, device):
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    request = device.expect(GET)
    device.reply(request, "2.05", "x", TEXT, lose=True)
    device.reply(device.expect(GET), "2.05", "x", TEXT)
    assert bench.app.result(request_id).data["content"][0]["value"] == "x"


def test_silence_is_reported_once_and_blocks_nothing(bench, device):
    first = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"}, cacheID=5)
    second = bench.app.command(device.endpoint, "read", {"path": "/3/0/1"})
    begin = time.monotonic()
    requests = [device.expect(GET, "/3/0/0") for _ in range(3)]
    assert len({request.raw for request in requests}) == 1
    request = device.expect(GET, "/3/0/1")
    # ACK_TIMEOUT 0.25 s, MAX_RETRANSMIT 2, factor 1.5: at most 0.25 * 7 * 1.5 s.
    assert time.monotonic() - begin < 3.2
    device.reply(request, "2.05", "x", TEXT)
    assert bench.app.result(second).type == "read"
    result = bench.app.result(first)
    assert result.json == {
        "reqID": first,
        "msgType": "coap_timeout",
        "cacheID": 5,
        "data": {"path": "/3/0/0"},
    }
    device.update()
    device.update()
    time.sleep(0.3)
    assert len(bench.app.results(first)) == 1


def test_a_separate_answer_that_never_comes(bench, device):
    """Wakaama acknowledges a composite read and then never answers."""
    first = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    device.acknowledge(device.expect(GET))
    assert bench.app.result(first, kind="ack")
    # The acknowledged request is not outstanding any more (RFC 7252 section 4.7).
    second = bench.app.command(device.endpoint, "read", {"path": "/3/0/1"})
    device.reply(device.expect(GET, "/3/0/1"), "2.05", "x", TEXT)
    assert bench.app.result(second).type == "read"
    assert bench.app.result(first, kind="coap_timeout", timeout=8)
    assert [m.type for m in bench.app.results(first)] == ["ack", "coap_timeout"]


def test_reset(bench, device):
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"}, cacheID=6)
    device.reset(device.expect(GET))
    assert bench.app.result(request_id).json == {
        "reqID": request_id,
        "msgType": "coap_reset",
        "cacheID": 6,
        "data": {"path": "/3/0/0"},
    }
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).type == "read"


def test_silent_devices_do_not_hold_up_others(bench):
    silent = [bench.registered() for _ in range(5)]
    lively = bench.registered()
    for device in silent:
        bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    begin = time.monotonic()
    bench.read(lively, "/3/0/0", "2.05", "x", TEXT)
    assert time.monotonic() - begin < 1


def test_an_answer_from_another_address_is_not_taken(bench, device):
    stranger = bench.device()
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    request = device.expect(GET)
    stranger.reply(request, "2.05", "forged", TEXT)
    stranger.separate(request, "2.05", "forged", TEXT, kind=NON)
    time.sleep(0.1)
    device.reply(request, "2.05", "real", TEXT)
    assert bench.app.result(request_id).data["content"][0]["value"] == "real"


def test_an_answer_with_a_wrong_token_is_not_taken(bench, device):
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    request = device.expect(GET)
    token = request.token
    request.token = bytes(byte ^ 0xFF for byte in token)
    device.reply(request, "2.05", "forged", TEXT, lose=True)
    device.send(device.reply(request, "2.05", "forged", TEXT, lose=True))
    repeated = device.expect(GET)
    assert repeated.token == token
    device.reply(repeated, "2.05", "real", TEXT)
    assert bench.app.result(request_id).data["content"][0]["value"] == "real"


def test_ping(bench):
    device = bench.device()
    ping = device.send(Message(CON, 0, 4711))
    device.expect_reset(ping)


def test_empty_non_is_ignored(bench):
    device = bench.device()
    device.send(Message(NON, 0, 4712))
    device.silence(0.2)


def test_repeated_update_is_answered_alike(bench, device):
    message = Message(CON, POST, device.next_mid(), b"\5\5")
    message.options = [(11, part.encode()) for part in device.location.split("/")]
    device.send(message)
    first = device.answer_to(message)
    device.send(message)
    assert device.answer_to(message).raw == first.raw


def test_repeated_deregister_is_answered_alike(bench, device):
    message = Message(CON, 4, device.next_mid(), b"\6\6")
    message.options = [(11, part.encode()) for part in device.location.split("/")]
    device.send(message)
    first = device.answer_to(message)
    assert first.code_text == "2.02"
    device.send(message)
    assert device.answer_to(message).raw == first.raw


def test_message_ids_reused_after_a_reboot(bench):
    """A rebooted device starts its message ids again: a new exchange, not a repetition."""
    device = bench.device()
    device.register(mid=1, token=b"\1\1", lt=100)
    bench.app.report(device.endpoint)
    device.register(mid=1, token=b"\2\2", lt=200)
    assert bench.app.report(device.endpoint, after=1).data["lt"] == 200


NONSENSE = [
    b"",
    b"\x00",
    b"\x40",
    b"\x40\x01\x00",
    b"\x80\x01\x00\x01",  # version 2
    b"\x49\x01\x00\x01" + b"t" * 9,  # token of 9 bytes
    b"\x44\x01\x00\x01\x01",  # truncated token
    b"\x40\x01\x00\x01\xff",  # payload marker without payload
    b"\x40\x01\x00\x01\xf0",  # reserved option delta
    b"\x40\x01\x00\x01\x0f",
    b"\x40\x01\x00\x01\xed\xff\xff\xff",
    b"\x40\x01\x00\x01\xb5rd",  # truncated option
    b"\x40\xe1\x00\x01",  # reserved class 7
    b"\x40\x00\x00\x01extra",  # empty message with a tail
    b"GET / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("data", NONSENSE, ids=lambda data: data[:8].hex() or "empty")
def test_nonsense_harms_nothing(bench, data):
    device = bench.device()
    device.sock.send(data)
    device.inbox.clear()
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        device._receive(0.05)
    for message in device.inbox:
        assert message.type == RST or message.code_text.startswith("4."), f"{message}"
    device.inbox.clear()
    device.register()


def test_random_datagrams_harm_nothing(bench, device):
    generator = random.Random(1)
    valid = Message(CON, POST, 7, b"tt", [(11, b"rd"), (15, b"ep=fuzz"), (15, b"lwm2m=1.1")]).encode()
    other = bench.device()
    for _ in range(2000):
        data = bytearray(valid)
        for _ in range(generator.randrange(1, 4)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        other.sock.send(bytes(data[: generator.randrange(len(data) + 1)]))
    for _ in range(500):
        other.sock.send(os.urandom(generator.randrange(64)))
    time.sleep(0.3)
    device.update()
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).type == "read"


def test_a_bad_link(bench):
    """A third of all datagrams of either side is lost; every command still ends, once."""
    device = bench.registered()
    generator = random.Random(7)
    ids = [bench.app.command(device.endpoint, "read", {"path": "/3/0/0"}) for _ in range(15)]
    end = time.monotonic() + 40
    while time.monotonic() < end and any(not bench.app.results(i) for i in ids):
        try:
            request = device.expect(GET, timeout=0.3)
        except AssertionError:
            continue
        if generator.random() < 0.33:
            continue
        device.reply(request, "2.05", "x", TEXT, lose=generator.random() < 0.33)
    results = [bench.app.results(request_id) for request_id in ids]
    assert all(len(found) == 1 for found in results), results
    kinds = [found[0].type for found in results]
    assert set(kinds) <= {"read", "coap_timeout"} and kinds.count("read") >= 10, kinds
