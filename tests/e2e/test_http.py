"""The HTTP API: devices, commands, who is let in."""

import threading
import time
from urllib.parse import quote

import pytest

from api import Api
from coap import GET, TEXT
from gateway import accepts_tcp, free_tcp_port, wait_for


@pytest.fixture(scope="session")
def address():
    return ("127.0.0.1", free_tcp_port())


@pytest.fixture
def bench(gateway, address):
    settings = {"http.bind": "%s:%d" % address, "qmode_time_window": "1s"}
    bench = gateway(settings)
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    return bench


@pytest.fixture
def api(bench, address):
    return Api(address)


class Asking(threading.Thread):
    """A request that waits."""

    def __init__(self, ask):
        super().__init__(daemon=True)
        self.ask, self.answer = ask, None
        self.start()

    def run(self):
        try:
            self.answer = self.ask()
        except BaseException as error:  # noqa: BLE001
            self.answer = error

    def result(self):
        self.join(20)
        assert not self.is_alive()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def test_about(api):
    about = api.get("/v1/about")
    assert about["role"] == "admin"
    assert about["host"] in ("standalone", "mosquitto", "c", "nif")
    assert {"name", "bind", "dtls"} <= about["listeners"][0].keys()
    for path, text in (("/healthz", b"ok\n"), ("/readyz", b"ready\n")):
        status, _, body = api.request("GET", path)
        assert (status, body) == (200, text)


def test_a_device_is_listed_and_shown(bench, api):
    device = bench.registered(lwm2m="1.1", lt=300)
    found = api.get("/v1/devices", endpoint=device.endpoint)
    assert [it["endpoint"] for it in found["devices"]] == [device.endpoint]
    listed = found["devices"][0]
    assert "next" not in found and found["total"] >= 1
    assert listed["state"] == "online" and listed["version"] == "1.1"
    assert listed["lifetime"] == 300 and listed["queue_mode"] is False
    assert listed["registered_at"] <= listed["last_seen"] <= listed["expires_at"]
    assert listed["listener"] in ("udp:default", "dtls:default")
    shown = api.device(device.endpoint)
    same = {key for key in listed if key not in ("last_seen", "expires_at")}
    assert {key: shown[key] for key in same} == {key: listed[key] for key in same}
    assert shown["queue"] == [] and shown["observations_list"] == []
    assert ["ep", device.endpoint] in shown["query"]
    error = api.device("nobody-of-this-name", status=404)
    assert error["error"] == "unknown_endpoint"


def test_pages_have_everybody_once_and_in_order(bench, api):
    start = f"page-{time.monotonic_ns()}"
    names = [f"{start}-{at:02}" for at in range(25)]
    for name in reversed(names):
        bench.registered(endpoint=name)
    found, pages, cursor = [], 0, {}
    while True:
        page = api.get("/v1/devices", limit=4, endpoint=f"{start}*", **cursor)
        assert len(page["devices"]) <= 4
        found += [it["endpoint"] for it in page["devices"]]
        pages += 1
        if "next" not in page:
            break
        cursor = {"cursor": page["next"]}
    assert found == names
    assert pages == 7
    some = api.get("/v1/devices", endpoint=f"{start}-?5")
    assert [it["endpoint"] for it in some["devices"]] == [names[5], names[15]]
    everybody = [it["endpoint"] for it in api.get("/v1/devices", limit=1000)["devices"]]
    assert everybody == sorted(everybody, key=str.encode)
    assert set(names) <= set(everybody)


def test_filters(bench, api):
    start = f"filter-{time.monotonic_ns()}"
    plain = bench.registered(endpoint=f"{start}-a", objects="</1/0>,</3/0>,</3303/0>")
    queued = bench.registered(endpoint=f"{start}-b", objects="</3/0>", extra=["Q"])

    def names(**query):
        found = api.get("/v1/devices", endpoint=f"{start}*", **query)
        return [it["endpoint"] for it in found["devices"]]

    assert names(object=3303) == [plain.endpoint]
    assert names(object=3) == [plain.endpoint, queued.endpoint]
    assert names(object=330) == []
    wait_for(lambda: names(state="asleep") == [queued.endpoint], 10, "sleep")
    assert names(state="online") == [plain.endpoint]
    listener = api.device(plain.endpoint)["listener"]
    assert names(listener=listener) == names() != []
    assert names(listener="udp:other") == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "state=up", "object=70000", "colour=red"]
)
def test_a_wrong_query_is_refused(api, query):
    error = api.json("GET", f"/v1/devices?{query}", status=400)
    assert error["error"] == "bad_query" and error["detail"]


def test_a_command_is_answered_and_not_published(bench, api):
    device = bench.registered()
    before = len(bench.app.messages)
    body = {"reqID": "mine", "msgType": "read", "data": {"path": "/3/0/0"}}
    asking = Asking(lambda: api.command(device.endpoint, body))
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "Acme", TEXT)
    answer = asking.result()
    assert answer["reqID"] == "mine" and answer["msgType"] == "read"
    assert answer["data"]["code"] == "2.05"
    assert answer["data"]["content"][0]["value"] == "Acme"
    # The answer of the next one, which comes over MQTT, is the first that is there.
    bench.read(device, "/3/0/1", "2.05", "x", TEXT)
    new = [m for m in bench.app.messages[before:] if m.json.get("msgType") == "read"]
    assert len(new) == 1 and new[0].json["reqID"] != "mine"


def test_what_a_device_refuses_is_an_answer(bench, api):
    device = bench.registered()
    body = {"msgType": "read", "data": {"path": "/3/0/99"}}
    asking = Asking(lambda: api.command(device.endpoint, body))
    device.reply(device.expect(GET), "4.04")
    answer = asking.result()
    assert answer["data"]["code"] == "4.04"
    assert answer["reqID"].startswith("http-")


def test_what_is_no_command_is_refused(bench, api):
    device = bench.registered()
    answer = api.command(device.endpoint, {"msgType": "read", "data": {}}, status=400)
    assert answer["data"]["code"] == "4.00" and answer["data"]["reason"]
    for body in (b"", b"[]", b"{", b'{"a":"\xff"}', b"[" * 1000):
        error = api.command(device.endpoint, body, status=400)
        assert error["error"] == "bad_json"
    error = api.command("nobody-of-this-name", {"msgType": "read"}, status=404)
    assert error["error"] == "unknown_endpoint"
    error = api.command(device.endpoint, b"x" * (64 << 10 | 1), status=413)
    assert error["error"] == "too_large"


def test_a_command_waits_for_a_sleeping_device(bench, api):
    device = bench.registered(extra=["Q"])
    wait_for(lambda: api.device(device.endpoint)["state"] == "asleep", 10, "sleep")
    body = {"msgType": "read", "data": {"path": "/3/0/0"}}
    answer = api.command(device.endpoint, body, status=202)
    assert answer["status"] == "queued" and answer["id"]
    queue = api.device(device.endpoint)["queue"]
    assert len(queue) == 1 and queue[0]["reqID"] == answer["reqID"]
    assert queue[0]["msgType"] == "read" and queue[0]["path"] == "/3/0/0"
    assert queue[0]["since"] <= queue[0]["until"] and queue[0]["sent"] is False
    device.update()
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "x", TEXT)
    wait_for(lambda: api.device(device.endpoint)["queue"] == [], 10, "its end")


def test_nobody_has_to_wait(bench, api):
    device = bench.registered()
    body = {"reqID": 7, "msgType": "read", "data": {"path": "/3/0/0"}}
    answer = api.command(device.endpoint, body, status=202, wait=0)
    assert answer["reqID"] == 7
    device.reply(device.expect(GET), "2.05", "x", TEXT)
    error = api.command(device.endpoint, body, status=400, wait=601)
    assert error["error"] == "bad_query"


def test_an_observation_is_shown(bench, api):
    device = bench.registered()
    body = {"reqID": 1, "msgType": "observe", "data": {"path": "/3/0/9"}}
    asking = Asking(lambda: api.command(device.endpoint, body))
    device.reply(device.expect(GET), "2.05", "1", TEXT, observe=5)
    asking.result()
    (shown,) = api.device(device.endpoint)["observations_list"]
    assert abs(shown.pop("since") - time.time() * 1000) < 60000
    assert shown == {"reqID": 1, "msgType": "observe", "path": "/3/0/9", "sequence": 5, "notifications": 0}


def test_a_registration_is_ended(bench, api):
    device = bench.registered()
    status, _, body = api.request("DELETE", f"/v1/devices/{device.endpoint}")
    assert (status, body) == (204, b"")
    wait_for(lambda: api.request("GET", f"/v1/devices/{device.endpoint}")[0] == 404, 10, "the end")
    api.json("DELETE", f"/v1/devices/{device.endpoint}", status=404)


@pytest.mark.parametrize(
    "path", ["/v2", "/v1", "/v1/nothing", "/console/../index.html", "/console/%2e%2e%2findex.html"]
)
def test_there_is_nothing_else(api, path):
    assert api.json("GET", path, status=404)["error"] == "not_found"
    assert api.json("PATCH", "/v1/devices", status=405)["error"] == "method_not_allowed"


@pytest.mark.parametrize("name", ["a b", "ü-€", "100%", "a:b&c=d", "..", "a'b\"c", "%2e", "ep;1"])
def test_names_are_decoded_once(bench, api, name):
    device = bench.registered(endpoint=f"{time.monotonic_ns()}{name}")
    assert api.device(device.endpoint)["endpoint"] == device.endpoint
    body = {"msgType": "read", "data": {"path": "/3/0/0"}}
    asking = Asking(lambda: api.command(device.endpoint, body))
    device.reply(device.expect(GET), "2.05", "x", TEXT)
    assert asking.result()["data"]["code"] == "2.05"


def test_names_that_are_none_are_not_found(api):
    for name in ("..", "a/b", "a/../b", "\0", "x" * 5000):
        status, _, _ = api.request("GET", f"/v1/devices/{quote(name, safe='')}")
        assert status == 404, name
    assert api.json("GET", "/v1/devices/%ff", status=400)["error"] == "bad_path"


def test_a_stranger_s_page_gets_nowhere(bench, api):
    """DNS rebinding, and forms that send themselves."""
    device = bench.registered()
    for host in ("evil.example", "evil.example:8080", "localhost.evil.example", ""):
        error = api.json("GET", "/v1/devices", status=403, headers={"Host": host})
        assert error["error"] == "unknown_host"
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:7", "[::1]:80"):
        assert api.request("GET", "/v1/devices", headers={"Host": host})[0] == 200
    path = f"/v1/devices/{device.endpoint}/commands?wait=0"
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        headers = {"Origin": origin, "Content-Type": "text/plain"}
        error = api.json("POST", path, b"{}", status=403, headers=headers)
        assert error["error"] == "foreign_origin"
    own = {"Origin": "http://%s:%d" % api.address}
    assert api.request("POST", path, b"{}", headers=own)[0] != 403


def test_the_console_is_there(api):
    status, headers, body = api.request("GET", "/")
    assert status == 200 and b"<html" in body
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    # Nobody may frame it who is not named (http.frame_ancestors).
    assert headers["Content-Security-Policy"].endswith("frame-ancestors 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    tag = {"If-None-Match": headers["ETag"]}
    assert api.request("GET", "/", headers=tag)[0] == 304
    assert api.request("GET", "/console/index.html")[2] == body


def test_objects_are_described(api):
    objects = {it["id"]: it for it in api.get("/v1/objects")["objects"]}
    assert objects[3]["name"] == "Device" and objects[3]["instances"] == "single"
    sensor = api.get("/v1/objects/3303")
    assert sensor["instances"] == "multiple" and sensor["version"] in sensor["versions"]
    (value,) = [it for it in sensor["resources"] if it["id"] == 5700]
    assert value["operations"] == "R" and value["type"] == "Float" and value["mandatory"]
    first = sensor["versions"][0]
    assert api.get("/v1/objects/3303", version=first)["version"] == first
    for path in ("/v1/objects/65000", "/v1/objects/x", "/v1/objects/3?version=9.9"):
        assert api.json("GET", path, status=404)["error"] == "unknown_object"


def test_what_is_counted_is_shown(bench, api):
    before = api.get("/v1/stats")
    bench.registered()
    after = api.get("/v1/stats")
    assert after["counters"]["registered"] > before["counters"]["registered"]
    assert after["gauges"]["registrations"] >= 1
    assert after["gauges"]["memory_registrations"] > 0
    assert not set(after["counters"]) & set(after["gauges"])
