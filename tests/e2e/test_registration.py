"""Register, Update, De-register, expiry and what the application is told of them."""

import copy
import re
import time

import pytest

from coap import BLOCK1, CON, DELETE, GET, LINK, NON, POST, URI_PATH, Message, uint
from device import Device
from gateway import free_udp_port

LIST = '</>;rt="oma.lwm2m";ct=11543,</1/0>,</3/0>,</4/0>,</5/0>'


def test_register_is_reported(bench):
    device = bench.device()
    answer = device.register(LIST, lt=345, lwm2m="1.0", extra=["b=U", "sms=123"])
    assert re.fullmatch(r"rd/[A-Za-z0-9_-]{8,}", device.location), device.location
    assert device.endpoint not in device.location
    assert answer.payload == b""
    report = bench.app.report(device.endpoint)
    assert report.topic == f"lwm2m/{device.endpoint}/up/resp"
    assert report.json == {
        "msgType": "register",
        "data": {
            "ep": device.endpoint,
            "lt": 345,
            "lwm2m": "1.0",
            "b": "U",
            "sms": "123",
            "alternatePath": "/",
            "objectList": ["/1/0", "/3/0", "/4/0", "/5/0"],
        },
    }


def test_locations_differ(bench):
    locations = {bench.registered().location for _ in range(5)}
    assert len(locations) == 5


def test_register_without_object_list(bench):
    device = bench.registered(objects="")
    data = bench.app.report(device.endpoint).data
    assert "objectList" not in data and "alternatePath" not in data


@pytest.mark.parametrize("version", ["1", "1.0", "1.0.0", "1.1", "1.2"])
def test_known_versions(bench, version):
    bench.registered(lwm2m=version)


@pytest.mark.parametrize("version", ["2.0", "8.3", "x", "0.9"])
def test_bad_version(bench, version):
    device = bench.device()
    device.register(lwm2m=version, expect="4.12")
    assert not bench.app.reports(device.endpoint)


def test_bad_version_as_emqx(gateway):
    gateway({"compat.bad_version": "4.00"}).device().register(lwm2m="8.3", expect="4.00")


def test_missing_endpoint(bench):
    device = bench.device()
    device.endpoint = None
    device.register(expect="4.00")


def test_two_endpoints(bench):
    """One of them would be a name that nobody checked."""
    device = bench.device()
    device.register(extra=["ep=victim"], expect="4.00")
    assert not bench.app.reports(device.endpoint) and not bench.app.reports("victim")
    device.register(extra=["x=1", "x=2"])
    assert bench.app.report(device.endpoint).data["x"] == "1"


def test_missing_version_and_lifetime(gateway, bench):
    bench.registered(lt=None, lwm2m=None)
    gateway({"compat.strict_register": True}).device().register(lt=None, expect="4.00")


@pytest.mark.parametrize("lifetime", ["abc", "-5", ""])
def test_lifetime_that_is_no_number(bench, lifetime):
    device = bench.device()
    device.register(lt=lifetime, expect="4.00")
    device.register(lt=60)


def test_alternate_path(bench):
    device = bench.registered('</lwm2m>;rt="oma.lwm2m",</lwm2m/1/0>,</lwm2m/3/0>,</5/0>')
    data = bench.app.report(device.endpoint).data
    assert data["alternatePath"] == "/lwm2m"
    assert data["objectList"] == ["/1/0", "/3/0", "/5/0"]
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    request = device.expect(GET, "/lwm2m/3/0/0")
    assert request.get(URI_PATH) == [b"lwm2m", b"3", b"0", b"0"]
    device.reply(request, "2.05", "EMQ", 0)
    result = bench.app.result(request_id)
    assert result.data["reqPath"] == "/3/0/0"
    assert result.data["content"] == [{"path": "/3/0/0", "value": "EMQ"}]


@pytest.mark.parametrize(
    "links, objects",
    [
        # Real clients: Anjay has no root link, others a bare attribute or commas in quotes.
        ("</1/0>,</3/0>", ["/1/0", "/3/0"]),
        ("</>;ct=11543;hb,</1/0>,</3/0>", ["/1/0", "/3/0"]),
        ('</>;rt="oma.lwm2m";ct="110 11542,11543";hb,</3/0>', ["/3/0"]),
        ("</>;rt=oma.lwm2m,</3/0>", ["/3/0"]),
        ('</1>;ver="1.1",</1/0>,</3>;ver=1.2,</3/0>,</5>', ["/1", "/1/0", "/3", "/3/0", "/5"]),
        (" </1/0> , </3/0>;hb ", ["/1/0", "/3/0"]),
    ],
)
def test_object_lists_as_devices_write_them(bench, links, objects):
    device = bench.registered(links)
    assert bench.app.report(device.endpoint).data["objectList"] == objects


def test_unknown_queries_are_kept(bench):
    device = bench.registered(extra=["apn=iot", "custom=x", "imei=861", "imsi=460"])
    data = bench.app.report(device.endpoint).data
    assert (data["apn"], data["custom"], data["imei"], data["imsi"]) == ("iot", "x", "861", "460")
    result = bench.read(device, "/3/0/0", "2.05", "v", 0)
    assert (result.json["imei"], result.json["imsi"]) == ("861", "460")


def test_update_is_reported_when_the_list_changed(bench):
    device = bench.registered()
    device.update()
    device.update(objects='</>;rt="oma.lwm2m",</1/0>,</3/0>')
    device.update(["lt=120"], '</>;rt="oma.lwm2m",</1/0>,</3/0>,</4/0>')
    report = bench.app.report(device.endpoint, "update")
    assert report.data["lt"] == 120
    assert report.data["objectList"] == ["/1/0", "/3/0", "/4/0"]
    assert report.data["lwm2m"] == "1.1"
    assert len(bench.app.reports(device.endpoint, "update")) == 1


@pytest.mark.parametrize("condition, expected", [("always", 3), ("contains_object_list", 2)])
def test_update_conditions_of_emqx(gateway, condition, expected):
    bench = gateway({"update_msg_publish_condition": condition})
    device = bench.registered()
    device.update()
    device.update(objects='</>;rt="oma.lwm2m",</1/0>,</3/0>')
    device.update(objects="</3/0>")
    bench.app.report(device.endpoint, "update", after=expected - 1)
    time.sleep(0.2)
    reports = bench.app.reports(device.endpoint, "update")
    assert len(reports) == expected
    assert reports[-1].data["objectList"] == ["/3/0"]


def test_update_of_an_unknown_location(bench):
    device = bench.device()
    device.location = "rd/nobody"
    device.update(expect="4.04")
    device.deregister(expect="4.04")


def test_deregister(bench):
    device = bench.registered()
    device.deregister()
    device.update(expect="4.04")
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    result = bench.app.result(request_id)
    assert (result.data["code"], result.data["reason"]) == ("4.04", "not_registered")
    device.silence(0.3)
    assert not bench.app.all(lambda m: m.type in ("deregister", "expired"))


def test_deregister_is_published_on_demand(gateway):
    bench = gateway({"publish_deregister": True})
    device = bench.registered()
    device.deregister()
    report = bench.app.wait(lambda m: m.type == "deregister" and device.endpoint in m.topic)
    assert report.topic == f"lwm2m/{device.endpoint}/up/resp"
    device = bench.registered(lt=1)
    bench.app.wait(lambda m: m.type == "expired" and device.endpoint in m.topic)


def test_lifetime_expires(bench):
    device = bench.registered(lt=2)
    time.sleep(1)
    device.update()
    time.sleep(1.3)
    device.update()
    time.sleep(2.6)
    device.update(expect="4.04")


def test_reregister_gives_a_new_location(bench):
    device = bench.registered(lt=60)
    first = device.location
    device.register(lt=90)
    assert device.location != first
    assert bench.app.report(device.endpoint, after=1).data["lt"] == 90
    device.update()
    device.location = first
    device.update(expect="4.04")


def test_reregister_as_emqx(gateway):
    bench = gateway({"compat.reregister": "2.04"})
    device = bench.registered(lt=60)
    location = device.location
    answer = device.register(lt=90, expect="2.04")
    assert answer.location == []
    assert device.location == location
    device.update()


def test_location_as_emqx(gateway):
    bench = gateway({"compat.location": "endpoint"})
    device = bench.registered()
    assert device.location == f"rd/{device.endpoint}"
    device.update()
    device.deregister()


def test_reregister_from_a_new_address(bench):
    device = bench.registered()
    device.new_address()
    device.register(lt=77)
    assert bench.app.report(device.endpoint, after=1).data["lt"] == 77
    result = bench.read(device, "/3/0/0", "2.05", "here", 0)
    assert result.data["content"][0]["value"] == "here"


def test_update_from_a_new_address_moves_the_registration(bench):
    device = bench.registered()
    device.new_address()
    device.update()
    result = bench.read(device, "/3/0/0", "2.05", "moved", 0)
    assert result.data["content"][0]["value"] == "moved"


@pytest.mark.udp_only  # a session carries its identity to a new address
def test_address_change_can_be_refused(gateway):
    bench = gateway({"address_change": "reject"})
    device = bench.registered()
    device.new_address()
    device.update(expect="4.04")
    device.register()
    device.update()


def test_deregister_of_others_is_refused(bench, request):
    device = bench.registered()
    other = Device(bench.gateway)
    # A15: over plain UDP a location shows whose it is, as with an Update; nobody can guess one.
    plain = request.config.getoption("--transport") == "udp"
    wrong = other.request(DELETE, device.location[:-4] + "AAAA")
    own = other.request(DELETE, device.location)
    other.close()
    assert wrong.code_text in ("4.03", "4.04"), wrong
    assert own.code_text in (["2.02"] if plain else ["4.03", "4.04"]), own
    device.update(expect="4.04" if plain else "2.04")


@pytest.mark.parametrize("endpoint", ["a/b", "a+", "#", "x/+/#", "a\0b"])
def test_hostile_endpoint_names_are_refused(bench, endpoint):
    bench.device(endpoint).register(expect="4.00")


def test_hostile_endpoint_names_can_be_escaped(gateway):
    bench = gateway({"hostile_endpoint": "escape"})
    device = bench.registered(endpoint="a/b+c#")
    report = bench.app.report(device.endpoint)
    assert report.topic == "lwm2m/a%2Fb%2Bc%23/up/resp"
    request_id = bench.app.command("a%2Fb%2Bc%23", "read", {"path": "/3/0/0"})
    device.reply(device.expect(GET), "2.05", "x", 0)
    assert bench.app.result(request_id).topic == report.topic


def test_endpoint_names_with_other_characters(bench):
    device = bench.registered(endpoint="urn:imei:861234567890123")
    assert bench.app.report(device.endpoint).topic == f"lwm2m/{device.endpoint}/up/resp"


def test_non_confirmable_register(bench):
    device = bench.device()
    device.register(type=NON)
    bench.app.report(device.endpoint)


@pytest.mark.parametrize(
    "method, path, codes",
    [
        (POST, "/bs", ("4.04", "5.01")),
        (POST, "/bad", ("4.04",)),
        (POST, "/", ("4.04", "4.05", "4.00")),
        (DELETE, "/rd", ("4.00", "4.04", "4.05")),
        (GET, "/rd", ("4.04", "4.05")),
        (GET, "/", ("4.04", "4.05")),
        (3, "/rd", ("4.04", "4.05")),
    ],
)
def test_other_requests_get_a_clear_no(bench, method, path, codes):
    answer = bench.device().request(method, path)
    assert answer.code_text in codes, answer


def test_repeated_register_is_answered_alike_and_reported_once(bench):
    device = bench.device()
    message = Message(CON, POST, device.next_mid(), b"\1\2\3\4")
    message.options = [(URI_PATH, b"rd"), (12, uint(LINK))]
    message.options += [(15, q.encode()) for q in (f"ep={device.endpoint}", "lt=60", "lwm2m=1.1")]
    message.payload = b"</3/0>"
    device.send(message)
    first = device.answer_to(message)
    device.send(message)
    second = device.answer_to(message)
    assert first.raw == second.raw
    bench.app.report(device.endpoint)
    time.sleep(0.3)
    assert len(bench.app.reports(device.endpoint)) == 1


def test_unknown_critical_option_is_refused(bench):
    device = bench.registered()
    answer = device.request(POST, device.location, options=[(2001, b"?")])
    assert answer.code_text == "4.02"
    device.request(POST, device.location, options=[(2002, b"?")])


def test_blockwise_register_of_200_objects(bench):
    device = bench.device()
    objects = [f"/{30000 + n}/0" for n in range(200)]
    body = ",".join(f"<{path}>" for path in objects).encode()
    assert len(body) > 2048
    size, number = 512, 0
    while True:
        part = body[number * size : (number + 1) * size]
        more = (number + 1) * size < len(body)
        answer = device.request(
            POST,
            "/rd",
            [f"ep={device.endpoint}", "lt=300", "lwm2m=1.1"],
            part,
            LINK,
            [(BLOCK1, uint(number << 4 | (8 if more else 0) | 5))],
        )
        assert answer.uint(BLOCK1) >> 4 == number
        if not more:
            break
        assert answer.code_text == "2.31", answer
        number += 1
    assert answer.code_text == "2.01"
    assert bench.app.report(device.endpoint).data["objectList"] == objects


def test_register_has_a_limit_of_registrations(gateway):
    bench = gateway({"limits.max_registrations": 2, "shards": 1})
    bench.registered()
    second = bench.registered()
    bench.device().register(expect="5.03")
    second.deregister()
    bench.registered()


@pytest.mark.parametrize("bind", ["0.0.0.0", "[::]"])
def test_answers_leave_from_the_address_that_the_device_speaks_to(request, gateway, bind):
    """Whatever the route would choose: a device takes nothing from another one."""
    kind, address = request.config.getoption("--transport"), ("127.0.0.77", free_udp_port())
    settings = {f"listeners.{kind}.everywhere.bind": f"{bind}:{address[1]}"}
    if kind == "dtls":
        settings["listeners.dtls.everywhere.psk_file"] = str(request.getfixturevalue("pool"))
    bench = gateway(settings)
    bench.gateway = copy.copy(bench.gateway)
    bench.gateway.udp = bench.gateway.dtls = address
    device = bench.registered()
    bench.read(device, "/3/0/0", "2.05", "x", 0)
    # Comes back from elsewhere, and speaks to another address as well.
    bench.gateway.udp = bench.gateway.dtls = ("127.0.0.78", address[1])
    device.new_address()
    device.update()
    bench.read(device, "/3/0/0", "2.05", "x", 0)
