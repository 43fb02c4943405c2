"""Every operation: the CoAP request a command becomes, and the JSON its answer becomes."""

import base64
import struct
import time

import pytest

from coap import (
    ACCEPT,
    CONTENT_FORMAT,
    DELETE,
    GET,
    JSON,
    LINK,
    OCTETS,
    POST,
    PUT,
    TEXT,
    TLV,
    instance,
    multiple,
    resource,
)


@pytest.fixture
def device(bench):
    return bench.registered("</1/0>,</3/0>,</5/0>,</6/0>,</3303/0>")


def read(bench, device, path, payload, content_format):
    return bench.read(device, path, "2.05", payload, content_format)


def values(result):
    return {entry["path"]: entry["value"] for entry in result.data["content"]}


def test_read_answers_on_the_response_topic_with_all_keys(bench, device):
    request_id = bench.app.command(
        device.endpoint, "read", {"path": "/3/0/0"}, cacheID=11, nested={"a": [1, None]}
    )
    request = device.expect(GET, "/3/0/0")
    assert request.type == 0 and request.payload == b""
    device.reply(request, "2.05", "EMQ", TEXT)
    result = bench.app.result(request_id)
    assert result.topic == f"lwm2m/{device.endpoint}/up/resp"
    assert result.json == {
        "reqID": request_id,
        "msgType": "read",
        "cacheID": 11,
        "nested": {"a": [1, None]},
        "data": {
            "reqPath": "/3/0/0",
            "code": "2.05",
            "codeMsg": "content",
            "content": [{"path": "/3/0/0", "value": "EMQ"}],
        },
    }


@pytest.mark.parametrize("topic", ["dn", "dn/dm", "dn/a/b"])
def test_any_topic_below_dn(bench, device, topic):
    request_id = bench.app.command(device.endpoint, "read", {"path": "3/0/0/"}, topic=topic)
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "x", TEXT)
    assert bench.app.result(request_id).data["reqPath"] == "3/0/0/"


@pytest.mark.parametrize(
    "path, text, value",
    [
        ("/3/0/0", "Open Mobile Alliance", "Open Mobile Alliance"),
        ("/3/0/0", "42", "42"),
        ("/3/0/9", "95", 95),
        ("/3/0/9", "-100", -100),
        ("/3/0/13", "1367491215", 1367491215),
        ("/1/0/6", "1", True),
        ("/1/0/6", "0", False),
        ("/1/0/6", "true", True),
        ("/6/0/0", "52.5", 52.5),
        ("/6/0/6", "-0.25", -0.25),
    ],
)
def test_text_is_typed(bench, device, path, text, value):
    found = values(read(bench, device, path, text, TEXT))[path]
    assert found == value and type(found) is type(value)


def test_no_content_format_is_text(bench, device):
    assert values(bench.read(device, "/3/0/9", "2.05", "96")) == {"/3/0/9": 96}


def test_separate_answer(bench, device):
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    request = device.expect(GET)
    device.acknowledge(request)
    ack = bench.app.result(request_id, kind="ack")
    assert ack.data == {"path": "/3/0/0"}
    answer = device.separate(request, "2.05", "late", TEXT)
    device.expect_ack(answer)
    assert values(bench.app.result(request_id, kind="read")) == {"/3/0/0": "late"}


def test_separate_answer_non_confirmable(bench, device):
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    request = device.expect(GET)
    device.acknowledge(request)
    device.separate(request, "2.05", "late", TEXT, kind=1)
    assert values(bench.app.result(request_id, kind="read")) == {"/3/0/0": "late"}


def test_separate_answer_before_its_ack(bench, device):
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    request = device.expect(GET)
    answer = device.separate(request, "2.05", "first", TEXT)
    device.expect_ack(answer)
    device.acknowledge(request)
    assert values(bench.app.result(request_id, kind="read")) == {"/3/0/0": "first"}
    device.silence(0.8)


def test_separate_answer_with_the_message_id_of_the_request(bench, device):
    """What EMQX's own suite does in case10_read_separate_ack."""
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    request = device.expect(GET)
    device.acknowledge(request)
    device.separate(request, "2.05", "same", TEXT, mid=request.mid)
    assert values(bench.app.result(request_id, kind="read")) == {"/3/0/0": "same"}


def test_tlv_instance(bench, device):
    payload = b"".join(
        [
            resource(0, b"Open Mobile Alliance"),
            multiple(6, {0: b"\1", 1: b"\5"}),
            multiple(7, {0: struct.pack("!h", 3800), 1: struct.pack("!h", 5000)}),
            resource(9, b"\x64"),
            resource(13, struct.pack("!i", 1367491215)),
            resource(16, b"U"),
        ]
    )
    assert values(read(bench, device, "/3/0", payload, TLV)) == {
        "/3/0/0": "Open Mobile Alliance",
        "/3/0/6/0": 1,
        "/3/0/6/1": 5,
        "/3/0/7/0": 3800,
        "/3/0/7/1": 5000,
        "/3/0/9": 100,
        "/3/0/13": 1367491215,
        "/3/0/16": "U",
    }


@pytest.mark.parametrize(
    "path, payload, expected",
    [
        ("/3/0/9", resource(9, struct.pack("!h", -100)), {"/3/0/9": -100}),
        ("/3/0/10", resource(10, struct.pack("!q", -(2**40))), {"/3/0/10": -(2**40)}),
        ("/6/0/0", resource(0, struct.pack("!d", 12.5)), {"/6/0/0": 12.5}),
        ("/6/0/0", resource(0, struct.pack("!f", 0.5)), {"/6/0/0": 0.5}),
        ("/1/0/6", resource(6, b"\1"), {"/1/0/6": True}),
        ("/3/0/11", multiple(11, {0: b"\0", 1: b"\2"}), {"/3/0/11/0": 0, "/3/0/11/1": 2}),
        ("/3/0/6/0", multiple(6, {0: b"\1"}), {"/3/0/6/0": 1}),
        ("/3", instance(0, resource(9, b"\x64")), {"/3/0/9": 100}),
        (
            "/3303",
            instance(0, resource(5700, struct.pack("!d", 1.5)))
            + instance(300, resource(5700, struct.pack("!d", 2.5))),
            {"/3303/0/5700": 1.5, "/3303/300/5700": 2.5},
        ),
    ],
)
def test_tlv(bench, device, path, payload, expected):
    result = read(bench, device, path, payload, TLV)
    assert result.data["code"] == "2.05"
    assert values(result) == expected


def test_oma_json(bench, device):
    payload = (
        '{"bn":"/3/0/","e":[{"n":"0","sv":"OMA"},{"n":"9","v":95},{"n":"21","v":64},'
        '{"n":"6/0","v":1},{"n":"6/1","v":5}]}'
    )
    assert values(read(bench, device, "/3/0", payload, JSON)) == {
        "/3/0/0": "OMA",
        "/3/0/9": 95,
        "/3/0/21": 64,
        "/3/0/6/0": 1,
        "/3/0/6/1": 5,
    }


@pytest.mark.parametrize("number, old", [(TEXT, 1541), (TLV, 1542), (JSON, 1543)])
def test_old_content_formats(bench, device, number, old):
    payload = {
        TEXT: b"95",
        TLV: resource(9, b"\x5f"),
        JSON: b'{"bn":"/3/0/9","e":[{"v":95}]}',
    }[number]
    result = read(bench, device, "/3/0/9", payload, old)
    assert [entry["value"] for entry in result.data["content"]] == [95]


def test_opaque_is_base64(bench, device):
    for content_format, payload in (
        (OCTETS, b"\0\1\xfe\xff"),
        (TLV, resource(0, b"\0\1\xfe\xff")),
        (TEXT, b"AAH+/w=="),
    ):
        result = read(bench, device, "/5/0/0", payload, content_format)
        assert values(result) == {"/5/0/0": "AAH+/w=="}


def test_text_opaque_as_emqx(gateway):
    bench = gateway({"compat.text_opaque": "encode"})
    device = bench.registered("</5/0>")
    result = read(bench, device, "/5/0/0", "AQID", TEXT)
    assert values(result) == {"/5/0/0": base64.b64encode(b"AQID").decode()}


def test_object_link(bench):
    device = bench.registered("</9723/0>,</3/0>")
    result = read(bench, device, "/9723/0", '{"bn":"/9723/0/","e":[{"n":"1","ov":"66:1"}]}', JSON)
    assert values(result) == {"/9723/0/1": "66:1"}


def test_unknown_object_is_delivered(bench):
    device = bench.registered("</9723/0>")
    result = read(bench, device, "/9723/0/0", "some text", TEXT)
    assert result.data["code"] == "2.05"
    assert values(result) == {"/9723/0/0": "some text"}
    result = read(bench, device, "/9723/0", resource(1, b"abc") + resource(2, b"\xfe\xff\0"), TLV)
    assert result.data["code"] == "2.05"
    assert set(values(result)) == {"/9723/0/1", "/9723/0/2"}


def test_unknown_resource_voids_nothing(bench, device):
    payload = resource(0, b"OMA") + resource(26241, b"xyz") + resource(9, b"\7")
    found = values(read(bench, device, "/3/0", payload, TLV))
    assert found["/3/0/0"] == "OMA" and found["/3/0/9"] == 7 and "/3/0/26241" in found


def test_unknown_object_as_emqx(gateway):
    bench = gateway({"compat.unknown_object": "error"})
    device = bench.registered("</9723/0>")
    result = read(bench, device, "/9723/0/0", "text", TEXT)
    assert result.data["code"] == "4.00" and "content" not in result.data


def test_broken_payload(bench, device):
    result = read(bench, device, "/3/0", b"\xc8\x00\xff", TLV)
    assert (result.data["code"], result.data["codeMsg"]) == ("4.00", "bad_request")
    assert "content" not in result.data


@pytest.mark.parametrize(
    "code, message",
    [
        ("4.00", "bad_request"),
        ("4.01", "unauthorized"),
        ("4.02", "bad_option"),
        ("4.03", "forbidden"),
        ("4.04", "not_found"),
        ("4.05", "method_not_allowed"),
        ("4.06", "not_acceptable"),
        ("4.12", "precondition_failed"),
        ("4.15", "unsupported_content_format"),
        ("5.00", "internal_server_error"),
        ("5.01", "not_implemented"),
        ("5.03", "service_unavailable"),
        # These crash EMQX's session.
        ("4.09", None),
        ("4.22", None),
        ("4.29", None),
    ],
)
def test_error_codes(bench, device, code, message):
    data = bench.read(device, "/3/0/0", code).data
    assert data["code"] == code and data["reqPath"] == "/3/0/0" and "content" not in data
    assert data["codeMsg"] == message or message is None and data["codeMsg"]


def test_a_success_code_that_is_not_expected_is_reported(bench, device):
    request_id = bench.app.command(device.endpoint, "execute", {"path": "/3/0/4"})
    device.reply(device.expect(POST), "2.03")
    assert bench.app.result(request_id).data["code"] == "2.03"


@pytest.mark.parametrize(
    "kind, value, expected",
    [
        ("Integer", "12345", b"\x30\x39"),
        ("Integer", 127, b"\x7f"),
        ("Integer", 128, b"\x00\x80"),
        ("Integer", "200", b"\x00\xc8"),
        ("Integer", "0", b"\x00"),
        ("Integer", "-5", b"\xfb"),
        ("Integer", -129, b"\xff\x7f"),
        ("Integer", 70000, b"\x00\x01\x11\x70"),
        ("Integer", -32769, b"\xff\xff\x7f\xff"),
        ("Integer", 2**40, struct.pack("!q", 2**40)),
        ("Time", "1367491215", b"\x51\x82\x42\x8f"),
        ("Float", "12.5", struct.pack("!d", 12.5)),
        ("Float", 1.5, struct.pack("!d", 1.5)),
        ("String", "87x", b"87x"),
        ("String", "", b""),
        ("Boolean", "true", b"\1"),
        ("Boolean", "false", b"\0"),
        ("Boolean", True, b"\1"),
        ("Opaque", "AQID", b"\1\2\3"),
        ("Objlnk", "3:0", b"\0\3\0\0"),
    ],
)
def test_write(bench, device, kind, value, expected):
    request_id = bench.app.command(
        device.endpoint, "write", {"path": "/9723/0/13", "type": kind, "value": value}
    )
    request = device.expect(PUT, "/9723/0/13")
    # B1: bytes as they are.
    assert request.uint(CONTENT_FORMAT) == (42 if kind == "Opaque" else TLV)
    if kind == "Opaque":
        assert request.payload == expected
    elif kind == "Float" and request.payload == resource(13, struct.pack("!f", float(value))):
        pass  # a float32 that loses nothing is as good
    else:
        assert request.payload == resource(13, expected), request.payload.hex()
    device.reply(request, "2.04")
    assert bench.app.result(request_id).data == {
        "reqPath": "/9723/0/13",
        "code": "2.04",
        "codeMsg": "changed",
    }


def test_batch_write(bench, device):
    content = [
        {"path": "13", "type": "Integer", "value": 12345},
        {"path": "14", "type": "String", "value": "87x"},
    ]
    request_id = bench.app.command(
        device.endpoint, "write", {"basePath": "/3/0/", "content": content}
    )
    request = device.expect(POST, "/3/0")
    assert request.uint(CONTENT_FORMAT) == TLV
    assert request.payload == bytes.fromhex("c20d3039c30e383778")
    device.reply(request, "2.04")
    assert bench.app.result(request_id).data["reqPath"] == "/3/0/"


def test_batch_write_of_resource_instances(bench, device):
    content = [
        {"path": "11/0", "type": "Integer", "value": "1"},
        {"path": "11/1", "type": "Integer", "value": "2"},
    ]
    bench.app.command(device.endpoint, "write", {"basePath": "/3/0", "content": content})
    request = device.expect(POST, "/3/0")
    assert request.payload == bytes.fromhex("860b410001410102")
    device.reply(request, "2.04")
    content = [{"path": "0", "type": "Integer", "value": 1}, {"path": "1", "type": "Integer", "value": 2}]
    request_id = bench.app.command(
        device.endpoint, "write", {"basePath": "/3/0/13", "content": content}
    )
    request = device.expect(PUT, "/3/0/13")
    assert request.payload == bytes.fromhex("860d410001410102")
    device.reply(request, "2.04")
    bench.app.result(request_id)


def test_write_error(bench, device):
    request_id = bench.app.command(
        device.endpoint, "write", {"path": "/3/0/1", "type": "Integer", "value": 1}
    )
    device.reply(device.expect(PUT), "4.00")
    assert bench.app.result(request_id).data == {
        "reqPath": "/3/0/1",
        "code": "4.00",
        "codeMsg": "bad_request",
    }


def test_write_in_hex(bench, device):
    request_id = bench.app.command(
        device.endpoint,
        "write",
        {"path": "/3/0/14", "type": "String", "value": "48656C6C6F"},
        encoding="hex",
    )
    request = device.expect(PUT)
    assert request.payload == resource(14, b"Hello")
    device.reply(request, "2.04")
    assert bench.app.result(request_id).json["encoding"] == "hex"


@pytest.mark.parametrize(
    "status, payload, expected", [("2.05", b"", "4.05"), ("2.05", b"OK", "2.04")]
)
def test_write_answered_as_content_as_emqx(gateway, status, payload, expected):
    bench = gateway({"compat.write_content": True})
    device = bench.registered()
    request_id = bench.app.command(
        device.endpoint, "write", {"path": "/3/0/14", "type": "String", "value": "x"}
    )
    device.reply(device.expect(PUT), status, payload)
    assert bench.app.result(request_id).data["code"] == expected


@pytest.mark.parametrize("data, payload", [({}, b""), ({"args": "2,7"}, b"2,7"), ({"args": ""}, b"")])
def test_execute(bench, device, data, payload):
    request_id = bench.app.command(device.endpoint, "execute", {"path": "/3/0/4", **data})
    request = device.expect(POST, "/3/0/4")
    assert request.payload == payload
    device.reply(request, "2.04")
    assert bench.app.result(request_id).data["code"] == "2.04"


def test_create(bench, device):
    content = [{"path": "/0/3", "type": "Integer", "value": "1"}]
    request_id = bench.app.command(
        device.endpoint, "create", {"basePath": "/5", "content": content}
    )
    request = device.expect(POST, "/5")
    assert request.uint(CONTENT_FORMAT) == TLV
    assert request.payload == instance(0, resource(3, b"\1"))
    device.reply(request, "2.01")
    assert bench.app.result(request_id).data == {
        "reqPath": "/5",
        "code": "2.01",
        "codeMsg": "created",
    }


def test_create_empty(bench, device):
    request_id = bench.app.command(device.endpoint, "create", {"basePath": "/5", "content": []})
    request = device.expect(POST, "/5")
    assert request.payload == b""
    device.reply(request, "2.01")
    assert bench.app.result(request_id).data["code"] == "2.01"


def test_delete(bench, device):
    request_id = bench.app.command(device.endpoint, "delete", {"path": "/5/0"})
    device.reply(device.expect(DELETE, "/5/0"), "2.02")
    data = bench.app.result(request_id).data
    assert data == {"reqPath": "/5/0", "code": "2.02", "codeMsg": "deleted"}


@pytest.mark.parametrize(
    "path, links",
    [
        ("/3/0", ["</3/0>;pmin=10", "</3/0/1>", "</3/0/9>;pmax=60"]),
        ("/3/0/7", ['</3/0/7>;dim=8;pmin=10;pmax=60;gt=50;lt=42.2', "</3/0/8>"]),
        ("/3", ['</3>;title="a,b"', "</3/0>"]),
    ],
)
def test_discover(bench, device, path, links):
    request_id = bench.app.command(device.endpoint, "discover", {"path": path})
    request = device.expect(GET, path)
    assert request.uint(ACCEPT) == LINK
    device.reply(request, "2.05", ",".join(links), LINK)
    data = bench.app.result(request_id).data
    assert (data["code"], data["content"]) == ("2.05", links)


@pytest.mark.parametrize("as_text", [True, False])
def test_write_attributes(bench, device, as_text):
    wanted = {"pmin": 1, "pmax": 5, "gt": 5, "lt": 2, "st": 0.5}
    given = {key: str(value) if as_text else value for key, value in wanted.items()}
    request_id = bench.app.command(device.endpoint, "write-attr", {"path": "/3/0/9", **given})
    request = device.expect(PUT, "/3/0/9")
    assert request.payload == b""
    assert request.get(CONTENT_FORMAT) == []
    assert sorted(request.query) == ["gt=5", "lt=2", "pmax=5", "pmin=1", "st=0.5"]
    device.reply(request, "2.04")
    assert bench.app.result(request_id).data["code"] == "2.04"


def test_b2_null_attributes_are_unset(bench, device):
    bench.app.command(
        device.endpoint, "write-attr", {"path": "/3/0/9", "pmin": "1", "pmax": None, "gt": None}
    )
    request = device.expect(PUT)
    assert request.query == ["gt", "pmax", "pmin=1"]
    device.reply(request, "2.04")


def test_query_in_a_path(bench, device):
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0?a=1&b"})
    request = device.expect(GET, "/3/0/0")
    assert request.query == ["a=1", "b"]
    device.reply(request, "2.05", "x", TEXT)
    assert bench.app.result(request_id).data["reqPath"] == "/3/0/0"


def test_commands_are_sent_in_the_order_received(bench, device):
    ids = [
        bench.app.command(device.endpoint, "read", {"path": f"/3/0/{n}"}) for n in (0, 1, 2, 3, 9)
    ]
    for number in (0, 1, 2, 3, 9):
        request = device.expect(GET, f"/3/0/{number}")
        device.silence(0.05, lambda m: m.code == GET)  # NSTART = 1: one at a time
        device.reply(request, "2.05", str(number), TEXT)
    answers = [bench.app.result(request_id) for request_id in ids]
    assert [message.at for message in answers] == sorted(message.at for message in answers)


def test_nstart_can_be_raised(gateway):
    bench = gateway({"coap.nstart": 3})
    device = bench.registered()
    for number in range(4):
        bench.app.command(device.endpoint, "read", {"path": f"/3/0/{number}"})
    requests = [device.expect(GET) for _ in range(3)]
    assert len({request.token for request in requests}) == 3
    device.silence(0.1, lambda m: m.path == "/3/0/3")
    for request in requests:
        device.reply(request, "2.05", "x", TEXT)
    device.reply(device.expect(GET, "/3/0/3"), "2.05", "x", TEXT)


def test_an_answer_is_published_once(bench, device):
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    request = device.expect(GET)
    answer = device.reply(request, "2.05", "x", TEXT)
    device.send(answer)
    device.send(answer)
    bench.app.result(request_id)
    time.sleep(0.3)
    assert len(bench.app.results(request_id)) == 1
