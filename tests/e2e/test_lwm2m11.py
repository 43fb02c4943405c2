"""LwM2M 1.1 and 1.2: Send, formats, composite operations, measurement series."""

import base64
import itertools
import json
import time

import pytest

pytest.importorskip("aiocoap", reason="aiocoap is not installed")
cbor2 = pytest.importorskip("cbor2", reason="cbor2 is not installed")

import aiocoap  # noqa: E402

import formats  # noqa: E402
from client import VALUES, Client  # noqa: E402
from coap import JSON, OCTETS, POST, TEXT, TLV, code_text  # noqa: E402
from formats import (  # noqa: E402
    CBOR,
    ETCH_CBOR,
    ETCH_JSON,
    LWM2M_CBOR,
    NAMES,
    SENML,
    SENML_CBOR,
    SENML_JSON,
    Link,
    lwm2m_cbor,
    records,
    senml_cbor,
    senml_json,
)
from gateway import wait_for  # noqa: E402

SERIES = {"translators.series.enable": True}
NOON = 1_700_000_000

both = pytest.mark.parametrize("senml", SENML, ids=NAMES.get)


@pytest.fixture
def client(bench, clients):
    """A device of LwM2M 1.2 at the gateway with its default settings."""
    return clients(bench)


@pytest.fixture
def clients():
    """Registers devices: `clients(bench, "Q", known=[112])`."""
    started = []

    def start(bench, *query, lwm2m="1.2", ct=None, **kwargs):
        client = Client(bench.gateway, **kwargs)
        started.append(client)
        client.register(*query, lwm2m=lwm2m, ct=ct)
        bench.app.report(client.endpoint)
        return client

    yield start
    for client in started:
        client.close()


def published(bench, client, kind, number=0):
    """Message `number` (from 0) on the topic `up/<kind>` of the device."""
    topic = f"lwm2m/{client.endpoint}/up/{kind}"

    def found():
        return bench.app.all(lambda m: m.topic == topic)

    wait_for(lambda: len(found()) > number, 10, f"message {number} on {topic}")
    return found()[number]


def sent(bench, client, number=0):
    message = published(bench, client, "send", number)
    assert set(message.json) == {"msgType", "data"} and message.type == "send"
    return message.data


def series(bench, client, number=0):
    """A series message as `{ingestion id without the endpoint: measurements}`."""
    message = published(bench, client, "series", number)
    assert list(message.json) == ["series"]
    out = {}
    for entry in message.json["series"]:
        assert list(entry) == ["ingestionId", "measurements"]
        endpoint, name = entry["ingestionId"].split("$")
        assert endpoint == client.endpoint and name not in out
        out[name] = entry["measurements"]
    return out


def do(bench, client, kind, **data):
    """A command; returns what the application is answered."""
    request_id = bench.app.command(client.endpoint, kind, data)
    return bench.app.result(request_id, kind=kind).data


def content(data, code="2.05"):
    assert data["code"] == code, data
    return {entry["path"]: entry["value"] for entry in data["content"]}


def no_errors(data):
    assert "errors" not in data, data
    assert not any("inferred" in entry for entry in data["content"]), data
    return data["content"]


# Registration


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_register(bench, clients, version):
    client = clients(bench, lwm2m=version)
    report = bench.app.report(client.endpoint)
    assert report.data["lwm2m"] == version
    assert report.data["objectList"] == ["/1/0", "/3/0", "/5/0", "/3303/0"]


# Send

SEED = """
{
  "series": [
    {
      "ingestionId": "urn:imei:35045779074654654$/3/0/3",
      "measurements": [
        {
          "text": "1.0.3"
        }
      ]
    },
    {
      "ingestionId": "urn:imei:35045779074654654$/3/0/9",
      "measurements": [
        {
          "number": 74
        }
      ]
    }
  ]
}
"""


def test_firmware_version_and_battery_level(gateway, clients):
    bench = gateway(SERIES)
    client = clients(bench, endpoint="urn:imei:35045779074654654", known=[SENML_CBOR])
    payload = cbor2.dumps([{-2: "/3/", 0: "0/3", 3: "1.0.3"}, {0: "0/9", 2: 74}])
    assert client.push(payload, SENML_CBOR) == "2.04"
    message = published(bench, client, "send")
    assert message.qos == 0
    assert message.payload == (
        b'{"msgType":"send","data":{"content":['
        b'{"path":"/3/0/3","value":"1.0.3"},{"path":"/3/0/9","value":74}]}}'
    )
    message = published(bench, client, "series")
    assert message.qos == 0
    assert message.payload == json.dumps(json.loads(SEED), separators=(",", ":")).encode()


def test_send_without_series_by_default(bench, client):
    client.send([{"n": "/3/0/9", "v": 1}])
    sent(bench, client)
    content(do(bench, client, "read", path="/3/0/9"))
    assert not bench.app.all(lambda m: m.topic == f"lwm2m/{client.endpoint}/up/series")


def test_topics_of_send_and_series(gateway, clients):
    bench = gateway(
        {
            **SERIES,
            "translators.send.topic": "from/device",
            "translators.send.qos": 1,
            "translators.series.topic": "metrics",
            "translators.series.qos": 1,
        }
    )
    client = clients(bench)
    client.send([{"n": "/3/0/9", "v": 1}])
    for name in ("from/device", "metrics"):
        topic = f"lwm2m/{client.endpoint}/{name}"
        assert bench.app.wait(lambda m, topic=topic: m.topic == topic).qos == 1


@both
def test_send_of_every_type(bench, client, senml):
    data = bytes(range(240, 256)) + b"\xfb\xff\xfe"
    client.send(
        [
            {"bn": "/3/0/", "n": "0", "vs": "Ünïcode \"…\"\n"},
            {"n": "9", "v": 74},
            {"n": "13", "v": 1_577_836_800},
            {"bn": "/1/0/", "n": "1", "v": 86_400},
            {"n": "6", "vb": False},
            {"bn": "", "n": "/5/0/0", "vd": data},
            {"n": "/3/0/22/0", "vlo": "3303:65535"},
            {"n": "/3303/0/5700", "v": -0.1},
            {"n": "/3303/0/5602", "v": 1e300},
            {"n": "/3303/0/5601", "v": 5},
        ],
        senml,
    )
    assert no_errors(sent(bench, client)) == [
        {"path": "/3/0/0", "value": "Ünïcode \"…\"\n"},
        {"path": "/3/0/9", "value": 74},
        {"path": "/3/0/13", "value": 1_577_836_800},
        {"path": "/1/0/1", "value": 86_400},
        {"path": "/1/0/6", "value": False},
        {"path": "/5/0/0", "value": base64.b64encode(data).decode()},
        {"path": "/3/0/22/0", "value": "3303:65535"},
        {"path": "/3303/0/5700", "value": -0.1},
        {"path": "/3303/0/5602", "value": 1e300},
        {"path": "/3303/0/5601", "value": 5.0},
    ]


def test_send_in_lwm2m_cbor(bench, client):
    values = {
        "/3/0/0": "Example",
        "/3/0/7/0": 3800,
        "/3/0/7/1": 5000,
        "/3/0/13": cbor2.CBORTag(1, NOON),
        "/3/0/22/0": Link("66:1"),
        "/1/0/6": True,
        "/5/0/0": b"\xff\x00",
        "/3303/0/5700": 0.1,
    }
    assert client.push(lwm2m_cbor(values), LWM2M_CBOR) == "2.04"
    data = sent(bench, client)
    assert {e["path"]: e["value"] for e in no_errors(data)} == {
        **values,
        "/3/0/13": NOON,
        "/5/0/0": "/wA=",
    }


def test_send_in_lwm2m_cbor_with_keys_of_several_ids(bench, client):
    payload = cbor2.dumps({(3, 0): {9: 74, (7, 0): 3800}, 3303: {(0, 5700): 1.5}, (1, 0, 1): 60})
    assert client.push(payload, LWM2M_CBOR) == "2.04"
    assert {e["path"]: e["value"] for e in no_errors(sent(bench, client))} == {
        "/3/0/9": 74,
        "/3/0/7/0": 3800,
        "/3303/0/5700": 1.5,
        "/1/0/1": 60,
    }


def test_send_of_indefinite_length(bench, client):
    # [_ {_ -2: (_ "/3/", "0/"), 0: "9", 2: 74}, {_ 0: (_ "0"), 3: (_ "a", "b")}]
    pack = b"\x9f\xbf\x21\x7f\x63/3/\x620/\xff\x00\x619\x02\x18\x4a\xff"
    pack += b"\xbf\x00\x7f\x610\xff\x03\x7f\x61a\x61b\xff\xff\xff"
    assert cbor2.loads(pack) == [{-2: "/3/0/", 0: "9", 2: 74}, {0: "0", 3: "ab"}]
    assert client.push(pack, SENML_CBOR) == "2.04"
    assert no_errors(sent(bench, client)) == [
        {"path": "/3/0/9", "value": 74},
        {"path": "/3/0/0", "value": "ab"},
    ]


@both
def test_history(bench, client, senml):
    """Several records of one path arrive whole and in the order of the device."""
    client.send(
        [
            {"bn": "/3303/0/", "bt": NOON, "n": "5700", "v": 20.5},
            {"n": "5700", "t": -10, "v": 20.25},
            {"n": "5700", "t": 10.5, "v": 21},
            {"n": "5601", "t": 1, "v": 1},
            {"n": "5700", "t": -10, "v": 19.5},
            {"bt": NOON + 0.125, "n": "5700", "v": 18},
            {"bn": "/3/0/9", "bt": 0, "t": NOON, "v": 5},
        ],
        senml,
    )
    path = "/3303/0/5700"
    assert no_errors(sent(bench, client)) == [
        {"path": path, "value": 20.5, "time": NOON},
        {"path": path, "value": 20.25, "time": NOON - 10},
        {"path": path, "value": 21.0, "time": NOON + 10.5},
        {"path": "/3303/0/5601", "value": 1.0, "time": NOON + 1},
        {"path": path, "value": 19.5, "time": NOON - 10},
        {"path": path, "value": 18.0, "time": NOON + 0.125},
        {"path": "/3/0/9", "value": 5, "time": NOON},
    ]


@both
def test_times_from_now(bench, client, senml):
    """Below 2^28 seconds a time is relative to now (RFC 8428 section 4.5.3)."""
    before = time.time()
    client.send(
        [
            {"bn": "/3/0/9", "bt": -60, "v": 1},
            {"t": -0.5, "v": 2},
            {"t": 60, "v": 3},
            {"bt": 2**28, "v": 4},
            {"bt": 2**28 - 1, "v": 5},
        ],
        senml,
    )
    entries = no_errors(sent(bench, client))
    after = time.time()
    for entry, offset in zip(entries[:3], (-60, -60.5, 0)):
        assert before - 0.001 <= entry["time"] - offset <= after + 0.001, entry
    assert entries[3]["time"] == 2**28
    assert entries[4]["time"] > NOON + 2**27


@both
def test_base_value(bench, client, senml):
    client.send([{"bn": "/3/0/9", "bv": 70, "v": 4}, {"v": -70}, {}, {"bn": "/3303/0/5700", "v": 0.5}], senml)
    values = [(e["path"], e["value"]) for e in no_errors(sent(bench, client))]
    assert values == [("/3/0/9", 74), ("/3/0/9", 0), ("/3/0/9", 70), ("/3303/0/5700", 70.5)]


def test_a_large_send_in_blocks(bench, client):
    pack = [{"bn": "/3303/0/5700", "bt": NOON, "v": 0}]
    pack += [{"t": number, "v": number / 4} for number in range(1, 1000)]
    client.send(pack)
    assert no_errors(sent(bench, client)) == [
        {"path": "/3303/0/5700", "value": number / 4, "time": NOON + number}
        for number in range(1000)
    ]


@both
def test_one_bad_record_leaves_the_others(bench, client, senml):
    client.send(
        [
            {"bn": "/3/0/", "n": "9", "v": 74},
            {"n": "x/y", "v": 1},
            {"n": "0"},
            {"n": "1", "v": 1, "vs": "two"},
            {"bn": "/70000/0/", "n": "1", "v": 1},
            {"bn": "/3/0/", "n": "13", "v": NOON},
        ],
        senml,
    )
    data = sent(bench, client)
    assert [(e["path"], e["value"]) for e in data["content"]] == [("/3/0/9", 74), ("/3/0/13", NOON)]
    assert [e["path"] for e in data["errors"]] == ["/3/0/x/y", "/3/0/0", "/3/0/1", "/70000/0/1"]
    assert all(e["reason"] for e in data["errors"])


def test_one_bad_key_of_lwm2m_cbor_leaves_the_others(bench, client):
    payload = cbor2.dumps({3: {0: {9: 74, 70000: 1, 13: NOON}}, 5: 1, "x/y": {0: 1}})
    assert client.push(payload, LWM2M_CBOR) == "2.04"
    data = sent(bench, client)
    assert [(e["path"], e["value"]) for e in data["content"]] == [("/3/0/9", 74), ("/3/0/13", NOON)]
    assert len(data["errors"]) == 3, data


def test_numbers_json_does_not_have(gateway, clients):
    bench = gateway(SERIES)
    client = clients(bench)
    numbers = [float("nan"), float("inf"), float("-inf"), 1.5]
    client.send([{"n": "/3303/0/5700", "v": number} for number in numbers])
    path = {"path": "/3303/0/5700", "value": None}
    assert sent(bench, client)["content"] == [
        {**path, "nonFinite": "NaN"},
        {**path, "nonFinite": "Infinity"},
        {**path, "nonFinite": "-Infinity"},
        {**path, "value": 1.5},
    ]
    assert series(bench, client) == {"/3303/0/5700": [{"number": 1.5}]}


def test_large_integers(bench, client):
    client.send([{"n": "/7/0/2", "v": 2**63 - 1}, {"n": "/9999/0/0", "v": 2**64 - 1}])
    assert [e["value"] for e in sent(bench, client)["content"]] == [2**63 - 1, 2**64 - 1]


MALFORMED = {
    "cut": (SENML_CBOR, b"\x82\xa3\x21\x63/3/"),
    "no array": (SENML_CBOR, cbor2.dumps({0: "/3/0/9", 2: 1})),
    "no map": (SENML_CBOR, cbor2.dumps([1])),
    "more behind it": (SENML_CBOR, senml_cbor([{"n": "/3/0/9", "v": 1}]) + b"\x00"),
    "base name is a number": (SENML_CBOR, cbor2.dumps([{-2: 3, 0: "0", 2: 1}])),
    "base time is NaN": (SENML_CBOR, senml_cbor([{"bt": float("nan"), "n": "/3/0/9", "v": 1}])),
    "deep": (SENML_CBOR, b"\x81" * 5000 + b"\x00"),
    "endless": (SENML_CBOR, b"\x9b" + b"\xff" * 8),
    "text is no UTF-8": (SENML_CBOR, b"\x81\xa2\x00\x61\xff\x02\x01"),
    "must be understood": (SENML_CBOR, senml_cbor([{"n": "/3/0/9", "v": 1, "x_": 1}])),
    "all records bad": (SENML_CBOR, senml_cbor([{"n": "x", "v": 1}])),
    "no JSON": (SENML_JSON, b"{"),
    "JSON of another kind": (SENML_JSON, b'{"n":"/3/0/9","v":1}'),
    "JSON with more behind it": (SENML_JSON, b'[{"n":"/3/0/9","v":1}]]'),
    "JSON base name is a number": (SENML_JSON, b'[{"bn":3,"n":"/0/9","v":1}]'),
    "deep JSON": (SENML_JSON, b"[" * 5000),
    "LwM2M-CBOR cut": (LWM2M_CBOR, lwm2m_cbor({"/3/0/9": 74})[:-1]),
    "LwM2M-CBOR is an array": (LWM2M_CBOR, cbor2.dumps([1])),
    "LwM2M-CBOR too deep": (LWM2M_CBOR, lwm2m_cbor({"/3/0/9/1/2": 74})),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_sends(bench, client, name):
    content_format, payload = MALFORMED[name]
    assert client.push(payload, content_format) == "4.00"
    client.send([{"n": "/3/0/9", "v": 1}])
    assert sent(bench, client)["content"] == [{"path": "/3/0/9", "value": 1}], "the first to come"


@pytest.mark.parametrize("content_format", [None, TEXT, 40, OCTETS, 50, CBOR, ETCH_JSON, ETCH_CBOR, TLV, JSON, 65535])
def test_sends_in_other_formats(bench, client, content_format):
    payload = formats.encode(TLV, "/3/0", {"/3/0/9": 74})
    assert client.push(payload, content_format) == "4.15"
    client.send([{"n": "/3/0/9", "v": 1}])
    assert sent(bench, client)["content"] == [{"path": "/3/0/9", "value": 1}], "the first to come"


def test_send_of_somebody_who_is_not_registered(bench, client):
    stranger = bench.device()
    payload = senml_cbor([{"n": "/3/0/9", "v": 74}])
    answer = stranger.request(POST, "/dp", payload=payload, content_format=SENML_CBOR)
    assert answer.code_text == "4.04"
    assert client.post(client.location, code=aiocoap.DELETE).code.dotted == "2.02"
    assert client.push(payload, SENML_CBOR) == "4.04"


def test_a_repeated_send_is_published_once(bench):
    device = bench.registered(lwm2m="1.2")
    for number in (1, 1, 2):
        payload = senml_json([{"n": "/3/0/9", "v": number}])
        answer = device.request(
            POST, "/dp", payload=payload, content_format=SENML_JSON, mid=number, token=b"tk"
        )
        assert code_text(answer.code) == "2.04"
    assert sent(bench, device, 0)["content"][0]["value"] == 1
    assert sent(bench, device, 1)["content"][0]["value"] == 2


def test_a_send_wakes_the_device(gateway):
    bench = gateway({"qmode_time_window": "1s"})
    device = bench.registered(lwm2m="1.2", extra=["Q"])
    device.silence(1.3)  # as long as it listens
    paths = ["/3/0/0", "/3/0/1"]
    ids = [bench.app.command(device.endpoint, "read", {"path": path}) for path in paths]
    device.silence(0.3)
    payload = senml_cbor([{"n": "/3/0/9", "v": 74}])
    answer = device.request(POST, "/dp", payload=payload, content_format=SENML_CBOR)
    assert answer.code_text == "2.04"
    for path, request_id in zip(paths, ids):
        device.reply(device.expect(path=path), "2.05", path, TEXT)
        assert bench.app.result(request_id).data["content"] == [{"path": path, "value": path}]
    assert sent(bench, device)["content"] == [{"path": "/3/0/9", "value": 74}]


# Formats of reads and writes


@pytest.mark.parametrize("name", ["name", "number"])
@pytest.mark.parametrize(
    "content_format, path",
    [
        *itertools.product((SENML_CBOR, SENML_JSON, LWM2M_CBOR, JSON, TLV), ("/3/0", "/3/0/9")),
        *itertools.product((TEXT, CBOR), ("/3/0/9", "/3/0/0", "/3303/0/5700")),
        (OCTETS, "/5/0/0"),
        (CBOR, "/5/0/0"),
        (LWM2M_CBOR, "/5/0/0"),
    ],
    ids=lambda value: NAMES.get(value, value),
)
def test_read_in_a_format(bench, clients, content_format, path, name):
    values = {key: value for key, value in VALUES.items() if key != "/3/0/13"}
    client = clients(bench, known=[content_format], ct="", values=values)
    asked = NAMES[content_format] if name == "name" else content_format
    data = do(bench, client, "read", path=path, format=asked)
    assert client.last.opt.accept == content_format
    expected = {at: value for at, value in values.items() if (at + "/").startswith(path + "/")}
    if path == "/5/0/0":
        expected = {path: base64.b64encode(VALUES[path]).decode()}
    assert content(data) == expected
    no_errors(data)


@pytest.mark.parametrize("declared", [SENML_CBOR, SENML_JSON, LWM2M_CBOR, TLV, JSON], ids=NAMES.get)
def test_read_and_write_as_declared(bench, clients, declared):
    client = clients(bench, known=[declared], values={"/3/0/0": "Example", "/3/0/9": 74})
    assert content(do(bench, client, "read", path="/3/0")) == client.tree.values
    assert client.last.opt.accept == declared
    values = {"path": "/3/0/15", "type": "String", "value": "UTC"}
    assert do(bench, client, "write", **values)["code"] == "2.04"
    assert client.last.opt.content_format == declared


def test_the_best_that_is_declared(bench, clients):
    values = {"/3/0/0": "Example", "/3/0/9": 74}
    for ct, best in [
        ("11542 112 110", SENML_CBOR),
        ("110 11542", TLV),
        ("11544 110", SENML_JSON),
        ("11543 11544", LWM2M_CBOR),
        ("60 0", None),  # of single resources only
    ]:
        client = clients(bench, ct=ct, values=values)
        assert content(do(bench, client, "read", path="/3/0")) == values
        assert client.last.opt.accept == best, ct
    client = clients(bench, ct="0 60", known=[CBOR], values=values)
    assert content(do(bench, client, "read", path="/3/0/9")) == {"/3/0/9": 74}
    assert client.last.opt.accept == CBOR


def test_what_devices_of_lwm2m_1_0_and_silent_ones_get(bench, clients):
    """They choose the format of answers and are written to in TLV."""
    for version, ct in [("1.0", "112 110"), ("1.1", "")]:
        client = clients(bench, lwm2m=version, ct=ct, known=[TLV], values={"/3/0/9": 74})
        assert content(do(bench, client, "read", path="/3/0")) == {"/3/0/9": 74}
        assert client.last.opt.accept is None
        do(bench, client, "write", path="/3/0/15", type="String", value="UTC")
        assert client.last.opt.content_format == TLV


def test_format_of_the_gateway(gateway, clients):
    bench = gateway({"format": "senml-json"})
    client = clients(bench)
    content(do(bench, client, "read", path="/3/0"))
    assert client.last.opt.accept == SENML_JSON
    do(bench, client, "write", path="/3/0/15", type="String", value="UTC")
    assert client.last.opt.content_format == SENML_JSON
    content(do(bench, client, "read-composite", paths=["/3/0/9"]))
    assert (client.last.opt.content_format, client.last.opt.accept) == (SENML_JSON, SENML_JSON)
    content(do(bench, client, "read", path="/3/0", format="lwm2m-cbor"))
    assert client.last.opt.accept == LWM2M_CBOR


TYPED = {
    "String": ("/3/0/15", "Europe/Zürich", "Europe/Zürich"),
    "Integer": ("/1/0/1", -300, -300),
    "Unsigned Integer": ("/9999/0/1", 2**64 - 1, 2**64 - 1),
    "Float": ("/3303/0/5700", 20, 20.0),
    "Boolean": ("/1/0/6", "false", False),
    "Opaque": ("/5/0/0", base64.b64encode(b"\xfb\xff\xfe\x00").decode(), b"\xfb\xff\xfe\x00"),
    "Time": ("/3/0/13", NOON, NOON),
    "Objlnk": ("/3/0/22/0", "66:1", "66:1"),
}


@pytest.mark.parametrize("content_format", [SENML_CBOR, SENML_JSON, LWM2M_CBOR, CBOR], ids=NAMES.get)
@pytest.mark.parametrize("kind", TYPED)
def test_written_values(bench, clients, kind, content_format):
    path, value, expected = TYPED[kind]
    client = clients(bench, known=[content_format], values={})
    data = do(bench, client, "write", path=path, type=kind, value=value, format=content_format)
    assert data["code"] == "2.04", data
    assert client.last.opt.content_format == content_format
    assert client.last.code == aiocoap.PUT
    written = client.tree.values
    assert written == {path: expected}
    if content_format in (SENML_CBOR, CBOR, LWM2M_CBOR):
        assert isinstance(written[path], type(expected)), f"{client.last.payload.hex()}"
    if kind == "Objlnk" and content_format in SENML:
        assert isinstance(written[path], Link)


@pytest.mark.parametrize("content_format", [SENML_CBOR, SENML_JSON, LWM2M_CBOR], ids=NAMES.get)
@pytest.mark.parametrize("mode, code", [("replace", "PUT"), ("update", "POST")])
def test_write_of_an_instance(bench, clients, content_format, mode, code):
    client = clients(bench, known=[content_format], values={})
    entries = [
        {"path": "/1", "type": "Integer", "value": 60},
        {"path": "/6", "type": "Boolean", "value": True},
        {"path": "/7", "type": "String", "value": "U"},
    ]
    data = do(bench, client, "write", basePath="/1/0", content=entries, mode=mode)
    assert data["code"] == "2.04", data
    assert client.last.code == getattr(aiocoap, code) and client.last.opt.uri_path == ("1", "0")
    assert client.tree.values == {"/1/0/1": 60, "/1/0/6": True, "/1/0/7": "U"}


def test_fall_back(bench, clients):
    """What was refused is tried once only."""
    client = clients(bench, known=[TLV], ct="112 11542", values={"/3/0/0": "Example"})
    for accepted in ([SENML_CBOR, TLV], [TLV]):
        client.tree.requests.clear()
        assert content(do(bench, client, "read", path="/3/0")) == {"/3/0/0": "Example"}
        assert [request.opt.accept for request in client.tree.requests] == accepted
    for written in ([SENML_CBOR, TLV], [TLV]):
        client.tree.requests.clear()
        data = do(bench, client, "write", path="/3/0/15", type="String", value="UTC")
        assert data["code"] == "2.04"
        assert [request.opt.content_format for request in client.tree.requests] == written
        assert client.tree.values["/3/0/15"] == b"\xc3\x0fUTC"


def test_fall_back_of_a_composite_read(bench, clients):
    client = clients(bench, known=[SENML_JSON], ct="")
    data = do(bench, client, "read-composite", paths=["/3/0/9", "/1/0/1"])
    assert content(data) == {"/3/0/9": 74, "/1/0/1": 300}
    assert (client.last.opt.content_format, client.last.opt.accept) == (SENML_JSON, SENML_JSON)


def test_a_format_that_was_asked_for_is_not_replaced(bench, clients):
    client = clients(bench, known=[TLV])
    data = do(bench, client, "read", path="/3/0/9", format="senml-cbor")
    assert data["code"] == "4.06" and len(client.tree.requests) == 1
    value = {"path": "/3/0/15", "type": "String", "value": "UTC"}
    data = do(bench, client, "write", **value, format="senml-json")
    assert data["code"] == "4.15" and len(client.tree.requests) == 2


def test_formats_that_do_not_exist_or_fit(bench, client):
    for asked in ("senml", "", "-1", -1, 70_000, True, [112]):
        data = do(bench, client, "read", path="/3/0/9", format=asked)
        assert (data["code"], data["reason"]) == ("4.00", "bad_format"), asked
    assert client.tree.requests == []


@pytest.mark.parametrize("content_format", [SENML_CBOR, SENML_JSON, LWM2M_CBOR], ids=NAMES.get)
def test_an_undecodable_answer(bench, clients, content_format):
    client = clients(bench, known=[content_format])
    payload = b"\x82\xa3\x21"
    client.tree.answer = lambda *_: client.tree.content(payload, content_format)
    data = do(bench, client, "read", path="/3/0")
    assert (data["code"], data["reason"]) == ("4.00", "undecodable")
    assert base64.b64decode(data["raw"]) == payload


# Composite operations

composite = pytest.mark.parametrize(
    "content_format", [SENML_CBOR, SENML_JSON, LWM2M_CBOR], ids=NAMES.get
)


@composite
def test_read_composite(bench, clients, content_format):
    client = clients(bench, known=[content_format])
    paths = ["/3/0/9", "3303", "/1/0/", "/3/0/99"]
    data = do(bench, client, "read-composite", paths=paths)
    assert data["reqPaths"] == paths and "reqPath" not in data
    assert content(data) == {"/3/0/9": 74, "/3303/0/5700": 21.5, "/1/0/1": 300, "/1/0/6": True}
    no_errors(data)
    request = client.last
    assert (request.code, request.opt.uri_path, request.opt.observe) == (aiocoap.FETCH, (), None)
    assert (request.opt.content_format, request.opt.accept) == (content_format, content_format)
    asked = formats.decode(content_format, request.payload)
    assert asked == dict.fromkeys(["/3/0/9", "/3303", "/1/0", "/3/0/99"])


@pytest.mark.parametrize("asked, answered", [(ETCH_CBOR, SENML_CBOR), (ETCH_JSON, SENML_JSON)])
def test_composite_in_etch_formats(bench, clients, asked, answered):
    client = clients(bench, known=[answered, asked])
    data = do(bench, client, "read-composite", paths=["/3/0/9"], format=asked)
    assert content(data) == {"/3/0/9": 74}
    assert (client.last.opt.content_format, client.last.opt.accept) == (asked, answered)
    entries = [{"path": "/3/0/15", "type": "String", "value": "UTC"}]
    data = do(bench, client, "write-composite", content=entries, format=asked)
    assert data["code"] == "2.04" and client.tree.values["/3/0/15"] == "UTC"
    assert client.last.opt.content_format == asked


@composite
def test_write_composite(bench, clients, content_format):
    client = clients(bench, known=[content_format], values={})
    entries = [
        {"path": path, "type": kind, "value": value}
        for kind, (path, value, _) in TYPED.items()
        if kind != "Unsigned Integer"
    ]
    data = do(bench, client, "write-composite", content=entries)
    assert data["code"] == "2.04", data
    assert data["reqPaths"] == [entry["path"] for entry in entries]
    assert client.last.code == aiocoap.iPATCH and client.last.opt.uri_path == ()
    assert client.tree.values == {
        path: expected for kind, (path, _, expected) in TYPED.items() if kind != "Unsigned Integer"
    }


def test_composite_commands_that_are_malformed(bench, client):
    for kind, data, reason in [
        ("read-composite", {"paths": []}, "missing_path"),
        ("read-composite", {"path": "/3"}, "missing_path"),
        ("read-composite", {"paths": ["/3//0"]}, "bad_path"),
        ("observe-composite", {"paths": "/3"}, None),
        ("write-composite", {}, "missing_content"),
        ("write-composite", {"content": [{"path": "/3/0", "value": 1}]}, None),
    ]:
        answer = do(bench, client, kind, **data)
        assert answer["code"] == "4.00" and answer["reason"], data
        assert reason in (None, answer["reason"]), (data, answer)
    assert client.tree.requests == []


def test_a_composite_read_that_is_refused(bench, client):
    data = do(bench, client, "read-composite", paths=["/4/0", "/6/0"])
    assert data["code"] == "4.04" and data["reqPaths"] == ["/4/0", "/6/0"]


@composite
def test_observe_composite(bench, clients, content_format):
    client = clients(bench, known=[content_format])
    paths = ["/3/0/9", "/3303/0/5700"]
    request_id = bench.app.command(client.endpoint, "observe-composite", {"paths": paths})
    data = bench.app.result(request_id, kind="observe-composite").data
    assert content(data) == {"/3/0/9": 74, "/3303/0/5700": 21.5} and data["reqPaths"] == paths
    observed = client.last
    assert (observed.code, observed.opt.observe) == (aiocoap.FETCH, 0)
    for level in (73, 72):
        values = {"/3/0/9": level, "/3303/0/5700": 0.5}
        client.notify(formats.encode(content_format, "/", values), content_format)
        message = published(bench, client, "notify", 73 - level)
        assert message.json["reqID"] == request_id and message.type == "notify"
        assert message.json["seqNum"] == 74 - level
        assert message.data["reqPaths"] == paths and content(message.data) == values

    # It is asked for again when the device registers anew.
    client.tree.requests.clear()
    client.register()
    wait_for(lambda: client.tree.requests, 10, "observation of the device that came back")
    assert (client.last.code, client.last.opt.observe) == (aiocoap.FETCH, 0)
    assert client.last.payload == observed.payload

    data = do(bench, client, "cancel-observe-composite", paths=paths)
    assert data["code"] == "2.05" and data["reqPaths"] == paths
    assert (client.last.code, client.last.opt.observe) == (aiocoap.FETCH, 1)
    assert client.last.payload == observed.payload


def test_notifications_with_a_history(bench, clients):
    client = clients(bench, known=[SENML_CBOR])
    request_id = bench.app.command(client.endpoint, "observe", {"path": "/3303/0/5700"})
    bench.app.result(request_id, kind="observe")
    assert (client.last.opt.accept, client.last.opt.observe) == (SENML_CBOR, 0)
    pack = [
        {"bn": "/3303/0/5700", "bt": NOON, "t": -60, "v": 1},
        {"n": "/bad", "v": 1},
        {"t": -30.5, "v": 2},
        {"v": 3},
    ]
    client.notify(senml_cbor(pack), SENML_CBOR)
    data = published(bench, client, "notify").data
    assert [(e["value"], e["time"]) for e in data["content"]] == [
        (1.0, NOON - 60),
        (2.0, NOON - 30.5),
        (3.0, NOON),
    ]
    assert data["reqPath"] == "/3303/0/5700"
    assert [e["path"] for e in data["errors"]] == ["/3303/0/5700/bad"]


# Measurement series


def test_series_of_every_type(gateway, clients):
    bench = gateway(SERIES)
    client = clients(bench)
    client.send(
        [
            {"n": "/3/0/0", "vs": "a\"b"},
            {"n": "/3/0/9", "v": 74, "t": NOON + 0.0625},
            {"n": "/3/0/13", "v": NOON},
            {"n": "/1/0/6", "vb": True},
            {"n": "/5/0/0", "vd": b"\xff\x00"},
            {"n": "/3/0/22/0", "vlo": "66:1"},
            {"n": "/3303/0/5700", "v": 0.1},
            {"n": "/9999/0/1", "v": 2**64 - 1},
        ]
    )
    assert series(bench, client) == {
        "/3/0/0": [{"text": 'a"b'}],
        "/3/0/9": [{"number": 74, "date": NOON * 1000 + 63}],
        "/3/0/13": [{"number": NOON}],
        "/1/0/6": [{"number": 1}],
        "/5/0/0": [{"text": "/wA="}],
        "/3/0/22/0": [{"text": "66:1"}],
        "/3303/0/5700": [{"number": 0.1}],
        "/9999/0/1": [{"number": 2**64 - 1}],
    }


def test_series_are_in_order_of_time(gateway, clients):
    bench = gateway(SERIES)
    client = clients(bench)
    pack = [{"bn": "/3303/0/5700", "t": NOON + t, "v": t} for t in (3, 1, 2)]
    client.send([*pack, {"n": "/1", "t": NOON, "v": 0}, {"t": NOON - 1, "v": -1}])
    assert [e["value"] for e in sent(bench, client)["content"]] == [3, 1, 2, 0, -1]
    assert series(bench, client) == {
        "/3303/0/5700": [{"number": t, "date": (NOON + t) * 1000} for t in (-1, 1, 2, 3)],
        "/3303/0/5700/1": [{"number": 0, "date": NOON * 1000}],
    }


def test_500_measurements_in_a_message(gateway, clients):
    bench = gateway(SERIES)
    client = clients(bench)
    client.send([{"bn": "/3303/0/5700", "bt": NOON, "t": t, "v": t} for t in range(1001)])
    parts = [series(bench, client, number)["/3303/0/5700"] for number in range(3)]
    assert [len(part) for part in parts] == [500, 500, 1]
    assert [m["number"] for part in parts for m in part] == list(range(1001))


def test_200_kib_in_a_message(gateway, clients):
    bench = gateway(SERIES)
    client = clients(bench)
    client.send([{"n": f"/3/0/{n}", "vs": "x" * 60_000} for n in (0, 1, 2, 3)])
    messages = [published(bench, client, "series", number) for number in range(2)]
    assert all(len(message.payload) <= 200 << 10 for message in messages)
    names = [list(series(bench, client, number)) for number in range(2)]
    assert names == [["/3/0/0", "/3/0/1", "/3/0/2"], ["/3/0/3"]]


def test_series_of_answers_and_notifications(gateway, clients):
    bench = gateway(SERIES)
    client = clients(bench, known=[SENML_CBOR], values={"/3/0/0": "Example", "/3/0/9": 74})
    both_values = {"/3/0/0": [{"text": "Example"}], "/3/0/9": [{"number": 74}]}
    numbers = itertools.count()
    do(bench, client, "read", path="/3/0")
    assert series(bench, client, next(numbers)) == both_values
    do(bench, client, "read-composite", paths=["/3/0/9", "/3/0/0"])
    assert series(bench, client, next(numbers)) == both_values
    # What holds no values makes none.
    do(bench, client, "write", path="/3/0/15", type="String", value="UTC")
    do(bench, client, "read", path="/3/0/99")
    do(bench, client, "observe", path="/3/0/9")
    assert series(bench, client, next(numbers)) == {"/3/0/9": [{"number": 74}]}
    client.notify(senml_cbor([{"n": "/3/0/9", "v": 73, "t": NOON}]), SENML_CBOR)
    expected = {"/3/0/9": [{"number": 73, "date": NOON * 1000}]}
    assert series(bench, client, next(numbers)) == expected
    do(bench, client, "cancel-observe", path="/3/0/9")
    assert series(bench, client, next(numbers)) == {"/3/0/9": [{"number": 74}]}


def test_series_of_a_device_of_lwm2m_1_0(gateway):
    bench = gateway(SERIES)
    device = bench.registered(lwm2m="1.0")
    bench.read(device, "/3/0/9", "2.05", "74", TEXT)
    assert series(bench, device) == {"/3/0/9": [{"number": 74}]}


def test_series_with_paths_and_names(gateway, clients):
    mapping = {"/3303/0/5700": "temperature", "/3303/1/5700": "temperature", "/3/0/9": 'bat"1'}
    pairs = ", ".join(f"{json.dumps(path)} = {json.dumps(name)}" for path, name in mapping.items())
    bench = gateway(
        {
            **SERIES,
            "series.boolean": "text",
            "series.paths": '["/3303", "/3/0/9", "/1/0", "/3/0/7"]',
            "series.mapping": f"{{ {pairs} }}",
        }
    )
    client = clients(bench)
    values = {
        "/3/0/9": 74,
        "/3303/0/5700": 1.5,
        "/3303/0/5601": 2.5,
        "/1/0/6": False,
        "/1/1/1": 1,
        "/3/0/7/1": 3800,
        "/3/0/90": 1,
        "/33030/0/1": 1,
        "/3303/1/5700": 3.5,
    }
    client.send(records(values))
    assert series(bench, client) == {
        'bat"1': [{"number": 74}],
        "temperature": [{"number": 1.5}, {"number": 3.5}],
        "/3303/0/5601": [{"number": 2.5}],
        "/1/0/6": [{"text": "false"}],
        "/3/0/7/1": [{"number": 3800}],
    }
    client.send([{"n": "/3/0/0", "vs": "not chosen"}])
    client.send([{"n": "/3/0/9", "v": 1}])
    assert series(bench, client, 1) == {'bat"1': [{"number": 1}]}
    assert {e["path"] for e in sent(bench, client)["content"]} == set(values), "all of it"


# Devices behind an LwM2M gateway (object 25): their paths begin with a name


def test_paths_behind_a_gateway(gateway, clients):
    bench = gateway(SERIES)
    client = clients(bench, values={"/dev0/3303/0/5700": 21.5, "/dev0/3/0/9": 5, "/3/0/9": 74})
    client.send([{"bn": "/dev0/3303/0/", "n": "5700", "v": 1}, {"bn": "/3/0/9", "v": 2}])
    assert no_errors(sent(bench, client)) == [
        {"path": "/dev0/3303/0/5700", "value": 1.0},
        {"path": "/3/0/9", "value": 2},
    ]
    expected = {"/dev0/3303/0/5700": [{"number": 1.0}], "/3/0/9": [{"number": 2}]}
    assert series(bench, client) == expected

    payload = cbor2.dumps({"dev0": {3303: {0: {5700: 1.5}}}, ("dev1", 3, 0): {9: 7}})
    assert client.push(payload, LWM2M_CBOR) == "2.04"
    assert no_errors(sent(bench, client, 1)) == [
        {"path": "/dev0/3303/0/5700", "value": 1.5},
        {"path": "/dev1/3/0/9", "value": 7},
    ]

    for content_format in (SENML_CBOR, SENML_JSON, LWM2M_CBOR):
        data = do(bench, client, "read", path="/dev0/3303/0", format=content_format)
        assert content(data) == {"/dev0/3303/0/5700": 21.5}
        assert client.last.opt.uri_path == ("dev0", "3303", "0")
        value = {"path": "/dev0/3/0/15", "type": "String", "value": NAMES[content_format]}
        assert do(bench, client, "write", **value, format=content_format)["code"] == "2.04"
        assert client.tree.values["/dev0/3/0/15"] == NAMES[content_format]
        paths = ["/dev0/3303", "/3/0/9"]
        data = do(bench, client, "read-composite", paths=paths, format=content_format)
        assert content(data) == {"/dev0/3303/0/5700": 21.5, "/3/0/9": 74}
        entries = [{"path": "/dev0/3/0/14", "type": "String", "value": NAMES[content_format]}]
        data = do(bench, client, "write-composite", content=entries, format=content_format)
        assert data["code"] == "2.04"
        assert client.tree.values["/dev0/3/0/14"] == NAMES[content_format]
