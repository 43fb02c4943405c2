"""The MQTT contract beyond single operations: malformed commands, topics, echo, switches."""

import json

import pytest

from coap import GET, TEXT
from secure import SecureDevice


@pytest.fixture
def device(bench):
    return bench.registered()


def answers(bench, device):
    return bench.app.all(lambda m: device.endpoint in m.topic and "reason" in (m.data or {}))


@pytest.mark.parametrize("text", ["{bad json", "", "\x00", '{"msgType":"read"', "nil"])
def test_malformed_json_is_answered(bench, device, text):
    bench.app.publish(f"lwm2m/{device.endpoint}/dn/dm", text)
    message = bench.app.wait(
        lambda m: m.topic == f"lwm2m/{device.endpoint}/up/resp" and "reason" in (m.data or {})
    )
    assert message.data["code"] == "4.00"
    assert message.data["codeMsg"] == "bad_request"
    assert message.data["reason"] in ("malformed_json", "not_an_object")
    device.silence(0.2)


@pytest.mark.parametrize("text", ["[]", '"x"', "1", "null"])
def test_json_that_is_no_object_is_answered(bench, device, text):
    bench.app.publish(f"lwm2m/{device.endpoint}/dn/dm", text)
    message = bench.app.wait(lambda m: device.endpoint in m.topic and "reason" in (m.data or {}))
    assert (message.data["code"], message.data["reason"]) == ("4.00", "not_an_object")


def test_bytes_that_are_no_text_are_answered(bench, device):
    bench.app.publish(f"lwm2m/{device.endpoint}/dn/dm", b'{"msgType":"\xff\xfe"}')
    message = bench.app.wait(lambda m: device.endpoint in m.topic and "reason" in (m.data or {}))
    assert message.data["code"] == "4.00"


def test_unknown_msgtype(bench, device):
    request_id = bench.app.command(device.endpoint, "frobnicate", {"path": "/3/0/0"}, extra="e")
    result = bench.app.result(request_id)
    assert result.type == "frobnicate" and result.json["extra"] == "e"
    assert result.data["code"] == "4.00" and result.data["codeMsg"] == "bad_request"
    assert result.data["reason"] == "unknown_msgType"
    assert result.data["reqPath"] == "/3/0/0"
    device.silence(0.2)


@pytest.mark.parametrize(
    "command, reason",
    [
        ({"data": {"path": "/3/0/0"}}, "missing_msgType"),
        ({"msgType": 7, "data": {"path": "/3/0/0"}}, "missing_msgType"),
        ({"msgType": "read"}, "missing_data"),
        ({"msgType": "read", "data": "x"}, "missing_data"),
        ({"msgType": "read", "data": {}}, "missing_path"),
        ({"msgType": "read", "data": {"path": 3}}, None),
        ({"msgType": "read", "data": {"path": "/1/2/3/4/5"}}, "bad_path"),
        ({"msgType": "read", "data": {"path": "/3//0"}}, "bad_path"),
        ({"msgType": "write", "data": {"path": "/3/0/9", "type": "Integer", "value": "abc"}}, "bad_value"),
        ({"msgType": "write", "data": {"path": "/3/0/9", "type": "Integer"}}, "missing_value"),
        ({"msgType": "write", "data": {"path": "/3/0/9", "type": "Nonsense", "value": "1"}}, "bad_type"),
        ({"msgType": "write", "data": {"path": "/5/0/0", "type": "Opaque", "value": "!"}}, "bad_value"),
        ({"msgType": "write", "data": {"path": "/1/0/6", "type": "Boolean", "value": "maybe"}}, "bad_value"),
        ({"msgType": "write", "data": {"path": "/3/0/22", "type": "Objlnk", "value": "1"}}, "bad_value"),
        ({"msgType": "write", "data": {"basePath": "/3/0"}}, None),
        ({"msgType": "write", "data": {"basePath": "/3/0", "content": "x"}}, "bad_content"),
        ({"msgType": "execute", "data": {"path": "/3/0/4", "args": [5]}}, "bad_arguments"),
        ({"msgType": "write-attr", "data": {"path": "/3/0/9", "pmin": [1]}}, "bad_attribute"),
        (
            {
                "msgType": "write",
                "encoding": "hex",
                "data": {"path": "/3/0/14", "type": "String", "value": "ZZ"},
            },
            None,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) or value is None else json.dumps(value)[:70],
)
def test_malformed_commands_are_answered(bench, device, command, reason):
    bench.app.publish(f"lwm2m/{device.endpoint}/dn/dm", {"reqID": "bad-1", **command})
    message = bench.app.wait(lambda m: device.endpoint in m.topic and m.json.get("reqID") == "bad-1")
    assert message.data["code"] == "4.00" and message.data["codeMsg"] == "bad_request"
    assert message.data["reason"]
    if reason:
        assert message.data["reason"] == reason
    device.silence(0.1)


def test_malformed_commands_can_be_dropped_as_emqx_does(gateway):
    bench = gateway({"compat.malformed_command": "drop"})
    device = bench.registered()
    bench.app.publish(f"lwm2m/{device.endpoint}/dn/dm", "{bad json")
    result = bench.read(device, "/3/0/0", "2.05", "x", TEXT)
    assert result.type == "read"
    assert answers(bench, device) == []


def test_deep_json_is_refused(bench, device):
    bench.app.publish(f"lwm2m/{device.endpoint}/dn/dm", "[" * 10_000)
    message = bench.app.wait(lambda m: device.endpoint in m.topic and "reason" in (m.data or {}))
    assert message.data["code"] == "4.00"
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).type == "read"


def test_a_command_that_is_too_large(gateway):
    bench = gateway({"limits.max_command_size": 2048})
    device = bench.registered()
    bench.app.publish(
        f"lwm2m/{device.endpoint}/dn/dm",
        {"msgType": "read", "data": {"path": "/3/0/0"}, "pad": "x" * 4000},
    )
    message = bench.app.wait(lambda m: device.endpoint in m.topic and "reason" in (m.data or {}))
    assert message.data["reason"] == "too_large"


def test_command_for_an_endpoint_that_is_not_registered(bench):
    request_id = bench.app.command("nobody-here", "read", {"path": "/3/0/0"}, cacheID=3)
    result = bench.app.result(request_id)
    assert result.topic == "lwm2m/nobody-here/up/resp"
    assert result.type == "read" and result.json["cacheID"] == 3
    assert result.data["code"] == "4.04" and result.data["reason"] == "not_registered"


@pytest.mark.parametrize(
    "keys",
    [
        {"reqID": 1},
        {"reqID": "text"},
        {"requestID": 12, "cacheID": 34},
        {"reqID": 12345678901234567890123},
        {"reqID": 1.5, "ünïcode": "…", "a/b": {"x": [True, None, {"y": 1}]}},
        {"mheaders": {"ttl": 60}},
    ],
)
def test_every_key_is_echoed(bench, device, keys):
    command = {"msgType": "read", "data": {"path": "/3/0/0"}, **keys}
    bench.app.publish(f"lwm2m/{device.endpoint}/dn/dm", command)
    device.reply(device.expect(GET), "2.05", "x", TEXT)
    message = bench.app.wait(lambda m: device.endpoint in m.topic and m.type == "read")
    assert {key: message.json.get(key) for key in keys} == keys
    assert set(message.json) == {"msgType", "data", *keys}


def test_json_is_compact_and_not_retained(bench, device):
    result = bench.read(device, "/3/0/0", "2.05", "a/b", TEXT)
    assert b": " not in result.payload and b", " not in result.payload
    assert b"a/b" in result.payload


def test_translators(gateway):
    bench = gateway(
        {
            "mountpoint": "lwm2m/${endpoint_name}/x/",
            "translators.command.topic": "cmd/#",
            "translators.response.topic": "up/r",
            "translators.response.qos": 1,
            "translators.notify.topic": "up/n",
            "translators.notify.qos": 1,
            "translators.register.topic": "up/reg",
            "translators.update.topic": "up/upd",
        }
    )
    device = bench.registered()
    base = f"lwm2m/{device.endpoint}/x/"
    assert bench.app.report(device.endpoint).topic == base + "up/reg"
    device.update(objects="</3/0>")
    assert bench.app.report(device.endpoint, "update").topic == base + "up/upd"
    request_id = bench.app.command(device.endpoint, "observe", {"path": "/3/0/9"}, topic="x/cmd/1")
    request = device.expect(GET)
    device.reply(request, "2.05", "1", TEXT, observe=1)
    result = bench.app.result(request_id)
    assert (result.topic, result.qos) == (base + "up/r", 1)
    device.notify(request, 2, "2")
    message = bench.app.wait(lambda m: m.type == "notify" and m.json.get("reqID") == request_id)
    assert (message.topic, message.qos) == (base + "up/n", 1)


@pytest.mark.parametrize(
    "mountpoint, expected",
    [
        ("lwm2m/${username}/", "lwm2m/861/"),
        ("lwm2m/${clientid}/", "lwm2m/dev-id/"),
        ("lwm2m/${zone}/${endpoint_name}/", "lwm2m/default/{ep}/"),
        ("lwm2m/${peerhost}/${endpoint_name}/", "lwm2m/127.0.0.1/{ep}/"),
    ],
)
def test_placeholders(gateway, mountpoint, expected):
    bench = gateway({"mountpoint": mountpoint})
    device = bench.registered(extra=["imei=861", "device_id=dev-id"])
    topic = expected.format(ep=device.endpoint)
    chosen = any(name in mountpoint for name in ["${username}", "${clientid}"])
    if chosen and bench.kind is SecureDevice:
        # Over DTLS a device does not choose them: they are its identity.
        topic = f"lwm2m/{device.identity}/"
    assert bench.app.report(device.endpoint).topic == topic + "up/resp"
    bench.app.publish(topic + "dn/dm", {"reqID": 9, "msgType": "read", "data": {"path": "/3/0/0"}})
    device.reply(device.expect(GET), "2.05", "x", TEXT)
    bench.app.wait(lambda m: m.topic == topic + "up/resp" and m.type == "read")
