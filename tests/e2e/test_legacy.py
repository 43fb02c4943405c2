"""The older topic pair `command` and `response`, in both dialects."""

import pytest

from coap import GET, LINK, POST, PUT, TEXT, TLV, resource


@pytest.fixture
def legacy(gateway):
    return gateway({"translators.legacy.enable": True})


@pytest.fixture
def device(legacy):
    return legacy.registered()


def send(bench, device, command):
    bench.app.publish(f"lwm2m/{device.endpoint}/command", command)


def answer(bench, device):
    return bench.app.wait(lambda m: m.topic == f"lwm2m/{device.endpoint}/response")


def test_todays_json(legacy, device):
    send(legacy, device, {"reqID": 1, "msgType": "read", "data": {"path": "/3/0/0"}})
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "EMQ", TEXT)
    assert answer(legacy, device).json == {
        "reqID": 1,
        "msgType": "read",
        "data": {
            "reqPath": "/3/0/0",
            "code": "2.05",
            "codeMsg": "content",
            "content": [{"path": "/3/0/0", "value": "EMQ"}],
        },
    }


def test_read(legacy, device):
    send(legacy, device, {"CmdID": 5, "Command": "Read", "BaseName": "/3/0/0"})
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "EMQ", TEXT)
    found = answer(legacy, device).json
    assert (found["CmdID"], found["Command"]) == (5, "Read")
    assert "EMQ" in str(found["Result"]) and "Error" not in found


def test_write(legacy, device):
    value = {"bn": "/3/0/14", "e": [{"sv": "+02:00"}]}
    send(legacy, device, {"CmdID": 6, "Command": "Write", "BaseName": "/3/0/14", "Value": value})
    request = device.expect(path="/3/0/14")
    assert request.code in (PUT, POST)
    assert b"+02:00" in request.payload
    device.reply(request, "2.04")
    assert answer(legacy, device).json == {"CmdID": 6, "Command": "Write", "Result": "Changed"}


def test_execute(legacy, device):
    send(legacy, device, {"CmdID": 7, "Command": "Execute", "BaseName": "/3/0/4", "Arguments": "2"})
    request = device.expect(POST, "/3/0/4")
    assert request.payload == b"2"
    device.reply(request, "2.04")
    assert answer(legacy, device).json["Result"] == "Changed"


def test_discover(legacy, device):
    send(legacy, device, {"CmdID": 8, "Command": "Discover", "BaseName": "/3/0"})
    device.reply(device.expect(GET, "/3/0"), "2.05", "</3/0>,</3/0/1>", LINK)
    assert answer(legacy, device).json["Result"] == ["</3/0>", "</3/0/1>"]


def test_write_attributes(legacy, device):
    send(
        legacy,
        device,
        {"CmdID": 9, "Command": "Write-Attributes", "BaseName": "/3/0/9", "Value": "pmin=1&pmax=5"},
    )
    request = device.expect(PUT, "/3/0/9")
    assert sorted(request.query) == ["pmax=5", "pmin=1"]
    device.reply(request, "2.04")
    assert answer(legacy, device).json["Result"] == "Changed"


def test_observe_and_notify(legacy, device):
    send(legacy, device, {"CmdID": 10, "Command": "Observe", "BaseName": "/3/0/9"})
    request = device.expect(GET, "/3/0/9")
    device.reply(request, "2.05", resource(9, b"\x64"), TLV, observe=1)
    first = answer(legacy, device)
    assert first.json["CmdID"] == 10 and "100" in str(first.json["Result"])
    device.notify(request, 2, resource(9, b"\x63"), TLV)
    second = legacy.app.wait(
        lambda m: m.json.get("CmdID") == 10 and "99" in str(m.json.get("Result"))
    )
    assert second.json["Command"] in ("Observe", "Notify")


@pytest.mark.parametrize(
    "code, error",
    [
        ("4.06", "Not Acceptable"),
        ("4.05", "Method Not Allowed"),
        ("4.04", "Not Found"),
        ("4.01", "Unauthorized"),
        ("4.00", "Bad Request"),
    ],
)
def test_errors(legacy, device, code, error):
    send(legacy, device, {"CmdID": 11, "Command": "Read", "BaseName": "/3/0/0"})
    device.reply(device.expect(GET), code)
    assert answer(legacy, device).json == {"CmdID": 11, "Command": "Read", "Error": error}


def test_off_by_default(bench):
    device = bench.registered()
    send(bench, device, {"reqID": 1, "msgType": "read", "data": {"path": "/3/0/0"}})
    device.silence(0.5)


def test_both_pairs_at_once(legacy, device):
    assert legacy.read(device, "/3/0/0", "2.05", "x", TEXT).topic.endswith("/up/resp")
