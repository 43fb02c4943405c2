"""Who may send, and how much: access rules, rates and floods on real sockets."""

import os
import socket
import threading

import pytest

from coap import CON, GET, POST, TEXT, URI_PATH, URI_QUERY, Message
from gateway import wait_for

pytestmark = pytest.mark.udp_only

MAX_AGE = 14
LISTENER = "listeners.udp.default"


def socket_from(address, gateway):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.connect(gateway.udp)
    sock.settimeout(2)
    return sock


def register(sock, endpoint, mid=1):
    query = [(URI_QUERY, item) for item in (b"ep=" + endpoint.encode(), b"lwm2m=1.1", b"lt=300")]
    request = Message(CON, POST, mid, b"t", [(URI_PATH, b"rd"), *query], b"</3/0>")
    sock.send(request.encode())
    return Message.decode(sock.recv(2048))


def test_access_rules_are_followed_in_order(gateway):
    rules = '["deny 127.0.0.2", "allow 127.0.0.0/29", "deny all"]'
    bench = gateway({f"{LISTENER}.access_rules": rules})
    name = f"dev{os.getpid()}"
    before = bench.gateway.statistics()
    with socket_from("127.0.0.3", bench.gateway) as inside:
        assert register(inside, name).code_text == "2.01"
    for outside in ("127.0.0.2", "127.0.0.8"):
        with socket_from(outside, bench.gateway) as sock:
            sock.settimeout(0.5)
            with pytest.raises(TimeoutError):
                register(sock, name + "x")
    after = bench.gateway.statistics()
    assert after["datagrams_denied"] == before["datagrams_denied"] + 2
    assert after["registered"] == before["registered"] + 1


def test_max_conn_rate(gateway):
    # The gateway is asked whether it is there by a ping, which is no new device.
    bench = gateway({f"{LISTENER}.max_conn_rate": "3/1m"})
    answers = []
    for number in range(5):
        with socket_from("127.0.0.1", bench.gateway) as sock:
            answers.append(register(sock, f"rate{os.getpid()}x{number}"))
    assert [answer.code_text for answer in answers] == ["2.01"] * 3 + ["5.03"] * 2
    waits = [answer.uint(MAX_AGE) for answer in answers[3:]]
    assert all(15 <= wait <= 75 for wait in waits), waits
    assert bench.gateway.statistics()["registers_limited"] == 2


def test_devices_are_served_beside_a_flood_from_their_address(gateway):
    bench = gateway({"rates.datagrams_per_source": "500/s"})
    devices = [bench.registered() for _ in range(3)]
    stop = threading.Event()

    def flood():
        # Not faster than the kernel's buffer takes while the gateway waits for a processor.
        junk = Message(CON, GET, 1, b"", [(URI_PATH, b"x")], b"").encode()
        with socket_from("127.0.0.1", bench.gateway) as sock:
            while not stop.wait(0.005):
                for _ in range(50):
                    sock.send(junk)

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        wait_for(lambda: bench.gateway.statistics()["datagrams_limited"] > 0, 10, "refusals")
        for device in devices * 3:
            bench.read(device, "/3/0/0", "2.05", "x", TEXT)
            assert device.update().code_text == "2.04"
        # A stranger has no place at that address, but at others.
        with socket_from("127.0.0.9", bench.gateway) as newcomer:
            assert register(newcomer, f"new{os.getpid()}").code_text == "2.01"
    finally:
        stop.set()
        flooding.join()
