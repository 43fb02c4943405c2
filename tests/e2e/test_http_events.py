"""Events of the HTTP API as they happen."""

import json
import socket
import threading
import time

import pytest

from api import Api
from coap import GET, TEXT
from gateway import accepts_tcp, free_tcp_port, wait_for
from test_http import Asking


@pytest.fixture(scope="session")
def address():
    return ("127.0.0.1", free_tcp_port())


@pytest.fixture
def bench(gateway, address):
    bench = gateway({"http.bind": "%s:%d" % address, "qmode_time_window": "1s"})
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    return bench


@pytest.fixture
def api(bench, address):
    return Api(address)


class Listening(threading.Thread):
    """Reads events until it is closed."""

    def __init__(self, api, query=""):
        super().__init__(daemon=True)
        self.events = []
        self.connection = api.connection()
        self.connection.request("GET", f"/v1/events{query}")
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        assert self.answer.headers["Content-Type"] == "text/event-stream"
        self.start()

    def run(self):
        fields = {}
        try:
            for line in self.answer:
                line = line.decode().rstrip("\n")
                if not line:
                    if "data" in fields:
                        fields["data"] = json.loads(fields["data"])
                        self.events.append(fields)
                    fields = {}
                else:
                    name, _, value = line.partition(": ")
                    fields[name] = value
        except (OSError, ValueError, AttributeError):
            pass

    def of(self, kind):
        return [it["data"] for it in list(self.events) if it["event"] == kind]

    def expect(self, kind, check=lambda data: True):
        return wait_for(lambda: [it for it in self.of(kind) if check(it)], 10, kind)[0]

    def close(self):
        self.connection.sock and self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.join(5)


@pytest.fixture
def listen(api):
    started = []

    def start(query=""):
        started.append(Listening(api, query))
        return started[-1]

    yield start
    for listening in started:
        listening.close()


def test_a_life_is_told(bench, api, listen):
    name = f"life-{time.monotonic_ns()}"
    events = listen(f"?endpoint={name}")
    device = bench.registered(endpoint=name, extra=["Q"])
    registered = events.expect("registered")
    assert registered["endpoint"] == name and registered["at"] > 1e12
    assert registered["device"]["endpoint"] == name
    assert registered["device"]["state"] == "online"
    events.expect("awake")
    body = {"reqID": 4, "msgType": "observe", "data": {"path": "/3/0/9"}}
    asking = Asking(lambda: api.command(name, body))
    request = device.expect(GET)
    device.reply(request, "2.05", "1", TEXT, observe=1)
    answer = asking.result()
    assert events.expect("answer")["message"] == answer
    device.notify(request, 2, "2", TEXT)
    assert events.expect("notify")["message"]["data"]["content"][0]["value"] == 2
    events.expect("asleep")
    device.update(["lt=400"])
    assert events.expect("updated")["device"]["lifetime"] == 400
    wait_for(lambda: len(events.of("awake")) == 2, 10, "awake again")
    device.deregister()
    assert events.expect("gone")["reason"] == "deregistered"
    assert {it["data"]["endpoint"] for it in events.events} == {name}
    ids = [int(it["id"]) for it in events.events]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)


def test_only_what_is_wanted(bench, listen):
    name = f"kind-{time.monotonic_ns()}"
    events = listen(f"?endpoint={name}&kinds=gone,updated")
    device = bench.registered(endpoint=name)
    device.update(["lt=500"])
    events.expect("updated")
    device.deregister()
    events.expect("gone")
    assert [it["event"] for it in events.events] == ["updated", "gone"]


def test_a_trace_has_both_directions(bench, api, listen):
    device = bench.registered(endpoint=f"trace-{time.monotonic_ns()}")
    trace = listen(f"?endpoint={device.endpoint}&kinds=coap")
    other = bench.registered()
    bench.read(device, "/3/0/0", "2.05", "Acme", TEXT)
    bench.read(other, "/3/0/0", "2.05", "x", TEXT)
    came = trace.expect("coap", lambda it: it["direction"] == "in" and it["code"] == "2.05")
    went = trace.expect("coap", lambda it: it["direction"] == "out" and it["code"] == "0.01")
    assert went["path"] == "/3/0/0" and went["token"] == came["token"] != ""
    assert ["Uri-Path", "3"] in went["options"]
    assert bytes.fromhex(came["payload_hex"]) == b"Acme" and came["payload_bytes"] == 4
    assert {it["endpoint"] for it in trace.of("coap")} == {device.endpoint}
    for query in ("kinds=coap", "kinds=coap&endpoint=trace*", "kinds=news"):
        assert api.json("GET", f"/v1/events?{query}", status=400)["error"] == "bad_query"


def test_who_does_not_read_loses_events_and_stops_nobody(bench, api):
    """Its connection is full; the device gets its answers all the while."""
    device = bench.registered(endpoint=f"slow-{time.monotonic_ns()}")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(api.address)
    query = f"/v1/events?endpoint={device.endpoint}&kinds=notify"
    sock.sendall(f"GET {query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert sock.recv(64).startswith(b"HTTP/1.1 200")
    body = {"reqID": 4, "msgType": "observe", "data": {"path": "/3/0/0"}}
    asking = Asking(lambda: api.command(device.endpoint, body))
    request = device.expect(GET)
    device.reply(request, "2.05", "1", TEXT, observe=1)
    asking.result()
    before = len(bench.app.messages)
    count = 6000
    for number in range(2, count):
        device.notify(request, number, "x" * 1000, TEXT)
        if number % 50 == 0:
            time.sleep(0.01)


    def caught_up():
        """The application of the test, which has to look at each message."""
        seen = len(bench.app.messages)
        time.sleep(0.5)
        return len(bench.app.messages) == seen

    wait_for(caught_up, 60, "an end of the notifications")
    bench.read(device, "/3/0/1", "2.05", "still there", TEXT)
    new = [m for m in bench.app.messages[before:] if m.json.get("msgType") == "notify"]
    assert len(new) > count / 2
    sock.settimeout(5)
    text = b""
    while b"event: lost" not in text:
        piece = sock.recv(1 << 16)
        assert piece, "it ended"
        text += piece
    sock.close()
