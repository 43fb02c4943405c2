"""Plain UDP, as good as it can be: nobody is amplified, forgotten or kept alive by strangers."""

import os
import random
import socket
import time

import pytest

from coap import ACK, CON, GET, NON, POST, PUT, RST, URI_PATH, URI_QUERY, Message, block
from dtls import hello
from flooding import Flood

SEND = '[{"n":"/3/0/0","vs":"once"}]'
SENML_JSON = 110


# C16


@pytest.mark.parametrize("source", ["127.0.0.2", "127.0.0.1"])
def test_c16_strangers_do_not_push_a_device_out_of_the_duplicate_cache(own, source):
    """A repeated Send is published once, whatever came from others between."""
    bench = own({"limits.dedup_bytes": "64KB", "shards": 1})
    device = bench.device()
    device.register()
    first = device.request(
        POST, "/dp", payload=SEND, content_format=SENML_JSON, mid=77, token=b"send"
    )
    assert first.code_text == "2.04"
    flood = Flood("update", bench.gateway.udp, **{"from": source, "count": 20_000, "rate": 8000})
    assert flood.result()["sent"] == 20_000
    again = device.request(
        POST, "/dp", payload=SEND, content_format=SENML_JSON, mid=77, token=b"send"
    )
    assert again.raw == first.raw
    # Published in order: when the next one is there, the repetition would be, too.
    device.request(POST, "/dp", payload=SEND.replace("once", "next"), content_format=SENML_JSON)
    sends = f"lwm2m/{device.endpoint}/up/send"
    bench.app.wait(lambda m: m.topic == sends and b"next" in m.payload, what="the next Send")
    assert len(bench.app.all(lambda m: m.topic == sends and b"once" in m.payload)) == 1


# C17


def exchanged(address, datagram, repeat=1):
    """Bytes that go to `address` from a new socket and bytes that come back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        for _ in range(repeat):
            sock.send(datagram)
        received, answers = 0, []
        sock.settimeout(0.15)
        while True:
            try:
                answers.append(sock.recv(65536))
            except (TimeoutError, ConnectionRefusedError):
                break
            received += len(answers[-1])
        return len(datagram) * repeat, received, answers


def small(code=GET, path=(), query=(), token=b"", kind=CON, options=(), payload=b""):
    message = Message(kind, code, int.from_bytes(os.urandom(2), "big"), token, payload=payload)
    message.options += [(URI_PATH, part.encode()) for part in path]
    message.options += [(URI_QUERY, item.encode()) for item in query]
    message.options += options
    return message.encode()


SMALL = {
    "ping": small(0),
    "get": small(GET),
    "get-token": small(GET, token=b"t"),
    "get-non": small(GET, kind=NON),
    "well-known-core": small(GET, [".well-known", "core"]),
    "rd": small(POST, ["rd"]),
    "rd-non": small(POST, ["rd"], kind=NON),
    "rd-empty-endpoint": small(POST, ["rd"], ["ep="]),
    "rd-one-letter": small(POST, ["rd"], ["ep=a"]),
    "bs": small(POST, ["bs"]),
    "dp": small(POST, ["dp"]),
    "dp-payload": small(POST, ["dp"], payload=b"x"),
    "put": small(PUT, ["rd", "x"]),
    "unknown-method": small(7),
    "unknown-critical-option": small(GET, options=[(9, b"")]),
    "proxy": small(GET, options=[(35, b"coap://x")]),
    "block1": small(POST, ["rd"], options=[(27, block(1, True, 6))]),
    "reserved-block": small(POST, ["rd"], options=[(27, b"\x0f")]),
    "unknown-location": small(POST, ["rd", "a"]),
    "version-2": b"\x80\x01\x00\x01",
    "token-too-long": b"\x4f\x01\x00\x01",
    "option-truncated": b"\x40\x01\x00\x01\xd0",
    "reserved-code": b"\x40\x20\x00\x01",
    "response": b"\x40\x45\x00\x01",
    "dtls-on-the-plain-port": hello(),
}


@pytest.mark.parametrize("which", SMALL)
def test_c17_small_requests(bench, which):
    """To an address that has not shown itself goes three times what came from it, at most."""
    sent, received, answers = exchanged(bench.gateway.udp, SMALL[which])
    assert received <= 3 * sent, f"{sent} bytes, then {[a.hex() for a in answers]}"


def test_c17_repetitions(bench):
    sent, received, _ = exchanged(bench.gateway.udp, small(POST, ["rd"]), repeat=50)
    assert received <= 3 * sent


def test_c17_random_small_datagrams(bench):
    """A thousand kinds of nonsense."""
    source = random.Random(7)
    address = bench.gateway.udp
    for _ in range(60):
        datagram = bytes([0x40 | source.choice((0, 0x10, 0x20, 0x30)), source.choice((0, 1, 2, 3, 4, 5, 6, 7))])
        datagram += source.randbytes(source.randrange(2, 12))
        sent, received, answers = exchanged(address, datagram)
        assert received <= 3 * sent, f"{datagram.hex()}: {[a.hex() for a in answers]}"


def test_c17_hello_of_dtls(secure):
    """A hello without cookie is answered by less than it is."""
    bench = secure()
    # It comes soon, unless the machine has much else to do.
    for _ in range(20):
        sent, received, _ = exchanged(bench.gateway.dtls, hello())
        assert received <= sent
        if received:
            return
    pytest.fail("no answer")


# Signs of life


def test_strangers_signs_do_not_prolong_a_lifetime(bench):
    """Pings, resets, acknowledgements and junk from the device's own address and port, which
    anybody can write on a datagram, do not keep a registration alive."""
    device = bench.registered(lt=3)
    end = time.monotonic() + 20
    kinds = [
        lambda: Message(CON, 0, device.next_mid()).encode(),
        lambda: Message(RST, 0, device.next_mid()).encode(),
        lambda: Message(ACK, 0, device.next_mid()).encode(),
        lambda: Message(ACK, 69, device.next_mid(), os.urandom(8)).encode(),
        lambda: Message(NON, 69, device.next_mid(), os.urandom(8)).encode(),
        lambda: small(GET, ["x"]),
        lambda: os.urandom(20),
    ]
    turn = 0
    while time.monotonic() < end:
        device.send(kinds[turn % len(kinds)]())
        turn += 1
        device._receive(0.1)
        device.inbox.clear()
        if turn % 10 == 0:
            request_id = bench.app.command(device.endpoint, "discover", {"path": "/3"})
            answer = bench.app.result(request_id, timeout=20)
            if answer.type == "discover" and answer.data.get("code") == "4.04":
                return
    raise AssertionError("still registered after its lifetime")
