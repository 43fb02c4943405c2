"""The commands that ask a running gateway: devices, show, read, write, execute, queue."""

import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest

from coap import GET, OBSERVE, POST, PUT, TEXT
from gateway import accepts_tcp, binary, free_tcp_port, wait_for

pytestmark = pytest.mark.standalone_only

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    file = tmp_path_factory.mktemp("terminal") / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    address = "127.0.0.1:%d" % free_tcp_port()
    return {"http.bind": address, "http.token_file": str(file), "qmode_time_window": "1s"}


@pytest.fixture
def bench(gateway, settings):
    bench = gateway(settings)
    host, port = settings["http.bind"].split(":")
    wait_for(lambda: accepts_tcp((host, int(port))), 10, "the API")
    return bench


class Running(threading.Thread):
    """A command of the terminal under way."""

    def __init__(self, command, environment):
        super().__init__(daemon=True)
        self.command, self.environment, self.done = command, environment, None
        self.start()

    def run(self):
        self.done = subprocess.run(
            self.command, capture_output=True, text=True, timeout=30, env=self.environment
        )

    def result(self):
        self.join(40)
        return self.done


@pytest.fixture
def start(bench, settings):
    """Starts a command; by `token` what the environment has."""

    def start(command, *arguments, token=TOKEN, url=None):
        environment = {k: v for k, v in os.environ.items() if k != "LWM2M_GATEWAY_HTTP_TOKEN"}
        if token:
            environment["LWM2M_GATEWAY_HTTP_TOKEN"] = token
        url = url or "http://" + settings["http.bind"]
        return Running([binary(), command, "--url", url, *arguments], environment)

    return start


@pytest.fixture
def run(start):
    def run(*arguments, code=0, **kwargs):
        done = start(*arguments, **kwargs).result()
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done

    return run


def test_devices_as_a_table_and_as_json(bench, run):
    start = f"term{time.monotonic_ns()}"
    bench.registered(endpoint=f"{start}-a", objects="</1/0>,</3303/0>,</3303/1>")
    bench.registered(endpoint=f"{start}-b\u202e", objects="</3/0>")
    lines = run("devices", start).stdout.splitlines()
    assert lines[0].split()[:3] == ["ENDPOINT", "STATE", "ADDRESS"]
    assert [line.split()[0] for line in lines[1:]] == [f"{start}-a", rf"{start}-b\u{{202e}}"]
    assert "1,3303" in lines[1] and lines[1].index("online") == lines[2].index("online")
    found = [json.loads(line) for line in run("devices", f"{start}*", "--json").stdout.splitlines()]
    assert [it["endpoint"] for it in found] == [f"{start}-a", f"{start}-b\u202e"]
    only = run("devices", start, "--object", "/3303", "--json").stdout.splitlines()
    assert [json.loads(line)["endpoint"] for line in only] == [f"{start}-a"]
    limited = run("devices", start, "--limit", "1").stdout.splitlines()
    assert len(limited) == 3 and "--limit 0" in limited[2]
    assert "no registered device matches" in run("devices", "nobody of this name").stdout


def test_show(bench, run):
    device = bench.registered(lt=300)
    shown = run("show", device.endpoint).stdout
    for line in (f"endpoint      {device.endpoint}", "LwM2M         1.1", "/3/0"):
        assert line in shown
    assert json.loads(run("show", device.endpoint, "--json").stdout)["lifetime"] == 300


def test_read_write_execute(bench, start):
    device = bench.registered()
    asked = start("read", device.endpoint, "/3/0/0")
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "ACME", TEXT)
    assert asked.result().stdout == "ACME\n" and asked.done.returncode == 0
    asked = start("read", device.endpoint, "/3/0/0", "--json")
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "ACME", TEXT)
    assert json.loads(asked.result().stdout)["data"]["content"][0]["value"] == "ACME"
    asked = start("write", device.endpoint, "/3/0/14", "-02:00", "--format", "text")
    request = device.expect(PUT, "/3/0/14")
    assert request.payload == b"-02:00"
    device.reply(request, "2.04")
    assert asked.result().stdout == "2.04 changed\n" and asked.done.returncode == 0
    asked = start("execute", device.endpoint, "/3/0/4", "5='x'")
    request = device.expect(POST, "/3/0/4")
    assert request.payload == b"5='x'"
    device.reply(request, "4.05", "not now")
    done = asked.result()
    assert done.returncode == 6 and done.stdout == ""
    assert done.stderr == "error: 4.05 method not allowed: not now\n"


def test_a_command_that_waits(bench, run, start):
    device = bench.registered(lwm2m="1.1", extra=["Q"])
    shown = lambda: json.loads(run("show", device.endpoint, "--json").stdout)  # noqa: E731
    wait_for(lambda: shown()["state"] == "asleep", 10, "sleep")
    assert "queue" in run("read", device.endpoint, "/3/0/1", code=7).stderr
    lines = run("queue", device.endpoint).stdout.splitlines()
    assert lines[0].split()[:3] == ["REQID", "COMMAND", "PATH"] and "/3/0/1" in lines[1]
    number = lines[1].split()[0]
    assert run("queue", device.endpoint, "--cancel", number).stdout == "1 cancelled\n"
    assert run("queue", device.endpoint).stdout == "nothing waits\n"
    assert "nothing waits" not in run("queue", device.endpoint, "--json").stdout


def test_observe_shows_each_notification(bench, start):
    device = bench.registered()
    asked = start("observe", device.endpoint, "/3303/0/5700", "--count", "2")
    request = device.expect(GET, "/3303/0/5700")
    device.reply(request, "2.05", "20.5", TEXT, observe=1)
    device.notify(request, 2, "21")
    device.notify(request, 3, "22.5")
    done = asked.result()
    assert (done.returncode, done.stdout) == (0, "20.5\n21\n22.5\n"), done.stderr
    asked = start("observe", device.endpoint, "/3303/0/5700", "--cancel")
    request = device.expect(GET, "/3303/0/5700")
    assert request.uint(OBSERVE) == 1
    device.reply(request, "2.05", "20.5", TEXT)
    assert asked.result().returncode == 0


def until_it_ends(running, act):
    """Acts until the command has seen enough: when it began to listen cannot be told from here."""
    while running.is_alive():
        act()
        running.join(0.2)
    assert running.done.returncode == 0, running.done.stderr
    return running.done.stdout


def test_watch_and_trace(bench, start):
    device = bench.device()
    running = start("watch", device.endpoint, "--kinds", "registered", "--count", "1")
    shown = until_it_ends(running, device.register)
    assert re.search(rf"^[0-9:.]+Z +registered +{device.endpoint} +127\.0\.0\.1:\d+$", shown), shown
    running = start("watch", "--kinds", "updated,registered", "--count", "1", "--json")
    event = json.loads(until_it_ends(running, device.register))
    assert event["event"] == "registered" and event["device"]["endpoint"] == event["endpoint"]
    running = start("trace", device.endpoint, "--count", "2")
    lines = until_it_ends(running, device.update).splitlines()
    assert re.search(r"Z <- CON POST +mid=\d+ token=[0-9a-f]+ /rd/", lines[0]), lines
    assert re.search(r"Z -> ACK 2\.04 ", lines[1]), lines


def test_errors_say_what_to_do(bench, run, settings):
    device = bench.registered()
    nobody = f"http://127.0.0.1:{free_tcp_port()}"
    assert "--http or http.bind" in run("devices", code=3, url=nobody).stderr
    assert "requires a token" in run("devices", code=4, token=None).stderr
    assert "rejects this token" in run("devices", code=4, token="another-token").stderr
    file = settings["http.token_file"]
    assert run("show", device.endpoint, "--token-file", file, token=None).stdout
    near = device.endpoint[:-1] + "_"
    for command in (["show", near], ["read", near, "/3/0"], ["queue", near]):
        error = run(*command, code=5).stderr
        assert "did you mean" in error and device.endpoint[:-2] in error
    assert "missing_path" not in run("devices").stderr
    assert "bad_type" in run("write", device.endpoint, "/3/0/14", "x", "--type", "Nonsense", code=6).stderr
    assert "http://" in run("devices", code=1, url="127.0.0.1:1").stderr


def test_a_gateway_that_says_nothing_is_left(start):
    """One that takes connections only, and one that begins a stream and stops."""
    with socket.create_server(("127.0.0.1", free_tcp_port())) as mute, \
            socket.create_server(("127.0.0.1", free_tcp_port())) as begins:
        urls = ["http://127.0.0.1:%d" % server.getsockname()[1] for server in (mute, begins)]
        waiting = start("devices", url=urls[0])
        watching = start("watch", url=urls[1])
        stream, _ = begins.accept()
        stream.recv(4096)
        stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n:\n\n")
        for command in (waiting, watching):
            done = command.result()
            assert done.returncode == 3, done.stdout + done.stderr
        stream.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(shell):
    done = subprocess.run([binary(), "completions", shell], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    for word in ("devices", "observe", "check-config"):
        assert word in done.stdout
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0
