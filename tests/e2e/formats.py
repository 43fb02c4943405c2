"""The formats of LwM2M 1.1 and 1.2 with `cbor2` and `json`: the tests' own encoder and decoder.

It shares no line with the gateway, so the two cannot agree on a mistake.
"""

import base64
import datetime
import json

import cbor2

from coap import JSON, OCTETS, TEXT, TLV, instance, resource, uint

CBOR, SENML_JSON, SENML_CBOR = 60, 110, 112
ETCH_JSON, ETCH_CBOR, LWM2M_CBOR = 320, 322, 11544

NAMES = {
    TEXT: "text",
    OCTETS: "opaque",
    CBOR: "cbor",
    SENML_JSON: "senml-json",
    SENML_CBOR: "senml-cbor",
    ETCH_JSON: "senml-etch-json",
    ETCH_CBOR: "senml-etch-cbor",
    TLV: "tlv",
    JSON: "json",
    LWM2M_CBOR: "lwm2m-cbor",
}

# RFC 8428 section 6; object links have no number (LwM2M Core 1.2 section 7.4).
LABELS = {"bver": -1, "bn": -2, "bt": -3, "bu": -4, "bv": -5, "n": 0, "u": 1, "t": 6}
LABELS |= {"v": 2, "vs": 3, "vb": 4, "vd": 8}
TEXTS = {number: label for label, number in LABELS.items()}


class Link(str):
    """An object link, such as "3:0"."""


def member(value):
    """The SenML field of a value."""
    if isinstance(value, Link):
        return {"vlo": str(value)}
    kinds = {bool: "vb", str: "vs", bytes: "vd", int: "v", float: "v"}
    return {kinds[type(value)]: value}


def records(values):
    """A pack of `{path: value}`: full names, no times."""
    return [{"n": path, **member(value)} for path, value in values.items()]


def senml_cbor(pack):
    return cbor2.dumps([{LABELS.get(key, key): value for key, value in r.items()} for r in pack])


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def senml_json(pack):
    def plain(value):
        return base64url(value) if isinstance(value, bytes) else value

    return json.dumps([{key: plain(value) for key, value in r.items()} for r in pack]).encode()


SENML = {SENML_CBOR: senml_cbor, SENML_JSON: senml_json}


def segments(path):
    """Keys of LwM2M-CBOR: numbers, and the name of a device behind a gateway."""
    return [int(s) if s.isdigit() else s for s in path.split("/") if s]


def lwm2m_cbor(values):
    root = {}
    for path, value in values.items():
        *above, last = segments(path)
        level = root
        for key in above:
            level = level.setdefault(key, {})
        level[last] = str(value) if isinstance(value, Link) else value
    return cbor2.dumps(root)


def encode(content_format, path, values):
    """`{path: value}` as the answer to a read of `path`."""
    value = next(iter(values.values()))
    if content_format in SENML:
        return SENML[content_format](records(values))
    if content_format == LWM2M_CBOR:
        return lwm2m_cbor(values)
    if content_format == CBOR:
        return cbor2.dumps(value)
    if content_format == TEXT:
        return str(value).encode()
    if content_format == OCTETS:
        return value
    if content_format == JSON:
        elements = [{"n": at[len(path) :].strip("/"), **old_member(v)} for at, v in values.items()]
        return json.dumps({"bn": path.rstrip("/") + "/", "e": elements}).encode()
    assert content_format == TLV
    entries = [resource(segments(at)[2], tlv_value(v)) for at, v in values.items()]
    return b"".join(entries) if len(segments(path)) >= 2 else instance(0, *entries)


def old_member(value):
    return {"bv" if isinstance(value, bool) else "sv" if isinstance(value, str) else "v": value}


def tlv_value(value):
    if isinstance(value, bool):
        return bytes([value])
    if isinstance(value, int):
        assert 0 <= value < 128
        return uint(value) or b"\0"
    return value if isinstance(value, bytes) else value.encode()


def decode(content_format, payload, path=""):
    """`{path: value}` of what the gateway writes; the value of a path that is asked for is None."""
    if content_format in (SENML_CBOR, ETCH_CBOR):
        pack = cbor2.loads(payload)
        return unpack([{TEXTS.get(key, key): value for key, value in r.items()} for r in pack])
    if content_format in (SENML_JSON, ETCH_JSON):
        return unpack(json.loads(payload), text=True)
    if content_format == LWM2M_CBOR:
        out = {}
        flatten(cbor2.loads(payload), "", out)
        return out
    if content_format == CBOR:
        value = cbor2.loads(payload)
        # Tag 1 makes a time of it; the device holds seconds.
        is_time = isinstance(value, datetime.datetime)
        return {path: int(value.timestamp()) if is_time else value}
    if content_format == TEXT:
        return {path: payload.decode()}
    return {path: payload}


def unpack(pack, text=False):
    out, base = {}, ""
    for record in pack:
        base = record.get("bn", base)
        values = [record[key] for key in ("v", "vs", "vb", "vd", "vlo") if key in record]
        assert len(values) <= 1, f"several values in {record}"
        assert set(record) <= {"bn", "n", "v", "vs", "vb", "vd", "vlo"}, record
        value = values[0] if values else None
        if "vd" in record and text:
            assert "=" not in value and "+" not in value, f"no base64url: {value}"
            value = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        elif "vlo" in record:
            value = Link(value)
        out[base + record.get("n", "")] = value
    return out


def flatten(level, above, out):
    for key, value in level.items():
        path = above + "".join(f"/{part}" for part in (key if isinstance(key, tuple) else (key,)))
        if isinstance(value, dict):
            flatten(value, path, out)
        else:
            out[path] = value
