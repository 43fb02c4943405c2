"""Send of LwM2M 1.1 and 1.2: what a device reports by itself."""

import base64
import json
import time
from decimal import Decimal

import pytest

pytest.importorskip("aiocoap", reason="aiocoap is not installed")
cbor2 = pytest.importorskip("cbor2", reason="cbor2 is not installed")

import aiocoap  # noqa: E402

import formats  # noqa: E402
from answers import NOON, content, do, no_errors, published, sent, series  # noqa: E402
from coap import JSON, OCTETS, POST, TEXT, TLV  # noqa: E402
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
    senml_cbor,
    senml_json,
)

SERIES = {"translators.series.enable": True}
both = pytest.mark.parametrize("senml", SENML, ids=NAMES.get)

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
    pack = [{"bn": "/3/0/9", "bv": 70, "v": 4}, {"v": -70}, {}, {"bn": "/3303/0/5700", "v": 0.5}]
    client.send(pack, senml)
    values = [(e["path"], e["value"]) for e in no_errors(sent(bench, client))]
    assert values == [("/3/0/9", 74), ("/3/0/9", 0), ("/3/0/9", 70), ("/3303/0/5700", 70.5)]


def test_decimal_fractions(bench, client):
    """RFC 8428 section 6 allows them in CBOR."""
    pack = [{0: "/3303/0/5700", 2: Decimal("21.55"), -3: Decimal("1700000000.5")}]
    assert client.push(cbor2.dumps(pack), SENML_CBOR) == "2.04"
    entry = {"path": "/3303/0/5700", "value": 21.55, "time": NOON + 0.5}
    assert no_errors(sent(bench, client)) == [entry]


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
    "not an array": (SENML_CBOR, cbor2.dumps({0: "/3/0/9", 2: 1})),
    "not a map": (SENML_CBOR, cbor2.dumps([1])),
    "more behind it": (SENML_CBOR, senml_cbor([{"n": "/3/0/9", "v": 1}]) + b"\x00"),
    "base name is a number": (SENML_CBOR, cbor2.dumps([{-2: 3, 0: "0", 2: 1}])),
    "base time is NaN": (SENML_CBOR, senml_cbor([{"bt": float("nan"), "n": "/3/0/9", "v": 1}])),
    "deep": (SENML_CBOR, b"\x81" * 5000 + b"\x00"),
    "endless": (SENML_CBOR, b"\x9b" + b"\xff" * 8),
    "text string is not UTF-8": (SENML_CBOR, b"\x81\xa2\x00\x61\xff\x02\x01"),
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


OTHERS = [None, TEXT, 40, OCTETS, 50, CBOR, ETCH_JSON, ETCH_CBOR, TLV, JSON, 65535]


@pytest.mark.parametrize("content_format", OTHERS)
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
        assert answer.code_text == "2.04"
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
