"""LwM2M 1.1 and 1.2: registration, formats, composite operations, paths behind a gateway."""

import base64
import itertools

import pytest

pytest.importorskip("aiocoap", reason="aiocoap is not installed")
cbor2 = pytest.importorskip("cbor2", reason="cbor2 is not installed")

import aiocoap  # noqa: E402

import formats  # noqa: E402
from answers import NOON, content, do, no_errors, published, sent, series  # noqa: E402
from client import VALUES  # noqa: E402
from coap import JSON, OCTETS, TEXT, TLV  # noqa: E402
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
    senml_cbor,
)
from gateway import wait_for  # noqa: E402

SERIES = {"translators.series.enable": True}


# Registration


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_register(bench, clients, version):
    client = clients(bench, lwm2m=version)
    report = bench.app.report(client.endpoint)
    assert report.data["lwm2m"] == version
    assert report.data["objectList"] == ["/1/0", "/3/0", "/5/0", "/3303/0"]


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


@pytest.mark.parametrize("kind", TYPED)
@pytest.mark.parametrize(
    "content_format", [SENML_CBOR, SENML_JSON, LWM2M_CBOR, CBOR], ids=NAMES.get
)
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


@pytest.mark.parametrize("kind", ["write", "write-composite"])
def test_bytes_go_in_a_declared_format_first(bench, clients, kind):
    client = clients(bench, known=[SENML_JSON], values={})
    value = {"path": "/5/0/0", "type": "Opaque", "value": "/wA="}
    data = do(bench, client, kind, **(value if kind == "write" else {"content": [value]}))
    assert data["code"] == "2.04" and client.tree.values == {"/5/0/0": b"\xff\x00"}
    # B1: of one resource they go as they are first, whatever is declared.
    tried = [42, SENML_JSON] if kind == "write" else [SENML_JSON]
    assert [request.opt.content_format for request in client.tree.requests] == tried


@pytest.mark.parametrize("refusal", ["UNSUPPORTED_CONTENT_FORMAT", "NOT_ACCEPTABLE"])
def test_fall_back(bench, clients, refusal):
    """What was refused is tried once only. Wakaama says 4.06 to a payload as well."""
    client = clients(bench, known=[TLV], ct="112 11542", values={"/3/0/0": "Example"})
    client.tree.refusal = getattr(aiocoap, refusal)
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


def test_a_device_that_does_not_know_accept(bench, clients):
    client = clients(bench, values={"/3/0/0": "Example"})
    answer = client.tree.answer

    def refuse(request, *rest):
        if request.opt.accept is not None:
            return aiocoap.Message(code=aiocoap.BAD_OPTION)
        return answer(request, *rest)

    client.tree.answer = refuse
    assert content(do(bench, client, "read", path="/3/0")) == {"/3/0/0": "Example"}
    assert [request.opt.accept for request in client.tree.requests] == [SENML_CBOR, None]


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


@composite
def test_a_composite_read_in_blocks(bench, clients, content_format):
    """Both the paths and the values are more than a block holds."""
    values = {f"/3303/{number}/5701": f"unit {number}" * 5 for number in range(200)}
    client = clients(bench, known=[content_format], values=values)
    data = do(bench, client, "read-composite", paths=list(values))
    assert len(client.last.payload) > 1024
    assert content(data) == values


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
