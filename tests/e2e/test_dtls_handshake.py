"""DTLS handshakes: credentials, suites, loss, repetition, disorder, floods."""

import itertools
import os
import select
import socket
import time

import pytest

from dtls import (
    ALERT,
    APPLICATION_DATA,
    HANDSHAKE,
    SUITES,
    Refused,
    Session,
    cookie_of,
    hello,
    record,
    records,
)
from gateway import wait_for
from secure import Changes, fresh_identity, key_of

pytestmark = pytest.mark.standalone_only  # they read its counters

# Flights are repeated soon, handshakes end soon.
QUICK = {"dtls_options.retransmit_timeout": "100ms", "dtls_options.handshake_timeout": "2s"}


@pytest.fixture
def bench(secure):
    return secure()


@pytest.fixture
def quick(secure):
    return secure(QUICK)


@pytest.fixture
def session():
    """`session(bench, outgoing=...)`: a session before its handshake, with a fresh identity."""
    made = []

    def make(bench, identity=None, key=None, **options):
        identity = identity or fresh_identity()
        found = Session(bench.gateway.dtls, identity, key or key_of(identity), **options)
        made.append(found)
        return found

    yield make
    for one in made:
        one.close()


def works(bench, connected):
    """A device registers over the session and is read from."""
    device = bench.device(session=connected)
    device.register()
    bench.app.report(device.endpoint)
    assert bench.read(device, "/3/0/0", "2.05", "x", 0).data["content"][0]["value"] == "x"
    return device


# Credentials


def test_register_and_read(bench, session):
    changes = Changes(bench.gateway)
    works(bench, session(bench).handshake())
    changes.look()
    assert changes["dtls_handshakes_completed"] == 1 and changes["dtls_hellos"] == 1
    assert changes["dtls_sessions"] == 1 and changes["registrations"] == 1


@pytest.mark.parametrize("suite", SUITES)
def test_suites(bench, session, suite):
    connected = session(bench, suites=[SUITES[suite]]).handshake()
    assert connected.suite == SUITES[suite]
    works(bench, connected)


def test_a_suite_that_is_switched_off(secure, session):
    cbc = SUITES["PSK-AES128-CBC-SHA256"]
    others = secure({"dtls_options.ciphers": '["PSK-AES128-CCM8"]'})
    with pytest.raises(Refused):
        session(others, suites=[cbc]).handshake()
    assert session(others).handshake().suite == SUITES["PSK-AES128-CCM8"]


def test_the_order_of_the_gateway_counts(secure, session):
    both = [SUITES["PSK-AES128-GCM-SHA256"], SUITES["PSK-AES128-CCM8"]]
    assert session(secure(), suites=both).handshake().suite == SUITES["PSK-AES128-CCM8"]
    first = secure({"dtls_options.ciphers": '["PSK-AES128-GCM-SHA256", "PSK-AES128-CCM8"]'})
    assert session(first, suites=both[::-1]).handshake().suite == both[0]


def test_wrong_key(quick, session):
    neighbour = works(quick, session(quick).handshake())
    changes = Changes(quick.gateway)
    with pytest.raises((Refused, TimeoutError)):
        session(quick, key=b"wrong key").handshake(3)
    changes.look()
    assert changes["dtls_handshakes_failed"] + changes["dtls_handshakes_timed_out"] >= 1
    assert changes["dtls_handshakes_completed"] == 0 and changes["dtls_sessions"] == 0
    neighbour.update()


def test_unknown_identity(bench, session):
    changes = Changes(bench.gateway)
    stranger = session(bench, identity="nobody", key=b"whatever")
    with pytest.raises((Refused, TimeoutError)):
        stranger.handshake(3)
    changes.look()
    assert changes["dtls_unknown_identities"] == 1
    assert changes["dtls_handshakes_completed"] == 0 and changes["dtls_sessions"] == 0
    assert "nobody" in bench.gateway.log()


def test_keys_are_not_logged(secure, session):
    identity, key = "shy", os.urandom(16)
    bench = secure(psk=[f"{identity}:{key.hex()}"], settings={"log.level": "trace"})
    works(bench, session(bench, identity=identity, key=key).handshake())
    log = bench.gateway.log()
    assert identity in log and key.hex() not in log.lower()


@pytest.mark.parametrize("length", [1, 64, 128, 255])
def test_lengths_of_identities_and_keys(secure, session, length):
    identity = "i" * length
    # mbed TLS takes keys of 32 bytes, OpenSSL of 256.
    key = bytes(range(1, min(length, 32) + 1))
    bench = secure(psk=[f"{identity}:{key.hex()}"])
    works(bench, session(bench, identity=identity, key=key).handshake())


# What happens on the way


def once(number, change):
    """Changes the datagram `number` (from 0), and nothing else."""
    seen = itertools.count()

    def filter(datagrams):
        out = []
        for datagram in datagrams:
            out += change(datagram) if next(seen) == number else [datagram]
        return out

    return filter


@pytest.mark.parametrize("number", range(5))
def test_a_lost_datagram_of_the_device(quick, session, number):
    works(quick, session(quick, outgoing=once(number, lambda datagram: [])).handshake())


@pytest.mark.parametrize("number", range(3))
def test_a_lost_datagram_of_the_gateway(quick, session, number):
    works(quick, session(quick, incoming=once(number, lambda datagram: [])).handshake())


def test_repeated_datagrams(quick, session):
    changes = Changes(quick.gateway)
    works(
        quick,
        session(
            quick,
            outgoing=lambda datagrams: [d for d in datagrams for _ in range(3)],
            incoming=lambda datagrams: [d for d in datagrams for _ in range(2)],
        ).handshake(),
    )
    changes.look()
    assert changes["dtls_handshakes_completed"] == 1 and changes["dtls_sessions"] == 1


def test_reordered_datagrams(quick, session):
    works(quick, session(quick, outgoing=lambda datagrams: datagrams[::-1]).handshake())


def test_one_datagram_for_each_flight(quick, session):
    works(quick, session(quick, together=True).handshake())


@pytest.mark.parametrize("number", range(5))
def test_truncated_datagrams(quick, session, number):
    """The whole datagram follows when it is repeated."""
    outgoing = once(number, lambda datagram: [datagram[: len(datagram) // 2]])
    works(quick, session(quick, outgoing=outgoing).handshake())


@pytest.mark.parametrize("number", range(5))
def test_every_length_of_a_datagram(quick, session, number):
    """All beginnings of a datagram come before the datagram itself."""
    outgoing = once(number, lambda datagram: [datagram[:n] for n in range(len(datagram) + 1)])
    works(quick, session(quick, outgoing=outgoing).handshake())


def test_a_fragmented_handshake(secure, session):
    """The ClientKeyExchange with its long identity comes in several datagrams."""
    identity, key = "long-" * 50, b"0123456789abcdef"
    bench = secure(QUICK, psk=[f"{identity}:{key.hex()}"])
    connected = session(bench, identity=identity, key=key, mtu=128)
    connected.handshake()
    fragments = [d for d in connected.sent if d[0] == HANDSHAKE and d[13] == 16]
    assert len(fragments) > 1, "the library did not make fragments"
    works(bench, connected)


def test_fragments_in_disorder(secure, session):
    identity, key = "long-" * 50, b"0123456789abcdef"
    bench = secure(QUICK, psk=[f"{identity}:{key.hex()}"])
    options = {"mtu": 128, "outgoing": lambda datagrams: datagrams[::-1]}
    works(bench, session(bench, identity=identity, key=key, **options).handshake())


def test_a_cut_connection(quick, session):
    """The device is gone in the middle of its handshake; it ends, and the port is free again."""
    changes = Changes(quick.gateway)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    cut = session(quick, sock=sock)
    for _ in range(2):  # ClientHello twice; the answer of the gateway comes to nothing
        cut.step(1)
    changes.wait("dtls_handshakes_started")
    changes.wait("dtls_handshakes_timed_out")
    assert changes["dtls_sessions"] == 0
    while cut.pump(0):  # what the gateway repeated
        pass
    works(quick, session(quick, sock=sock).handshake())


def test_a_handshake_begun_anew_from_the_same_port(quick, session):
    """A device that lost power in its handshake does not wait for the end of the old one."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    cut = session(quick, sock=sock)
    for _ in range(2):
        cut.step(1)
    works(quick, session(quick, sock=sock).handshake(1.5))


# Cookies and floods


@pytest.fixture
def udp(bench):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(bench.gateway.dtls)
        sock.settimeout(2)
        yield sock


def test_the_first_hello_is_answered_by_a_cookie(bench, udp):
    changes = Changes(bench.gateway)
    random = os.urandom(32)
    first = hello(random=random)
    udp.send(first)
    answer = udp.recv(2048)
    cookie = cookie_of(answer)
    assert cookie and len(answer) <= len(first)
    assert changes.look()["dtls_handshakes_started"] == 0
    # The same from elsewhere is worth nothing.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.connect(bench.gateway.dtls)
        other.settimeout(2)
        other.send(hello(cookie, 1, random))
        assert cookie_of(other.recv(2048)) not in (None, cookie)
    changes.look()
    assert changes["dtls_bad_cookies"] == 1 and changes["dtls_handshakes_started"] == 0
    udp.send(hello(cookie, 1, random))
    answer = udp.recv(2048)
    assert cookie_of(answer) is None and answer[13] == 2, "ServerHello"


def test_a_forged_cookie(bench, udp):
    changes = Changes(bench.gateway)
    udp.send(hello(os.urandom(20)))
    assert cookie_of(udp.recv(2048))
    assert changes.look()["dtls_handshakes_started"] == 0


def test_a_flood_of_hellos(bench):
    """No state is kept for those who do not answer: memory stays flat."""
    neighbour = bench.device()
    neighbour.register()
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(50)]
    for sock in socks:
        sock.connect(bench.gateway.dtls)
        sock.setblocking(False)
    datagrams = [hello(random=os.urandom(32)) for _ in range(20)]

    def flood(rounds):
        answers = 0
        for _ in range(rounds):
            for sock, datagram in zip(socks, itertools.cycle(datagrams)):
                try:
                    sock.send(datagram)
                except BlockingIOError:
                    pass
            # Lock-step by and large, so that the gateway really handles them.
            for sock in select.select(socks, [], [], 1)[0]:
                try:
                    while cookie_of(sock.recv(2048)):
                        answers += 1
                except BlockingIOError:
                    pass
        return answers

    changes = Changes(bench.gateway)
    flood(100)
    before = bench.gateway.memory()
    answers = flood(500)
    assert answers > 10_000, "the flood was too slow to mean anything"
    grown = bench.gateway.memory() - before
    assert grown < 4 << 20, f"{grown} bytes for {answers} hellos"
    changes.look()
    assert changes["dtls_handshakes_started"] == 0 and changes["dtls_hellos"] > answers
    neighbour.update()
    for sock in socks:
        sock.close()


def total(changes, count, *names):
    """Waits until these counters together have gone up by `count`."""
    ends = " and ".join(names)
    wait_for(lambda: sum(changes.look()[name] for name in names) >= count, 10, ends)
    assert sum(changes[name] for name in names) == count, changes


def test_a_flood_of_handshakes(secure):
    """Hellos with good cookies and nothing more: bounded, and those before them stay."""
    bench = secure({**QUICK, "dtls_options.max_handshakes": 10})
    neighbour = bench.device()
    neighbour.register()
    changes = Changes(bench.gateway)
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(200)]
    begun = []
    for sock in socks:
        sock.connect(bench.gateway.dtls)
        sock.settimeout(5)
        random = os.urandom(32)
        sock.send(hello(random=random))
        begun.append(hello(cookie_of(sock.recv(2048)), 1, random))
    # All at once: a handshake that has waited for three times the retransmission timeout gives way.
    for sock, datagram in zip(socks, begun):
        sock.send(datagram)
    changes.wait("dtls_handshakes_refused", 100)
    total(changes, 200, "dtls_handshakes_started", "dtls_handshakes_refused")
    neighbour.update()
    # Each ends for itself, or has ended for one that came later.
    started = changes["dtls_handshakes_started"]
    assert started >= 10
    total(changes, started, "dtls_handshakes_timed_out", "dtls_handshakes_evicted")
    assert changes["dtls_handshakes_started"] == started
    assert changes["dtls_handshakes_timed_out"] >= 1 and changes["dtls_sessions"] == 0
    bench.device().register()
    for sock in socks:
        sock.close()


def test_what_is_no_dtls(bench, udp):
    changes = Changes(bench.gateway)
    nonsense = [
        b"",
        b"\x16",
        b"\x40\x01\x00\x01\xb2rd",  # CoAP in the clear
        record(HANDSHAKE, b""),
        record(HANDSHAKE, b"\x01" * 5),
        record(99, b"x" * 40),
        record(HANDSHAKE, os.urandom(60), version=0x0303),
        record(APPLICATION_DATA, os.urandom(60), epoch=1, sequence=1),
        record(ALERT, b"\x02\x28"),
        hello()[:-10],
        hello(b"c" * 255)[:100],
        b"\x80" * 1400,
    ]
    for datagram in nonsense:
        udp.send(datagram)
    udp.send(hello())
    assert cookie_of(udp.recv(2048))
    changes.look()
    assert changes["dtls_malformed"] + changes["dtls_unknown_peer"] >= 8
    assert changes["dtls_handshakes_started"] == 0 and changes["datagrams_malformed"] == 0


def test_older_versions_are_refused(bench, udp):
    old = bytearray(hello())
    old[13 + 12 : 13 + 14] = b"\xfe\xff"  # DTLS 1.0
    udp.send(bytes(old))
    random = os.urandom(32)
    try:
        cookie = cookie_of(udp.recv(2048))
    except TimeoutError:
        return
    again = bytearray(hello(cookie or b"", 1, random))
    again[13 + 12 : 13 + 14] = b"\xfe\xff"
    udp.send(bytes(again))
    try:
        answer = records(udp.recv(2048))[0]
    except TimeoutError:
        return
    assert answer[0] == ALERT or cookie_of(answer), answer.hex()
