"""The end of the gateway's log over HTTP."""

import json

import pytest

from api import Api
from gateway import Standalone, accepts_tcp, free_tcp_port, wait_for

pytestmark = [pytest.mark.standalone_only, pytest.mark.udp_only]


@pytest.fixture(scope="module")
def api():
    address = ("127.0.0.1", free_tcp_port())
    gateway = Standalone({"http.bind": "%s:%d" % address})
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    yield Api(address)
    assert gateway.stop() == 0 and "panicked" not in gateway.log()


def change(api, name):
    """Makes a line."""
    assert api.request("DELETE", f"/v1/devices/{name}")[0] == 404


def numbers(lines):
    return [line["number"] for line in lines]


def test_the_last_lines_are_shown(api):
    for number in range(5):
        change(api, f"shown-{number}")

    def found():
        lines = api.get("/v1/log", lines=5)["lines"]
        return "shown-4" in lines[-1]["text"] and lines

    lines = wait_for(found, 10, "the lines")
    assert len(lines) == 5 and ["shown-%d" % n in line["text"] for n, line in enumerate(lines)] == [True] * 5
    assert numbers(lines) == list(range(lines[0]["number"], lines[0]["number"] + 5))
    assert lines[0]["target"] == "audit" and lines[0]["level"] == "INFO"
    assert 1_600_000_000_000 < lines[0]["at"] <= lines[-1]["at"]
    assert all(line["level"] == "ERROR" for line in api.get("/v1/log", level="error")["lines"])
    for query in ({"lines": 2001}, {"level": "loud"}, {"other": 1}, {"lines": -1}):
        assert api.get("/v1/log", status=400, **query)["error"] == "bad_query"


def follow(api, query=""):
    connection = api.connection()
    connection.request("GET", f"/v1/log/events{query}")
    answer = connection.getresponse()
    return connection, answer


def next_line(answer):
    for line in iter(answer.readline, b""):
        if line.startswith(b"data: "):
            return json.loads(line[6:])
    raise AssertionError("the stream has ended")


def test_lines_are_followed(api):
    change(api, "before")
    wait_for(lambda: "before" in str(api.get("/v1/log", lines=1)), 10, "the line")
    last = api.get("/v1/log", lines=1)["lines"][-1]
    connection, answer = follow(api)
    assert answer.status == 200 and answer.headers["Content-Type"] == "text/event-stream"
    assert answer.readline() == b":\n"
    change(api, "while-it-is-followed")
    line = next_line(answer)
    assert "while-it-is-followed" in line["text"] and line["number"] == last["number"] + 1
    connection.close()
    # Who comes again gets what came in between.
    connection, answer = follow(api, f"?after={last['number'] - 1}")
    assert next_line(answer) == last and next_line(answer) == line
    connection.close()


def test_followers_are_bounded(api):
    streams = [follow(api) for _ in range(20)]
    statuses = [answer.status for _, answer in streams]
    assert statuses.count(200) == 16 and statuses.count(503) == 4
    for connection, _ in streams:
        connection.close()
    def free():
        connection, answer = follow(api)
        connection.close()
        return answer.status == 200
    wait_for(free, 10, "a place")
