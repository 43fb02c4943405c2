"""`lwm2m-gateway simulate` against the gateway."""

import itertools
import re
import signal
import time

import pytest

from gateway import Process, binary, wait_for

_number = itertools.count()


@pytest.fixture
def simulate(bench, programs):
    def start(*arguments):
        prefix = f"simulated{next(_number)}-"
        command = [binary(), "simulate", "--server", "coap://%s:%d" % bench.gateway.udp]
        program = Process([*command, "--endpoint-prefix", prefix, *map(str, arguments)])
        programs.append(program)
        return prefix, program

    return start


def run(bench, endpoint, kind, **data):
    return bench.app.result(bench.app.command(endpoint, kind, data))


def test_one_device(bench, simulate):
    prefix, program = simulate("--objects", "3,6,3303", "--lifetime", 60)
    endpoint = prefix + "0"
    report = bench.app.report(endpoint)
    assert report.data["objectList"] == ["/3/0", "/6/0", "/3303/0"]
    assert report.data["lt"] == 60
    content = run(bench, endpoint, "read", path="/3/0").data["content"]
    values = {entry["path"]: entry["value"] for entry in content}
    assert values["/3/0/1"] == "Simulated sensor"
    assert values["/3/0/7/0"] == 3800 and values["/3/0/7/1"] == 5000
    assert 0 < values["/3/0/9"] <= 100
    content = run(bench, endpoint, "read", path="/6/0/0").data["content"]
    assert 52 < content[0]["value"] < 53
    links = run(bench, endpoint, "discover", path="/3303").data["content"]
    assert "</3303/0/5700>" in links
    result = run(bench, endpoint, "write", path="/3/0/15", type="String", value="Z" * 4000)
    assert result.data["code"] == "2.04"
    content = run(bench, endpoint, "read", path="/3/0/15").data["content"]
    assert content == [{"path": "/3/0/15", "value": "Z" * 4000}]
    assert run(bench, endpoint, "execute", path="/3/0/4").data["code"] == "2.04"
    bench.app.report(endpoint, after=1)
    assert program.stop(signal.SIGINT) == 0
    assert "registered 1 of 1" in program.log()


@pytest.mark.parametrize("arguments", [(), ("--con-notify",)])
def test_observation(bench, simulate, arguments):
    prefix, program = simulate("--objects", "3303", "--notify-every", "0.2", *arguments)
    endpoint = prefix + "0"
    bench.app.report(endpoint)
    request_id = bench.app.command(endpoint, "observe", {"path": "/3303/0"})

    def notifications():
        return [m for m in bench.app.results(request_id) if m.type == "notify"]

    wait_for(lambda: len(notifications()) >= 5, 10, "notifications")
    numbers = [m.json["seqNum"] for m in notifications()]
    assert numbers == list(range(1, len(numbers) + 1))
    run(bench, endpoint, "cancel-observe", path="/3303/0")
    time.sleep(0.3)
    count = len(notifications())
    time.sleep(0.6)
    assert len(notifications()) == count
    assert program.stop() == 0
    assert "errors 0" in program.log()


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_versions_and_updates(gateway, programs, version):
    bench = gateway({"update_msg_publish_condition": "always"})
    prefix = f"versions{next(_number)}-"
    program = Process(
        [
            *(binary(), "simulate", "--server", "coap://%s:%d" % bench.gateway.udp),
            *("--endpoint-prefix", prefix, "--version-lwm2m", version, "--lifetime", "2"),
        ]
    )
    programs.append(program)
    assert bench.app.report(prefix + "0").data["lwm2m"] == version
    bench.app.report(prefix + "0", "update", after=1)
    assert program.stop() == 0


def test_queue_mode(gateway, programs):
    bench = gateway({"qmode_time_window": "1s"})
    prefix = f"sleepy{next(_number)}-"
    program = Process(
        [
            *(binary(), "simulate", "--server", "coap://%s:%d" % bench.gateway.udp),
            *("--endpoint-prefix", prefix, "--queue-mode", "--awake", "1", "--lifetime", "5"),
        ]
    )
    programs.append(program)
    bench.app.report(prefix + "0")
    time.sleep(1.5)
    ids = [bench.app.command(prefix + "0", "read", {"path": f"/3/0/{n}"}) for n in (0, 1, 2)]
    results = [bench.app.result(request_id) for request_id in ids]
    assert all(result.data.get("code") == "2.05" for result in results)
    assert program.stop() == 0


def test_many_devices_are_observable(bench, simulate):
    count = 2000
    prefix, program = simulate(
        *("--devices", count, "--objects", "3303", "--notify-every", 5, "--lifetime", 300)
    )
    wait_for(lambda: f"registered {count} of {count}" in program.log(), 60, "registrations")
    wait_for(
        lambda: len(bench.app.all(lambda m: m.type == "register" and prefix in m.topic)) == count,
        20,
        "reports",
    )
    ids = {
        bench.app.command(f"{prefix}{n}", "observe", {"path": "/3303/0/5700"})
        for n in range(count)
    }

    def notified():
        return {
            m.json["reqID"]
            for m in bench.app.all(lambda m: m.type == "notify" and m.json.get("reqID") in ids)
        }

    wait_for(lambda: notified() == ids, 60, "a notification of each device")
    assert program.stop(timeout=30) == 0
    assert re.search(rf"registered {count} of {count} .* errors 0", program.log()), program.log()


def test_no_server(programs):
    done = Process(
        [binary(), "simulate", "--server", "coap://127.0.0.1:9", "--duration", "0.5"]
    )
    programs.append(done)
    assert done.process.wait(10) != 0
    assert "registered 0 of 1" in done.log()
