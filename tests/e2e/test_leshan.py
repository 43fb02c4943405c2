"""The paths and the JSON of Leshan's demo server, below `/api`."""

import json
import time
from urllib.parse import quote, urlencode

import pytest

from api import Api
from coap import DELETE, GET, OBSERVE, POST, PUT, TEXT
from conftest import psk_file
from gateway import Process, accepts_tcp, binary, free_tcp_port, free_udp_port, wait_for
from test_http import Asking
from test_http_events import Listening

# It brings a DTLS listener of its own, for the keys.
pytestmark = pytest.mark.udp_only


@pytest.fixture(scope="session")
def address():
    return ("127.0.0.1", free_tcp_port())


@pytest.fixture(scope="session")
def settings(address, tmp_path_factory):
    keys = tmp_path_factory.mktemp("leshan") / "psk"
    psk_file(keys, ["somebody:00112233445566778899aabbccddeeff"])
    return {
        "http.bind": "%s:%d" % address, "http.leshan_api": True, "qmode_time_window": "1s",
        "listeners.dtls.default.bind": "127.0.0.1:%d" % free_udp_port(),
        "listeners.dtls.default.psk_file": str(keys),
    }


@pytest.fixture
def bench(gateway, settings, address):
    bench = gateway(settings)
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    return bench


class Leshan(Api):
    """What a script that was written for Leshan does."""

    def call(self, method, path, body=None, status=200, kind="application/json", **query):
        url = "/api" + path + (f"?{urlencode(query)}" if query else "")
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        headers = {"Content-Type": kind} if body is not None else {}
        found, _, text = self.request(method, url, body, headers)
        assert found == status, (found, text)
        try:
            return json.loads(text) if text else None
        except ValueError:
            return text.decode()

    def of(self, endpoint, path=""):
        return f"/clients/{quote(endpoint, safe='')}{path}"


@pytest.fixture
def leshan(bench, address):
    return Leshan(address)


@pytest.fixture
def listen(address):
    started = []

    class Telling(Listening):
        def __init__(self, query):
            class At(Api):
                def connection(self, timeout=15):
                    connection = super().connection(timeout)
                    request = connection.request
                    connection.request = lambda method, path: request(
                        method, path.replace("/v1/events", "/api/event"))
                    return connection

            super().__init__(At(address), query)

    def start(query=""):
        started.append(Telling(query))
        return started[-1]

    yield start
    for listening in started:
        listening.close()


@pytest.fixture
def simulated(bench, programs):
    """A simulated device of LwM2M 1.1; gives its endpoint name."""
    prefix = f"leshan-{time.monotonic_ns()}-"
    command = [binary(), "simulate", "--server", "coap://%s:%d" % bench.gateway.udp,
               "--endpoint-prefix", prefix, "--objects", "1,3,3303", "--version-lwm2m", "1.1",
               "--send-every", "1"]
    programs.append(Process(command))
    bench.app.report(prefix + "0")
    return prefix + "0"


def single(ident, kind, value):
    return {"kind": "singleResource", "id": ident, "type": kind, "value": value}


def test_registrations(bench, leshan):
    device = bench.registered(lwm2m="1.1", lt=300, objects="</1/0>,</3/0>,</3303/0>,</3303/1>", extra=["Q", "imei=7"])
    shown = leshan.call("GET", leshan.of(device.endpoint))
    assert shown["endpoint"] == device.endpoint and shown["lwM2mVersion"] == "1.1"
    assert shown["lifetime"] == 300 and shown["queuemode"] is True
    listener = leshan.device(device.endpoint)["listener"]
    assert shown["secure"] == listener.startswith("dtls:")
    assert shown["availableInstances"]["3303"] == [0, 1]
    assert {"url": "/3303/1", "attributes": {}} in shown["objectLinks"]
    assert shown["additionalRegistrationAttributes"] == {"imei": "7"}
    assert abs(shown["lastUpdate"] - time.time() * 1000) < 60000
    before = shown["lastUpdate"]
    time.sleep(0.05)
    device.update(["lt=310"])
    shown_again = leshan.call("GET", leshan.of(device.endpoint))
    assert shown_again["lifetime"] == 310 and shown_again["lastUpdate"] > before
    assert shown_again["registrationId"] == shown["registrationId"]
    everybody = leshan.call("GET", "/clients")
    assert [it["lifetime"] for it in everybody if it["endpoint"] == device.endpoint] == [310]
    detail = leshan.call("GET", leshan.of("nobody-of-this-name"), status=400)
    assert "nobody-of-this-name" in detail


def test_a_simulated_device(leshan, simulated):
    def read(path, fmt="SENML_CBOR"):
        answer = leshan.call("GET", leshan.of(simulated, path), timeout=5, format=fmt)
        assert answer["status"] == "CONTENT(205)" and answer["success"] and answer["valid"]
        return answer["content"]

    for fmt in ("SENML_JSON", "SENML_CBOR", "TLV"):
        device = read("/3/0", fmt)
        assert (device["kind"], device["id"]) == ("instance", 0)
        assert single(1, "STRING", "Simulated sensor") in device["resources"]
        voltages = [it for it in device["resources"] if it["id"] == 7]
        assert voltages == [{"kind": "multiResource", "id": 7, "type": "INTEGER",
                             "values": {"0": "3800", "1": "5000"}}]
    assert read("/3")["instances"][0]["kind"] == "instance"
    assert read("/3/0/7/1") == {
        "kind": "resourceInstance", "id": 1, "type": "INTEGER", "value": "5000"}
    assert read("/3/0/1", "TEXT")["value"] == "Simulated sensor"
    assert read("/1/0/6")["type"] == "BOOLEAN"

    def write(path, node, **query):
        answer = leshan.call("PUT", leshan.of(simulated, path), node, timeout=5, **query)
        assert answer["status"] == "CHANGED(204)", answer

    write("/3/0/15", single("15", "string", "Asia/Tokyo"), format="TEXT")
    assert read("/3/0/15")["value"] == "Asia/Tokyo"
    answer = leshan.call("PUT", leshan.of(simulated, "/3/0/15"), "Europe/Rome", kind="text/plain")
    assert answer["status"] == "CHANGED(204)"
    assert read("/3/0/15")["value"] == "Europe/Rome"
    instance = {"kind": "instance", "id": 0,
                "resources": [single(2, "integer", 101), single(3, "integer", "1010")]}
    for fmt in ("TLV", "SENML_JSON", "SENML_CBOR"):
        write("/1/0", instance, format=fmt, replace="false")
        assert read("/1/0/2")["value"] == "101" and read("/1/0/3")["value"] == "1010"
    answer = leshan.call("POST", leshan.of(simulated, "/3/0/12"), status=200)
    assert answer["status"] in ("CHANGED(204)", "METHOD_NOT_ALLOWED(405)", "NOT_FOUND(404)")
    answer = leshan.call("GET", leshan.of(simulated, "/3/0/99"))
    assert answer["status"] == "NOT_FOUND(404)" and answer["failure"] and "content" not in answer
    links = leshan.call("GET", leshan.of(simulated, "/3/discover"))["objectLinks"]
    assert {"/3", "/3/0", "/3/0/1"} <= {it["url"] for it in links}
    answer = leshan.call("PUT", leshan.of(simulated, "/3303/0/5700/attributes") + "?pmin=5&pmax=60&gt")
    assert answer["status"] == "CHANGED(204)"
    links = leshan.call("GET", leshan.of(simulated, "/3303/discover"))["objectLinks"]
    attributes = next(it for it in links if it["url"] == "/3303/0/5700")["attributes"]
    assert attributes["pmin"] == "5" and attributes["pmax"] == "60"


def test_composite_and_events_of_a_simulated_device(leshan, simulated, listen):
    events = listen(f"?{simulated}")
    paths = {"pathformat": "SENML_CBOR", "nodeformat": "SENML_CBOR", "timeout": 5}
    answer = leshan.call("GET", leshan.of(simulated, "/composite"),
                         paths="/3/0/7/0,/1/0,/3353/0/6030", **paths)
    assert answer["status"] == "CONTENT(205)"
    assert set(answer["content"]) == {"/3/0/7/0", "/1/0"}
    assert answer["content"]["/1/0"]["kind"] == "instance"
    values = {"/1/0/2": single(2, "integer", 60), "/3/0/15": single(15, "string", "Z")}
    answer = leshan.call("PUT", leshan.of(simulated, "/composite"), values, **paths)
    assert answer["status"] == "CHANGED(204)", answer
    assert leshan.call("GET", leshan.of(simulated, "/3/0/15"))["content"]["value"] == "Z"
    observed = {"paths": "/3303/0/5700,/3/0/9"}
    answer = leshan.call("POST", leshan.of(simulated, "/composite/observe"), **paths, **observed)
    assert set(answer["content"]) == {"/3303/0/5700", "/3/0/9"}
    answer = leshan.call("DELETE", leshan.of(simulated, "/composite/observe"), active="", **observed)
    assert answer["status"] == "CONTENT(205)"
    sent = events.expect("SEND")
    assert sent["ep"] == simulated
    assert sent["val"]["/3303/0/5700"]["type"] == "FLOAT"
    float(sent["val"]["/3303/0/5700"]["value"])


def test_create_delete_execute(bench, leshan):
    device = bench.registered(lwm2m="1.1", objects="</3/0>,</16>")
    node = {"kind": "instance", "id": 3, "resources": [
        {"kind": "multiResource", "id": 0, "type": "string", "values": {"0": "a", "1": "b"}}]}
    asking = Asking(lambda: leshan.call("POST", leshan.of(device.endpoint, "/16"), node, format="TLV"))
    request = device.expect(POST, "/16")
    assert request.payload[0] >> 6 == 0 and request.payload[1] == 3, request.payload
    device.reply(request, "2.01", options=[(8, b"16"), (8, b"3")])
    answer = asking.result()
    assert answer["status"] == "CREATED(201)" and answer["success"]
    asking = Asking(lambda: leshan.call("DELETE", leshan.of(device.endpoint, "/16/3")))
    device.reply(device.expect(DELETE, "/16/3"), "2.02")
    assert asking.result()["status"] == "DELETED(202)"
    asking = Asking(lambda: leshan.call(
        "POST", leshan.of(device.endpoint, "/3/0/4"), "2,7", kind="text/plain"))
    request = device.expect(POST, "/3/0/4")
    assert request.payload == b"2,7"
    device.reply(request, "4.05", b"not now")
    answer = asking.result()
    assert answer["status"] == "METHOD_NOT_ALLOWED(405)" and answer["errormessage"] == "not now"
    # A write of an instance replaces it, unless it is told to update.
    node = {"kind": "instance", "id": 0, "resources": [single(15, "string", "Z")]}
    for query, method in (({}, PUT), ({"replace": "false"}, POST)):
        asking = Asking(lambda: leshan.call("PUT", leshan.of(device.endpoint, "/3/0"), node, **query))
        device.reply(device.expect(method, "/3/0"), "2.04")
        assert asking.result()["success"]


def test_observations(bench, leshan, listen):
    device = bench.registered(objects="</3/0>")
    events = listen(f"?ep={device.endpoint}")
    path = leshan.of(device.endpoint, "/3/0/9/observe")

    def observe():
        asking = Asking(lambda: leshan.call("POST", path, ""))
        request = device.expect(GET, "/3/0/9")
        assert request.uint(OBSERVE) == 0
        device.reply(request, "2.05", "95", TEXT, observe=1)
        assert asking.result()["content"] == single(9, "INTEGER", "95")
        return request

    request = observe()
    device.notify(request, 2, "94", TEXT)
    told = events.expect("NOTIFICATION")
    assert told == {"ep": device.endpoint, "kind": "single", "res": "/3/0/9",
                    "val": single(9, "INTEGER", "94")}
    # Cancelled by asking the device.
    asking = Asking(lambda: leshan.call("DELETE", path + "?active"))
    cancel = device.expect(GET, "/3/0/9")
    assert cancel.uint(OBSERVE) == 1
    device.reply(cancel, "2.05", "94", TEXT)
    assert asking.result()["status"] == "CONTENT(205)"
    # INT-302: only forgotten here; the next notification is answered with a Reset.
    request = observe()
    assert leshan.call("DELETE", path) is None
    device.silence(0.3, lambda message: message.code == GET)
    device.expect_reset(device.notify(request, 3, "93", TEXT))
    assert len(events.of("NOTIFICATION")) == 1
    # What is not observed can be cancelled as well, as with Leshan.
    assert leshan.call("DELETE", path) is None


def test_cancel_by_mqtt_without_the_device(bench):
    device = bench.registered(objects="</3/0>")
    command = bench.app.command(device.endpoint, "observe", {"path": "/3/0/9"})
    request = device.expect(GET, "/3/0/9")
    device.reply(request, "2.05", "95", TEXT, observe=1)
    bench.app.result(command)
    passive = {"path": "/3/0/9", "mode": "passive"}
    answer = bench.app.result(bench.app.command(device.endpoint, "cancel-observe", passive))
    assert answer.data == {"reqPath": "/3/0/9", "code": "2.04", "codeMsg": "changed"}
    device.expect_reset(device.notify(request, 2, "94", TEXT))
    answer = bench.app.result(bench.app.command(device.endpoint, "cancel-observe", passive))
    assert (answer.data["code"], answer.data["reason"]) == ("4.04", "no_such_observation")


def test_a_sleeping_device_answers_later(bench, leshan, listen):
    device = bench.registered(lwm2m="1.1", extra=["Q"], objects="</3/0>")
    events = listen(f"?ep={device.endpoint}")
    wait_for(lambda: leshan.call("GET", leshan.of(device.endpoint))["sleeping"], 10, "sleep")
    later = leshan.call("GET", leshan.of(device.endpoint, "/3/0/15"))
    assert later["delayed"] is True and later["path"] == "/3/0/15"
    device.update()
    device.reply(device.expect(GET, "/3/0/15"), "2.05", "Z", TEXT)
    told = events.expect("REQUEST_RESPONSE")
    assert told["requestId"] == later["requestId"] and told["ep"] == device.endpoint
    assert told["response"]["content"] == single(15, "STRING", "Z")
    assert events.expect("UPDATED")["registration"]["endpoint"] == device.endpoint
    events.expect("AWAKE")
    device.deregister()
    assert events.expect("DEREGISTRATION")["endpoint"] == device.endpoint


def test_what_goes_wrong(bench, leshan):
    device = bench.registered(objects="</3/0>")
    call = leshan.call
    assert call("GET", leshan.of(device.endpoint, "/3/0/1"), status=504, timeout=1) == "Request timeout"
    request = device.expect(GET, "/3/0/1")
    device.reset(request)
    asking = Asking(lambda: call("GET", leshan.of(device.endpoint, "/3/0/2"), status=500))
    device.reset(device.expect(GET, "/3/0/2"))
    assert asking.result().startswith("Request rejected")
    for method, path, body in (
        ("GET", "/3/a", None), ("GET", "/1/2/3/4/5", None), ("PUT", "/3", {"id": 0}),
        ("PUT", "/3/0/15", {"id": 15, "value": "Z"}), ("PUT", "/3/0/15", {"id": 15, "type": "integer", "value": "Z"}),
        ("PUT", "/3/0", single(15, "string", "Z")), ("POST", "/16", single(15, "string", "Z")),
        ("PUT", "/3/0/15", [7]), ("GET", "/composite", None), ("PUT", "/3/0/9/attributes?pmin=no", None),
        ("GET", "/3/0/9?format=XML", None),
    ):
        detail = call(method, leshan.of(device.endpoint, path), body, status=400)
        assert "nvalid" in detail, (method, path, detail)
    assert "not supported" in call(
        "PUT", leshan.of(device.endpoint, "/3/0/15"), "<a/>", status=400, kind="text/xml")
    device.silence(0.3, lambda message: message.code in (GET, PUT, POST))


def test_keys(leshan):
    listed = leshan.call("GET", "/security/clients")
    assert isinstance(listed, list)
    assert [it for it in listed if it["endpoint"] == "somebody"] == [
        {"endpoint": "somebody", "tls": {"mode": "psk", "details": {"identity": "somebody"}}}]
    info = {"endpoint": "native", "tls": {"mode": "psk", "details": {
        "identity": "native-id", "key": b"password".hex() + "00" * 8}}}
    assert leshan.call("PUT", "/security/clients/", info, timeout=10, format="TLV") is None
    listed = leshan.call("GET", "/security/clients")
    assert {"endpoint": "native", "tls": {"mode": "psk", "details": {"identity": "native-id"}}} in listed
    wrong = {"endpoint": "native", "tls": {"mode": "rpk", "details": {}}}
    leshan.call("PUT", "/security/clients/", wrong, status=400)
    leshan.call("PUT", "/security/clients/", {"endpoint": "x"}, status=400)
    assert leshan.call("DELETE", "/security/clients/native") is None
    assert leshan.call("DELETE", "/security/clients/native") == {"message": "not_found"}
    assert all(it["endpoint"] != "native" for it in leshan.call("GET", "/security/clients"))


def test_an_aiocoap_device(bench, leshan, listen):
    from test_aiocoap import AiocoapDevice

    device = AiocoapDevice(bench.gateway, f"leshan-aiocoap-{time.monotonic_ns()}")
    try:
        events = listen(f"?ep={device.endpoint}")
        device.register()
        assert events.expect("REGISTRATION")["endpoint"] == device.endpoint
        path = lambda path: leshan.of(device.endpoint, path)  # noqa: E731
        answer = leshan.call("GET", path("/3/0/0"))
        assert answer["content"] == single(0, "STRING", "Open Mobile Alliance")
        answer = leshan.call("PUT", path("/3/0/15"), single(15, "string", "Z"), format="TEXT")
        assert answer["status"] == "CHANGED(204)" and device.time_zone.written == b"Z"
        assert leshan.call("POST", path("/3/0/4"))["status"] == "CHANGED(204)"
        body = leshan.call("GET", path("/5/0/0"), timeout=10)["content"]
        assert body["type"] == "OPAQUE" and bytes.fromhex(body["value"]) == bytes(range(256)) * 20
        assert leshan.call("POST", path("/3/0/9/observe"))["content"]["value"] == "100"
        device.loop.call_soon_threadsafe(device.battery.drop)
        told = events.expect("NOTIFICATION")
        assert told["val"] == single(9, "INTEGER", "99")
        answer = leshan.call("DELETE", path("/3/0/9/observe") + "?active")
        assert answer["status"] == "CONTENT(205)"
    finally:
        device.close()


def test_without_the_key_there_is_nothing(gateway):
    address = ("127.0.0.1", free_tcp_port())
    gateway({"http.bind": "%s:%d" % address})
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    assert Api(address).request("GET", "/api/clients")[0] == 404
