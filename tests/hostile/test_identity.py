"""Nobody receives what is another's, speaks as another, or shuts another out."""

import pytest

from coap import GET, POST, TEXT
from secure import SecureDevice, key_of

NAMES = ("alpha", "beta", "gamma", "kit")
# The key of each, for the endpoints that the rule gives it.
KEYS = [f"{name}:{key_of(name).hex()}" for name in NAMES]
SEND = '[{"n":"/3/0/0","vs":"hello"}]'
SENML_JSON = 110


@pytest.fixture
def rule(own):
    """A gateway with both listeners, an endpoint rule and a mountpoint."""

    def start(rule=None, mountpoint=None, **settings):
        if rule:
            settings["listeners.dtls.default.endpoint_rule"] = rule
        if mountpoint:
            settings["mountpoint"] = mountpoint
        return own(settings, psk=KEYS)

    return start


def secured(bench, identity):
    device = SecureDevice(bench.gateway, identity, identity)
    bench.devices.append(device)
    return device


def try_to_register(device, endpoint, *more):
    """The answer to a Register as `endpoint`."""
    query = [f"ep={endpoint}", "lt=300", "lwm2m=1.1", *more]
    answer = device.request(POST, "/rd", query, "</1/0>,</3/0>", 40)
    if answer.code_text == "2.01":
        device.location = "/".join(answer.location)
    return answer


def gets_nothing(device):
    device.silence(1, lambda m: 0 < m.code < 32)


def sends_as_itself(bench, device):
    """Its Send, if it could register at all, is not published as beta's."""
    if not device.location:
        return
    device.request(POST, "/dp", payload=SEND, content_format=SENML_JSON)
    sent = bench.app.wait(lambda m: m.topic.endswith("/up/send"), what="a Send")
    assert sent.topic != "lwm2m/beta/up/send"


def write(bench, name):
    """A command to the topic of `name`; nothing is said of who gets it."""
    command = {"reqID": 7, "msgType": "write", "data": {"path": "/3/0/14", "value": "+02:00"}}
    bench.app.publish(f"lwm2m/{name}/dn/dm", command)


def gets_a_write(device):
    request = device.expect(timeout=10)
    assert request.path == "/3/0/14"
    device.reply(request, "2.04")


# C4


@pytest.mark.parametrize("placeholder, item", [("username", "imei"), ("clientid", "device_id")])
def test_c4_a_mountpoint_is_that_of_the_identity(rule, placeholder, item):
    """What a device says of its `imei` or `device_id` does not give it another's topics."""
    bench = rule("equal", f"lwm2m/${{{placeholder}}}/")
    alpha, beta = secured(bench, "alpha"), secured(bench, "beta")
    assert try_to_register(beta, "beta").code_text == "2.01"
    try_to_register(alpha, "alpha", f"{item}=beta")
    write(bench, "beta")
    gets_a_write(beta)
    gets_nothing(alpha)
    sends_as_itself(bench, alpha)


@pytest.mark.parametrize("placeholder, item", [("username", "imei"), ("clientid", "device_id")])
def test_c4_nor_over_plain_udp(rule, placeholder, item):
    """An endpoint that nobody covers does not get a covered one's topics by its `imei`."""
    bench = rule("equal", f"lwm2m/${{{placeholder}}}/")
    beta, plain = secured(bench, "beta"), bench.device()
    assert try_to_register(beta, "beta").code_text == "2.01"
    try_to_register(plain, "stranger", f"{item}=beta")
    write(bench, "beta")
    gets_a_write(beta)
    gets_nothing(plain)
    sends_as_itself(bench, plain)


@pytest.mark.parametrize("first", ["owner", "thief"])
def test_c4_one_endpoint_for_each_mountpoint(gateway, first):
    """Two devices of plain UDP with one `imei`: a command goes to one of them only."""
    bench = gateway({"mountpoint": "lwm2m/${username}/"})
    imei = f"{first}-imei"
    one, other = bench.device(), bench.device()
    assert try_to_register(one, one.endpoint, f"imei={imei}").code_text == "2.01"
    assert try_to_register(other, other.endpoint, f"imei={imei}").code >> 5 == 4
    write(bench, imei)
    gets_a_write(one)
    gets_nothing(other)


# C5


@pytest.mark.parametrize("which", ["equal", "owned"])
def test_c5_plain_udp_does_not_take_a_covered_endpoint(rule, which):
    """An endpoint with a credential does not come in without one, whether it is there or not."""
    bench = rule(which)
    plain = bench.device()
    assert try_to_register(plain, "beta").code_text == "4.03"
    beta = secured(bench, "beta")
    assert try_to_register(beta, "beta").code_text == "2.01"
    assert try_to_register(plain, "beta").code_text == "4.03"
    write(bench, "beta")
    gets_a_write(beta)
    gets_nothing(plain)


def test_c5_others_come_in_over_plain_udp(rule):
    bench = rule("equal")
    plain = bench.device()
    assert try_to_register(plain, plain.endpoint).code_text == "2.01"


# C6


def test_c6_a_covered_endpoint_is_its_owners(rule):
    """By default alpha cannot register beta, before beta or after."""
    bench = rule()
    alpha, beta = secured(bench, "alpha"), secured(bench, "beta")
    assert try_to_register(alpha, "beta").code_text == "4.03"
    assert try_to_register(beta, "beta").code_text == "2.01"
    assert try_to_register(alpha, "beta").code_text == "4.03"
    assert try_to_register(alpha, "alpha").code_text == "2.01"
    write(bench, "beta")
    gets_a_write(beta)


def test_c6_what_nobody_covers_stays_with_who_came_first(rule):
    """One key may register many endpoints that no credential covers (seed 000)."""
    bench = rule(**{"listeners.dtls.default.identity_separator": "#"})
    first = secured_as(bench, "kit#1", "kit")
    second = secured_as(bench, "kit#2", "kit")
    other = secured(bench, "gamma")
    assert try_to_register(first, "urn:imei:1").code_text == "2.01"
    assert try_to_register(second, "urn:imei:2").code_text == "2.01"
    assert try_to_register(other, "urn:imei:1").code_text == "4.03"
    assert try_to_register(other, "urn:imei:3").code_text == "2.01"
    first.update()


def secured_as(bench, identity, credential):
    device = SecureDevice(bench.gateway, identity, identity, key_of(credential))
    bench.devices.append(device)
    return device


# C13


def test_c13_sessions_of_one_credential(own):
    """One key with suffixes does not push another device's session out of a full listener."""
    bench = own(
        {
            "listeners.dtls.default.identity_separator": "#",
            "listeners.dtls.default.max_connections": 40,
        },
        psk=KEYS,
    )
    victim = secured(bench, "alpha")
    victim.register()
    for number in range(45):
        try:
            secured_as(bench, f"beta#{number}", "beta")
        except Exception:  # refused, which is right
            break
    victim.update()
    assert bench.gateway.process.poll() is None
    request_id = bench.app.command("alpha", "read", {"path": "/3/0/0"})
    victim.reply(victim.expect(GET), "2.05", "well", TEXT)
    assert bench.app.result(request_id, kind="read")
