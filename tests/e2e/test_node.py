"""Devices made with the npm packages `lwm2m-node-lib` and `coap-node`."""

import itertools
import os
import pathlib

import pytest

from conftest import needs
from gateway import Process, wait_for

pytestmark = needs("node")

SCRIPTS = pathlib.Path(__file__).parent / "node"

_number = itertools.count()


@pytest.fixture
def node(bench, cache, programs):
    """Starts a script; returns the endpoint name and the process once it is registered."""

    def start(package):
        modules = cache / "node" / "node_modules"
        if not (modules / package).is_dir():
            pytest.skip(f"{package} was not fetched")
        endpoint = f"{package}-{next(_number)}"
        host, port = bench.gateway.udp
        program = Process(
            ["node", SCRIPTS / f"{package}.js", host, port, endpoint],
            env={**os.environ, "NODE_PATH": str(modules)},
        )
        programs.append(program)
        try:
            # Node takes its time to start.
            bench.app.report(endpoint, timeout=30)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{program.log()}") from None
        wait_for(lambda: "registered" in program.log(), 10, f"registration: {program.log()}")
        return endpoint, program

    return start


def run(bench, endpoint, kind, **data):
    request_id = bench.app.command(endpoint, kind, data)
    return bench.app.wait(
        lambda m: m.json.get("reqID") == request_id and m.type not in ("ack", "notify"),
        what=f"answer to {kind}",
    )


def notified(bench, observe, count):
    """The values of the first `count` notifications of an observe answer."""
    request_id = observe.json["reqID"]
    found = []

    def enough():
        found[:] = bench.app.all(
            lambda m: m.json.get("reqID") == request_id and m.type == "notify"
        )
        return len(found) >= count

    wait_for(enough, 10, "notifications")
    return [message.data["content"][0]["value"] for message in found]


def test_lwm2m_node_lib(bench, node):
    endpoint, program = node("lwm2m-node-lib")
    assert bench.app.report(endpoint).data["objectList"] == ["/3303/0"]
    result = run(bench, endpoint, "read", path="/3303/0/5750")
    assert result.data["content"][0]["value"] == "roof"
    assert run(bench, endpoint, "read", path="/3303/0/1").data["code"] == "4.04"
    links = run(bench, endpoint, "discover", path="/3303/0").data["content"]
    assert "</3303/0/5700>" in links
    observe = run(bench, endpoint, "observe", path="/3303/0/5700")
    assert observe.type == "observe"
    values = [float(value) for value in notified(bench, observe, 3)]
    assert values == sorted(values) and len(set(values)) >= 3
    result = run(bench, endpoint, "write", path="/3303/0/5750", type="String", value="cellar")
    assert result.data["code"] == "2.04"
    wait_for(lambda: b"cellar".hex() in program.log(), 5, "the write in the device")
    assert run(bench, endpoint, "execute", path="/3303/0/5605").data["code"] == "2.04"
    wait_for(lambda: "executed 3303/0/5605" in program.log(), 5, "the execution in the device")


def test_coap_node(bench, node):
    endpoint, program = node("coap-node")
    report = bench.app.report(endpoint)
    assert report.data["lwm2m"] == "1.0.0"
    assert {"/3303/0", "/3303/1"} <= set(report.data["objectList"])
    result = run(bench, endpoint, "read", path="/3303/1/5700")
    assert float(result.data["content"][0]["value"]) == 70
    result = run(bench, endpoint, "read", path="/3303/1")
    assert {"/3303/1/5700", "/3303/1/5701"} <= {e["path"] for e in result.data["content"]}
    assert run(bench, endpoint, "read", path="/3303/9").data["code"] == "4.04"
    observe = run(bench, endpoint, "observe", path="/3303/0/5700")
    assert observe.type == "observe"
    values = [float(value) for value in notified(bench, observe, 2)]
    assert values == sorted(values)
    result = run(bench, endpoint, "write", path="/3303/0/5750", type="String", value="cellar")
    assert result.data["code"] == "2.04"
    result = run(bench, endpoint, "read", path="/3303/0/5750")
    # coap-node 0.2.5 keeps a String written in TLV as its hexadecimal digits.
    assert result.data["content"][0]["value"] in ("cellar", b"cellar".hex())
    assert run(bench, endpoint, "execute", path="/3303/0/5605").data["code"] == "2.04"
