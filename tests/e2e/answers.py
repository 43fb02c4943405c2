"""What the application has of a device: Sends, series, answers to commands."""

from gateway import wait_for

# A time for values, in seconds since 1970.
NOON = 1_700_000_000


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
