"""Measurement series of Sends, answers and notifications."""

import itertools
import json

import pytest

pytest.importorskip("aiocoap", reason="aiocoap is not installed")
pytest.importorskip("cbor2", reason="cbor2 is not installed")

from answers import NOON, do, published, sent, series  # noqa: E402
from coap import TEXT  # noqa: E402
from formats import SENML_CBOR, records, senml_cbor  # noqa: E402

SERIES = {"translators.series.enable": True}


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
