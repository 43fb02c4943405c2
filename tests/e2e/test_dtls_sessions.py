"""DTLS sessions: one for each identity, new addresses, identities and endpoints, records, ends."""

import re
import shutil
import signal
import time

import pytest

from application import Application
from coap import CON, GET, TEXT, Message
from conftest import Bench
from device import Device
from dtls import Session
from gateway import Standalone, free_udp_port, wait_for
from secure import Changes, OpensslDevice, SecureDevice, connects, fresh_identity, key_of, refused

pytestmark = pytest.mark.standalone_only  # they read its counters

AWAKE = {"qmode_time_window": "1s"}


@pytest.fixture
def bench(secure):
    return secure()


def read(bench, device, path="/3/0/0"):
    return bench.app.command(device.endpoint, "read", {"path": path})


# One live connection for each identity


def test_the_second_connection_displaces_the_first(bench):
    first = bench.registered()
    changes = Changes(bench.gateway)
    second = bench.device(first.endpoint, identity=first.identity)
    first.sock.expect_close()
    changes.look()
    assert changes["sessions_displaced"] == 1 and changes["dtls_sessions"] == 0
    # The registration has moved.
    request_id = read(bench, second)
    second.reply(second.expect(GET, "/3/0/0"), "2.05", "x", TEXT)
    assert bench.app.result(request_id).data["code"] == "2.05"
    second.location = first.location
    second.update()
    second.deregister()


def test_or_ends_its_registration(secure):
    bench = secure({"takeover": "end"})
    first = bench.registered()
    second = bench.device(first.endpoint, identity=first.identity)
    first.sock.expect_close()
    wait_for(
        lambda: bench.app.result(read(bench, second)).data.get("reason") == "not_registered",
        5,
        "end of the registration",
    )
    second.location = first.location
    second.update(expect="4.04")
    second.register()
    bench.app.report(second.endpoint, after=1)
    assert bench.read(second, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"


def test_a_third_and_a_fourth(bench):
    devices = [bench.registered()]
    for _ in range(3):
        devices.append(bench.device(devices[0].endpoint, identity=devices[0].identity))
        devices[-2].sock.expect_close()
    devices[-1].location = devices[0].location
    devices[-1].update()


def test_a_failed_handshake_disturbs_nobody(secure):
    bench = secure({"dtls_options.handshake_timeout": "2s"})
    device = bench.registered()
    refused(bench, device.identity, b"wrong key")
    device.update()
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"
    # From its own address, in the middle of its session.
    other = Session(bench.gateway.dtls, device.identity, b"wrong key", sock=device.sock.udp.dup())
    other.step(0.3)
    other.step(0.3)
    device.update()


def test_a_new_handshake_from_the_same_port(bench):
    """The device has lost its session, in a reboot for instance, but not its address."""
    device = bench.registered()
    sock = device.sock.udp.dup()
    device.sock.close()
    device.sock = Session(bench.gateway.dtls, device.identity, device.key, sock=sock).handshake()
    device.update()
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"
    assert len(bench.app.reports(device.endpoint)) == 1


# New addresses


def test_queued_commands_come_after_a_new_handshake(secure):
    bench = secure(settings=AWAKE)
    device = bench.registered(extra=["Q"])
    time.sleep(1.3)
    ids = [read(bench, device, f"/3/0/{number}") for number in range(3)]
    device.silence(0.3)
    device.new_address()
    device.update()
    for number in range(3):
        device.reply(device.expect(GET, f"/3/0/{number}"), "2.05", str(number), TEXT)
    results = [bench.app.result(request_id) for request_id in ids]
    assert [result.data["content"][0]["value"] for result in results] == ["0", "1", "2"]
    assert len(bench.app.reports(device.endpoint)) == 1, "registered once"


def test_observations_survive_a_new_handshake(bench):
    device = bench.registered()
    request_id = bench.app.command(device.endpoint, "observe", {"path": "/3/0/9"})
    observe = device.expect(GET)
    device.reply(observe, "2.05", "1", TEXT, observe=1)
    bench.app.result(request_id)
    device.new_address()
    device.notify(observe, 2, "2")

    def notified():
        results = bench.app.results(request_id)
        return [m for m in results if m.type == "notify" and "content" in (m.data or {})]

    wait_for(lambda: notified(), 5, "a notification")
    assert notified()[-1].data["content"][0]["value"] in (2, "2")


def test_a_command_under_way_is_repeated_to_the_new_address(bench):
    device = bench.registered()
    request_id = read(bench, device)
    device.expect(GET, "/3/0/0")
    device.new_address()
    device.update()
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "x", TEXT)
    assert bench.app.result(request_id).data["code"] == "2.05"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_resumed_session(secure, tmp_path):
    bench = secure(settings=AWAKE)
    file = str(tmp_path / "session")
    device = OpensslDevice(bench.gateway, arguments=("-sess_out", file))
    bench.devices.append(device)
    device.register(extra=["Q"])
    bench.app.report(device.endpoint)
    request_id = bench.app.command(device.endpoint, "observe", {"path": "/3/0/9"})
    observe = device.expect(GET)
    device.reply(observe, "2.05", "1", TEXT, observe=1)
    bench.app.result(request_id)
    time.sleep(1.3)
    waiting = read(bench, device)
    changes = Changes(bench.gateway)
    device.arguments = ("-sess_in", file)
    device.new_address()
    changes.wait("dtls_handshakes_completed")
    assert changes["dtls_handshakes_resumed"] == 1, changes
    device.update()
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "x", TEXT)
    assert bench.app.result(waiting).data["code"] == "2.05"
    device.notify(observe, 2, "2")
    bench.app.wait(lambda m: m.json.get("reqID") == request_id and m.type == "notify")
    assert len(bench.app.reports(device.endpoint)) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_sessions_are_not_resumed_when_that_is_off(secure, tmp_path):
    bench = secure({"dtls_options.reuse_sessions": False})
    file = tmp_path / "session"
    device = OpensslDevice(bench.gateway, arguments=("-sess_out", str(file)))
    bench.devices.append(device)
    device.register()
    assert not file.exists(), "a session without id is not worth keeping"
    changes = Changes(bench.gateway)
    device.new_address()
    device.update()
    changes.look()
    assert changes["dtls_handshakes_completed"] == 1
    assert changes["dtls_handshakes_resumed"] == 0


# Identities and endpoints


@pytest.mark.parametrize(
    "rule, endpoint, code",
    [
        ("owned", "whatever", "2.01"),
        ("owned", "{identity}", "2.01"),
        ("owned", "truck-1-front", "2.01"),
        ("any", "whatever", "2.01"),
        ("equal", "{identity}", "2.01"),
        ("equal", "whatever", "4.03"),
        ("equal", "{identity}x", "4.03"),
        ("listed", "sensor-7", "2.01"),
        ("listed", "truck-1-front", "2.01"),
        ("listed", "truck-", "2.01"),
        ("listed", "{identity}", "4.03"),
        ("listed", "sensor-77", "4.03"),
    ],
)
def test_endpoint_rule(secure, rule, endpoint, code):
    identity = fresh_identity()
    bench = secure(
        {"endpoint_rule": rule}, psk=[f"{identity}:{key_of(identity).hex()}:sensor-7,truck-*"]
    )
    endpoint = endpoint.format(identity=identity)
    device = bench.device(endpoint, identity=identity)
    device.register(expect=code)
    if code == "4.03":
        said = lambda: endpoint in bench.gateway.log() and identity in bench.gateway.log()  # noqa: E731
        wait_for(said, 5, "the line about it")
        assert not bench.app.reports(endpoint)
        assert bench.gateway.statistics()["register_refused"] >= 1
    else:
        bench.app.report(endpoint)


def test_nothing_listed_nothing_permitted(secure):
    bench = secure({"endpoint_rule": "listed"})
    bench.device().register(expect="4.03")


def test_a_registration_belongs_to_its_identity(bench):
    owner, other = bench.registered(), bench.device()
    changes = Changes(bench.gateway)
    other.location = owner.location
    other.update(["lt=9"], expect="4.03")
    assert changes.look()["identity_refused"] == 1
    # Nor may it end it.
    other.deregister(expect="4.03")
    # Nor can another identity register its endpoint.
    thief = bench.device(owner.endpoint)
    thief.register(expect="4.03")
    # Nor anybody without one.
    plain = Device(bench.gateway, owner.endpoint)
    bench.devices.append(plain)
    plain.location = owner.location
    plain.update(expect="4.03")
    plain.register(expect="4.03")
    owner.update()
    assert bench.read(owner, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"


def test_suffixes(secure):
    key = b"0123456789abcdef"
    line = [f"truck:{key.hex()}"]
    bench = secure({"identity_separator": "#/"}, psk=line)
    devices = [
        bench.device(identity=identity, key=key)
        for identity in ("truck", "truck#1", "truck#2", "truck/2", "truck#1#1", "truck#")
    ]
    for device in devices:
        device.register()
    for device in devices:
        device.update()
    for identity in ("truck1", "truc#1", "#1", "truck.1"):
        refused(bench, identity, key)
    # A suffix is an identity of its own: one connection, others do not touch it.
    again = bench.device(devices[1].endpoint, identity="truck#1", key=key)
    devices[1].sock.expect_close()
    again.location = devices[1].location
    again.update()
    devices[2].location, kept = devices[1].location, devices[2].location
    devices[2].update(expect="4.03")
    devices[2].location = kept
    devices[2].update()


def test_no_suffixes_by_default(secure):
    key = b"0123456789abcdef"
    bench = secure(psk=[f"truck:{key.hex()}"])
    bench.device(identity="truck", key=key).register()
    refused(bench, "truck#1", key)


def test_equal_with_a_suffix(secure):
    key = b"0123456789abcdef"
    bench = secure({"identity_separator": "@", "endpoint_rule": "equal"}, psk=[f"car:{key.hex()}"])
    bench.device("car", identity="car@1", key=key).register()
    bench.device("car@2", identity="car@2", key=key).register()
    bench.device("car@1", identity="car@3", key=key).register(expect="4.03")


def test_identities_with_strange_characters(secure):
    identities = ["urn:imei:490154203237518", "mit Leerzeichen", "grün/日本", "a*b?c", "${x}"]
    key = bytes(range(16))
    bench = secure(psk=[f'"{identity}":{key.hex()}' for identity in identities])
    for identity in identities:
        bench.device(identity=identity, key=key).register()


# Records


def test_replayed_records_are_dropped(bench):
    device = bench.registered()
    changes = Changes(bench.gateway)
    device.update()
    updates = device.sock.sent[-1]
    for _ in range(5):
        device.sock.udp.send(updates)
    device.update()
    changes.look()
    assert changes["dtls_records_dropped"] == 5
    assert changes["updated"] == 2 and changes["datagrams_duplicate"] == 0


def test_a_replay_from_elsewhere_reaches_nobody(bench):
    device, other = bench.registered(), Device(bench.gateway)
    changes = Changes(bench.gateway)
    device.update()
    other.sock.connect(bench.gateway.dtls)
    for datagram in device.sock.sent:
        other.sock.send(datagram)
    device.update()
    changes.look()
    assert changes["updated"] == 2 and changes["dtls_handshakes_completed"] == 0
    other.close()


def test_records_in_disorder(bench):
    """Each of them arrives, once."""
    device = bench.registered()
    held = []
    device.sock.outgoing = lambda datagrams: held.extend(datagrams) or []
    pings = [device.send(Message(CON, 0, number)) for number in range(1, 21)]
    device.sock.outgoing = lambda datagrams: datagrams
    changes = Changes(bench.gateway)
    device.sock.transmit(held[::2][::-1] + held[1::2])
    for ping in pings:
        device.expect_reset(ping)
    assert changes.look()["dtls_records_dropped"] == 0


def test_records_far_behind_are_dropped(bench):
    device = bench.registered()
    held = []
    device.sock.outgoing = lambda datagrams: held.extend(datagrams) or []
    late = device.send(Message(CON, 0, 1))
    device.sock.outgoing = lambda datagrams: datagrams
    for number in range(2, 102):
        device.expect_reset(device.send(Message(CON, 0, number)))
    changes = Changes(bench.gateway)
    device.sock.transmit(held)
    device.silence(0.2, lambda m: m.mid == late.mid)
    assert changes.look()["dtls_records_dropped"] == 1


def test_forged_records_are_dropped(bench):
    device = bench.registered()
    changes = Changes(bench.gateway)
    forged = []

    def forge(datagrams):
        for datagram in datagrams:
            for place in (13, 25, len(datagram) - 1):  # nonce, text, tag
                bad = bytearray(datagram)
                bad[place] ^= 1
                forged.append(bytes(bad))
            forged.append(datagram[:-3])
        return forged + datagrams

    device.sock.outgoing = forge
    device.update()
    device.sock.outgoing = lambda datagrams: datagrams
    device.update()
    changes.look()
    assert changes["updated"] == 2
    assert changes["dtls_records_dropped"] + changes["dtls_malformed"] == len(forged)


def test_several_records_in_a_datagram(bench):
    device = bench.registered()
    held = []
    device.sock.outgoing = lambda datagrams: held.extend(datagrams) or []
    pings = [device.send(Message(CON, 0, number)) for number in range(1, 5)]
    device.sock.outgoing = lambda datagrams: datagrams
    device.sock.transmit([b"".join(held)])
    for ping in pings:
        device.expect_reset(ping)


# Ends


def test_renegotiation_is_refused(bench):
    device = bench.registered()
    changes = Changes(bench.gateway)
    try:
        device.sock.buffer._renegotiate()
    except Exception:  # of the library: it wants to read the answer
        pass
    device.sock.flush()
    device.sock.pump(1)
    changes.look()
    assert changes["dtls_handshakes_completed"] == 0
    # Whoever asks for it may lose the session, but nobody else anything.
    device.new_address()
    device.update()


def test_a_device_says_goodbye(bench):
    """Its session ends, its registration lives on, for the next session."""
    device = bench.registered()
    changes = Changes(bench.gateway)
    device.sock.shutdown()
    wait_for(lambda: changes.look()["dtls_sessions"] == -1, 5, "end of the session")
    assert changes["registrations"] == 0
    device.new_address()
    device.update()


def test_the_end_of_idle_sessions(secure):
    bench = secure({"dtls_options.idle_timeout": "1s"})
    device = bench.registered()
    device.sock.expect_close()
    device.new_address()
    device.update()


def test_a_session_lasts_as_long_as_its_registration(secure):
    bench = secure({"dtls_options.session_timeout": "1s"})
    device = bench.registered()
    stranger = SecureDevice(bench.gateway)
    stranger.sock.expect_close()  # nobody is registered over it
    changes = Changes(bench.gateway)
    device.update()
    assert changes.look()["dtls_hellos"] == 0, "it has the session still"
    device.deregister()
    device.sock.expect_close()


def test_the_gateway_says_goodbye(gateways, pool, tmp_path):
    copy = tmp_path / "copy"
    shutil.copy(pool, copy)
    gateway, application = gateways({}, copy)
    device = SecureDevice(gateway)
    device.register()
    gateway.stop()
    device.sock.expect_close()
    application.close()
    gateways.running = {
        key: value for key, value in gateways.running.items() if value[0] is not gateway
    }
    device.close()


def test_most_connections(secure):
    """One more than `max_connections` takes the place of the idlest, whose registration stays."""
    bench = secure({"max_connections": 4}, settings={"shards": 1})
    idlest, *devices = [bench.registered() for _ in range(4)]
    for device in devices:
        device.update()
    changes = Changes(bench.gateway)
    late = bench.device()
    # There may be as many registrations as connections, and four there are.
    late.register(expect="5.03")
    idlest.sock.expect_close()
    changes.look()
    assert changes["dtls_sessions"] == 0 and changes["dtls_sessions_evicted"] == 1
    for device in devices:
        device.update()
    late.close()
    idlest.new_address()
    idlest.update()


def test_both_transports_side_by_side(bench):
    plain = Device(bench.gateway)
    bench.devices.append(plain)
    plain.register()
    bench.app.report(plain.endpoint)
    device = bench.registered()
    for one in (plain, device):
        assert bench.read(one, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"


# A gateway of its own, with a configuration file


@pytest.fixture
def own(programs):
    started = []

    def start(file):
        file.chmod(0o600)  # there are keys in it
        gateway = Standalone(arguments=["--config", str(file)])
        programs.append(gateway)
        # It takes datagrams a moment before it says where.
        found = wait_for(lambda: re.search(r"dtls=(\S+):(\d+)", gateway.log()), 10, "dtls=")
        gateway.dtls = (found[1].strip("[]"), int(found[2]))
        bench = Bench(gateway, Application(gateway.mqtt), SecureDevice)
        started.append(bench)
        return bench

    yield start
    for bench in started:
        for device in bench.devices:
            device.close()
        bench.app.close()


def listener(host="127.0.0.1", **options):
    psk = ", ".join(f'"{name}" = "{key.hex()}"' for name, key in options.pop("psk").items())
    port = options.pop("port", None) or free_udp_port()
    lines = [f'bind = "{host}:{port}"', f"psk = {{ {psk} }}"]
    lines += [f"{key} = {value}" for key, value in options.items()]
    return "[listeners.dtls.default]\n" + "\n".join(lines) + "\n"


def test_sessions_survive_a_reload(own, tmp_path):
    file = tmp_path / "gateway.toml"
    key, other, port = b"k" * 16, b"o" * 16, free_udp_port()
    file.write_text(listener(port=port, psk={"kept": key, "gone": key}))
    bench = own(file)
    kept = bench.device(identity="kept", key=key)
    gone = bench.device(identity="gone", key=key)
    kept.register()
    gone.register()
    mountpoint = '"x/${endpoint_name}/"'
    file.write_text(listener(port=port, psk={"kept": key, "new": other}, mountpoint=mountpoint))
    bench.gateway.send_signal(signal.SIGHUP)
    gone.sock.expect_close()
    connects(bench, "new", other)
    kept.update()
    refused(bench, "gone", key, timeout=2)


def test_ipv6(own, tmp_path):
    file = tmp_path / "gateway.toml"
    key = b"k" * 16
    file.write_text(listener("[::1]", psk={"six": key}))
    bench = own(file)
    assert bench.gateway.dtls[0] == "::1"
    device = bench.device(identity="six", key=key)
    device.register()
    bench.app.report(device.endpoint)
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"


def test_two_devices_that_displace_each_other(bench):
    """Again and again, with commands under way: one registration, one session, nothing lost."""
    device = bench.registered()
    changes = Changes(bench.gateway)
    ids = []
    for number in range(30):
        ids.append(read(bench, device))
        device.sock = Session(bench.gateway.dtls, device.identity, device.key).handshake()
        device.replies.clear()
        if number % 3 == 0:
            device.update()
    answered = time.monotonic() + 20
    while any(not bench.app.results(i) for i in ids) and time.monotonic() < answered:
        try:
            device.reply(device.expect(GET, timeout=0.5), "2.05", "x", TEXT)
        except AssertionError:
            continue
    results = [bench.app.results(i) for i in ids]
    assert all(len(found) == 1 for found in results), results
    changes.look()
    assert changes["registrations"] == 0 and changes["dtls_sessions"] == 0
    assert changes["registered"] == 0 and changes["sessions_displaced"] == 30
    device.update()
