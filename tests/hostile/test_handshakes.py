"""Handshakes: what a first flight may cost."""

import os
import socket
import struct

import pytest

from dtls import ALERT, CLIENT_HELLO, HANDSHAKE, cookie_of, record, records
from flooding import HonestSecure

ECDHE_PSK_CHACHA20 = 0xCCAC
P256, P384, P521, X25519, X448 = 23, 24, 25, 29, 30
SERVER_KEY_EXCHANGE = 12


def hello(groups, cookie=b"", sequence=0, random=b"r" * 32):
    """A ClientHello for ECDHE with these groups (RFC 8422 section 5.1.1)."""
    listed = b"".join(struct.pack("!H", group) for group in groups)
    extension = struct.pack("!HHH", 10, len(listed) + 2, len(listed)) + listed
    extension += struct.pack("!HHBB", 11, 2, 1, 0)
    body = b"\xfe\xfd" + random + b"\0" + bytes([len(cookie)]) + cookie
    body += struct.pack("!HH", 2, ECDHE_PSK_CHACHA20) + b"\x01\0"
    body += struct.pack("!H", len(extension)) + extension
    length = len(body).to_bytes(3, "big")
    message = bytes([CLIENT_HELLO]) + length + struct.pack("!H", sequence) + b"\0\0\0" + length
    return record(HANDSHAKE, message + body, sequence=sequence)


def first_flight(address, groups):
    """What the gateway answers to hello and cookie: kinds of records and messages."""
    random = os.urandom(32)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.settimeout(5)
        sock.send(hello(groups, random=random))
        cookie = cookie_of(sock.recv(4096))
        sock.send(hello(groups, cookie, 1, random))
        kinds, curve = set(), None
        sock.settimeout(1)
        while True:
            try:
                datagram = sock.recv(4096)
            except TimeoutError:
                return kinds, curve
            for found in records(datagram):
                kinds.add((found[0], found[13] if found[0] == HANDSHAKE else None))
                if found[0] == HANDSHAKE and found[13] == SERVER_KEY_EXCHANGE:
                    hint = struct.unpack("!H", found[25:27])[0]
                    assert found[27 + hint] == 3, "a named curve"
                    curve = struct.unpack("!H", found[28 + hint : 30 + hint])[0]
            if curve or (ALERT, None) in kinds:
                return kinds, curve


def test_c14_no_p384_by_default(secure):
    """A first flight that asks for P-384 alone is refused; it costs five times X25519."""
    bench = secure()
    for group in (P384, P521):
        kinds, curve = first_flight(bench.gateway.dtls, [group])
        assert curve is None and (HANDSHAKE, SERVER_KEY_EXCHANGE) not in kinds, (kinds, curve)


def test_c14_the_cheap_groups_work(secure):
    bench = secure()
    assert first_flight(bench.gateway.dtls, [X25519])[1] == X25519
    assert first_flight(bench.gateway.dtls, [P256])[1] == P256
    assert first_flight(bench.gateway.dtls, [P384, X25519])[1] == X25519


def test_c14_devices_connect_as_ever(secure):
    bench = secure()
    device = HonestSecure(bench.gateway)
    bench.devices.append(device)
    device.register()
    device.update()
