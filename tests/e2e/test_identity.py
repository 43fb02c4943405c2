"""Whose an endpoint is, and whose a mountpoint: devices with keys of their own beside a plain port."""

import subprocess

import pytest

from coap import GET, LOCATION_PATH
from device import Device
from gateway import binary, wait_for
from secure import Changes, SecureDevice, connects

pytestmark = pytest.mark.standalone_only  # they read its counters

TEXT = 0
KEYS = {name: (name * 16)[:16].encode() for name in ("alpha", "beta", "fleet", "later")}


def lines(**endpoints):
    """A PSK file: identities with what they list."""
    named = [(name, f":{listed}" if listed else "") for name, listed in endpoints.items()]
    return [f"{name}:{KEYS[name].hex()}{listed}" for name, listed in named]


def secured(bench, identity, endpoint=None):
    return bench.device(endpoint or identity, identity=identity, key=KEYS[identity.split("#")[0]])


def plain(bench, endpoint):
    device = Device(bench.gateway, endpoint)
    bench.devices.append(device)
    return device


def why(answer):
    return answer.payload.decode()


def test_c6_an_endpoint_that_a_credential_covers_is_its_own(secure):
    bench = secure({"identity_separator": "#"}, psk=lines(alpha="truck-*", beta="", fleet=""))
    changes = Changes(bench.gateway)
    for identity, endpoint, code in [
        ("alpha", "beta", "4.03"),
        ("beta", "truck-7", "4.03"),
        ("fleet#1", "alpha", "4.03"),
        ("beta", "beta", "2.01"),
        ("alpha", "truck-7", "2.01"),
        # One key for many that nobody covers; the first has it while it is registered.
        ("fleet#1", "urn:imei:350457790123456", "2.01"),
        ("fleet#2", "urn:imei:350457790123457", "2.01"),
        ("beta", "urn:imei:350457790123457", "4.03"),
    ]:
        secured(bench, identity, endpoint).register(expect=code)
    assert changes.look()["identity_refused"] == 4
    said = "must not register this endpoint"
    wait_for(lambda: said in bench.gateway.log(), 5, "the line about it")


def test_c5_a_plain_listener_leaves_endpoints_with_a_key_alone(secure):
    bench = secure(psk=lines(alpha="truck-*", beta=""))
    beta = secured(bench, "beta")
    beta.register()
    beta.close()  # asleep
    changes = Changes(bench.gateway)
    for endpoint in ("beta", "alpha", "truck-9"):
        answer = plain(bench, endpoint).register(expect="4.03")
        assert "must register over DTLS" in why(answer)
    assert changes.look()["identity_refused"] == 3
    plain(bench, "gadget").register()
    # What waits for beta reaches beta.
    beta.new_address()
    beta.update()
    assert bench.read(beta, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"


def test_c5_any_endpoint_when_that_is_wanted(secure):
    bench = secure(psk=lines(beta=""), settings={"plain_registers": "any"})
    thief = plain(bench, "beta")
    thief.register()
    beta = secured(bench, "beta")
    beta.register()
    thief.update(expect="4.04")
    thief.register(expect="4.03")
    assert bench.read(beta, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"


def test_c5_a_credential_that_is_added_counts(secure):
    bench = secure(psk=lines(beta=""))
    device = plain(bench, "later")
    device.register()
    command = [binary(), "psk", "add", "--file", bench.psk_file, "later"]
    subprocess.run([*command, "--key", KEYS["later"].hex()], check=True, timeout=10)
    connects(bench, "later", KEYS["later"])

    def ended():
        try:
            device.update(expect="4.04")
            return True
        except AssertionError:  # 2.04
            return False

    wait_for(ended, 20, "the end of the registration")
    device.register(expect="4.03")
    secured(bench, "later").register()


def test_c4_placeholders_are_the_identity(secure):
    bench = secure(
        {"endpoint_rule": "equal"},
        psk=lines(alpha="", beta=""),
        settings={"mountpoint": "lwm2m/${username}/"},
    )
    liar = plain(bench, "liar")
    answer = liar.register(extra=["imei=beta"], expect="4.03")
    assert "over DTLS" in why(answer)
    beta, alpha = secured(bench, "beta"), secured(bench, "alpha")
    beta.register()
    alpha.register(extra=["imei=beta", "device_id=beta"])
    report = bench.app.wait(lambda m: m.type == "register" and m.data["ep"] == "alpha")
    assert report.topic == "lwm2m/alpha/up/resp"
    # A command goes to one of them.
    command = {"reqID": 1, "msgType": "read", "data": {"path": "/3/0/0"}}
    bench.app.publish("lwm2m/beta/dn/dm", command)
    beta.reply(beta.expect(GET), "2.05", "x", TEXT)
    alpha.silence(0.5)
    liar.register(extra=["imei=beta"], expect="4.03")


def test_c4_one_endpoint_a_mountpoint(gateway):
    bench = gateway({"mountpoint": "lwm2m/${clientid}${endpoint_name}/"})
    # Both are lwm2m/abc/, in whatever shard they are.
    first = bench.device("bc")
    seconds = [bench.device("c") for _ in range(4)]
    if bench.kind is SecureDevice:
        pytest.skip("with DTLS a device cannot choose its client id")
    first.register(extra=["device_id=a"])
    for second in seconds:
        answer = second.register(extra=["device_id=ab"], expect="4.03")
        assert "lwm2m/abc/" in why(answer)
        assert not answer.get(LOCATION_PATH)
    bench.app.publish("lwm2m/abc/dn", {"reqID": 1, "msgType": "read", "data": {"path": "/3/0/0"}})
    first.reply(first.expect(GET), "2.05", "x", TEXT)
    first.deregister()
    seconds[0].register(extra=["device_id=ab"])
    first.register(extra=["device_id=a"], expect="4.03")
    seconds[0].deregister()


def test_c4_a_shared_mountpoint(gateway):
    bench = gateway({"mountpoint": "lwm2m/all/", "shared_mountpoint": True})
    devices = [bench.device() for _ in range(3)]
    for device in devices:
        device.register()
    bench.app.publish("lwm2m/all/dn", {"reqID": 1, "msgType": "read", "data": {"path": "/3/0/0"}})
    for device in devices:
        device.reply(device.expect(GET), "2.05", "x", TEXT)
    for device in devices:
        device.deregister()
