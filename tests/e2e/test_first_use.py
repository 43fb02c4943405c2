"""What a first user met, with the id of each case."""

import json
import os
import pathlib
import pty
import re
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest

from application import Application
from coap import LINK, POST, PUT, TEXT, code
from conftest import Bench
from device import Device
from gateway import Process, Standalone, accepts_tcp, binary, free_tcp_port, free_udp_port, wait_for

pytestmark = pytest.mark.standalone_only


def run(*arguments, timeout=20, **kwargs):
    done = subprocess.run(
        [binary(), *map(str, arguments)], capture_output=True, text=True, timeout=timeout, **kwargs
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def start(programs):
    """Starts a gateway for one test; returns its bench."""
    applications = []

    def start(settings=None, arguments=()):
        gateway = Standalone(settings, None, arguments)
        programs.append(gateway)
        applications.append(Application(gateway.mqtt))
        return Bench(gateway, applications[-1])

    yield start
    for application in applications:
        application.close()


@pytest.fixture
def taken():
    """An MQTT port that somebody has."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", free_tcp_port()))
        sock.listen()
        yield sock.getsockname()[1]


def test_d1_run_names_the_options(taken):
    status, output = run("run", "--udp", f"127.0.0.1:{free_udp_port()}", "--mqtt", taken)
    assert status == 1, output
    assert f"cannot listen on 127.0.0.1:{taken}" in output
    assert f"--broker mqtt://127.0.0.1:{taken}" in output and "--mqtt PORT" in output


def test_d1_d5_the_demo_takes_a_free_port_on_loopback(programs):
    """Beside whatever has the usual ports on this machine."""
    held = []
    for kind, port in ((socket.SOCK_STREAM, 1883), (socket.SOCK_DGRAM, 5683)):
        sock = socket.socket(socket.AF_INET, kind)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            sock.close()  # somebody else's then
            continue
        if kind == socket.SOCK_STREAM:
            sock.listen()
        held.append(sock)
    program = Process([binary(), "demo"], stdin=subprocess.DEVNULL)
    programs.append(program)
    wait_for(lambda: '"value":"Example Devices"' in program.log(), 15, "a value")
    log = program.log()
    assert "MQTT port 1883 is in use" in log and "UDP port 5683 is in use" in log, log
    for name in ("udp", "mqtt"):
        address, port = re.search(rf"listening {name}=([\d.]+):(\d+)", log).groups()
        assert address == "127.0.0.1" and port not in ("1883", "5683", "0")
    bound = pathlib.Path("/proc/net/udp").read_text()
    assert f"0100007F:{int(re.search(r'udp=[0-9.]+:([0-9]+)', log)[1]):04X}" in bound
    assert program.stop() == 0
    for sock in held:
        sock.close()


def test_d2_single_messages(start):
    bench = start(arguments=["--log", "debug"])
    device = bench.registered()
    bench.read(device, "/3/0/0", "2.05", "secret words", TEXT)
    device.request(POST, "/rd", ["ep=x", "lwm2m=7"], "</3/0>", LINK)
    bench.app.command("nobody-at-all", "read", {"path": "/3/0/0"})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(bytes([22, 0xFE, 0xFF]) + bytes(40), bench.gateway.udp)
    wait_for(lambda: "DTLS record received on a port without DTLS" in bench.gateway.log(), 5, "DTLS is named")
    log = bench.gateway.log()
    for line in (
        r"CoAP message received .*kind=\"CON\" code=0.02 .*path=\"/rd\" size=\d+",
        r"CoAP message sent .*kind=\"CON\" code=0.01 .*path=\"/3/0/0\" size=\d+",
        r"CoAP message received .*code=2.05 mid=\d+ size=\d+",
        r"DEBUG command endpoint=",
        r"message for the broker .*kind=Response",
        r"registration refused",
        r"command for a device that is not registered endpoint=nobody-at-all",
    ):
        assert re.search(line, log), line
    assert "secret words" not in log


def test_d2_a_failed_login(programs):
    gateway = Standalone(
        arguments=["--log", "debug", "--set", "mqtt.username=me", "--set", "mqtt.password=geheim"]
    )
    programs.append(gateway)
    run_client("mosquitto_sub", gateway, "-u", "me", "-P", "wrong", "-t", "x", "-W", "5")
    wait_for(lambda: "MQTT login failed" in gateway.log(), 5, "the line")
    assert "wrong" not in gateway.log() and gateway.statistics()["mqtt_logins_failed"] == 1


def run_client(program, gateway, *arguments, timeout=20):
    host, port = gateway.mqtt
    return subprocess.run(
        [program, "-h", host, "-p", str(port), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


EMQX = """
gateway.lwm2m {
  # as in EMQX
  lifetime_min = 1s
  lifetime_max = 86400s
  qmode_time_window = 22s
  auto_observe = false
  mountpoint = "lwm2m/${endpoint_name}/"
  update_msg_publish_condition = contains_object_list
  translators {
    command { topic = "dn/#", qos = 0 }
    response { topic = "up/hocon", qos = 0 }
  }
  listeners.udp.default { bind = "127.0.0.1:%d", acceptors = 16 }
}
"""


def test_d3_a_section_of_emqx_is_pasted(programs, tmp_path):
    file = tmp_path / "emqx.hocon"
    udp = ("127.0.0.1", free_udp_port())
    file.write_text(EMQX % udp[1])
    status, output = run("check-config", file)
    assert status == 0, output
    mqtt = ("127.0.0.1", free_tcp_port())
    gateway = Process([binary(), "run", "--config", file, "--mqtt", "%s:%d" % mqtt])
    programs.append(gateway)
    gateway.wait_ready(lambda: accepts_tcp(mqtt))
    gateway.udp, gateway.mqtt = udp, mqtt
    application = Application(mqtt)
    device = Device(gateway)
    device.register("</3/0>")
    request_id = application.command(device.endpoint, "read", {"path": "/3/0/0"})
    device.reply(device.expect(1, "/3/0/0"), "2.05", "x", TEXT)
    assert application.result(request_id).topic.endswith("up/hocon")
    application.close()
    file.write_text(EMQX % udp[1] + "\nx = ${y}\n")
    status, output = run("check-config", file)
    assert status == 1 and f"{file}: line 17: x: substitutions are not supported" in output, output


def test_d4_a_user_without_a_password():
    status, output = run("run", "--set", "mqtt.username=me")
    assert status == 1 and "mqtt.username: needs mqtt.password" in output, output


def test_d5_everybody_may_command(programs):
    mqtt = free_tcp_port()
    gateway = Process([binary(), "run", "--udp", f"127.0.0.1:{free_udp_port()}", "--mqtt", f":{mqtt}"])
    programs.append(gateway)
    gateway.wait_ready(lambda: accepts_tcp(("127.0.0.1", mqtt)))
    wait_for(lambda: "anyone on the network can send commands to all devices" in gateway.log(), 5, "a warning")


def states(bench, endpoint):
    """What was told, without what the broker has sent again (QoS 1)."""
    told = [m for m in bench.app.messages if m.type == "state" and m.data["ep"] == endpoint]
    return [m for number, m in enumerate(told) if number == 0 or m.data != told[number - 1].data]


def retained(bench, topic):
    done = run_client("mosquitto_sub", bench.gateway, "-t", topic, "-C", "1", "-W", "5", "--retained-only")
    return json.loads(done.stdout) if done.stdout else None


def test_d6_a_device_comes_and_goes(start):
    bench = start()
    device = bench.registered()
    topic = f"lwm2m/{device.endpoint}/state"
    wait_for(lambda: retained(bench, topic), 5, "a retained message")
    data = retained(bench, topic)["data"]
    assert data["state"] == "online" and data["ep"] == device.endpoint and data["lt"] > 0
    assert abs(data["since"] / 1000 - time.time()) < 60
    device.update()
    device.deregister()
    wait_for(lambda: retained(bench, topic)["data"]["state"] == "offline", 5, "offline")
    assert [m.data["state"] for m in states(bench, device.endpoint)] == ["online", "offline"]
    assert all(m.topic == topic for m in states(bench, device.endpoint))


def test_d6_a_device_sleeps_and_expires(start):
    bench = start({"qmode_time_window": '"1s"'})
    device = bench.device()
    device.register("</3/0>", lt=4, lwm2m="1.0", extra=["b=UQ"])
    wait_for(lambda: len(states(bench, device.endpoint)) >= 3, 15, "three states")
    told = [m.data["state"] for m in states(bench, device.endpoint)]
    assert told == ["online", "asleep", "offline"]


def test_d6_can_be_turned_off(start):
    bench = start({"translators.state.enable": "false"})
    device = bench.registered()
    device.deregister()
    time.sleep(0.5)
    assert states(bench, device.endpoint) == []


def test_d7_simulate_says_what_is_wrong(tmp_path):
    status, output = run("simulate", "--server", f"coap://127.0.0.1:{free_udp_port()}", "--duration", 1)
    assert status == 1 and "nothing listens there" in output, output


def test_d7_simulate_raises_the_limit_of_files(bench):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (20, hard))
    server = "coap://%s:%d" % bench.gateway.udp
    arguments = ("--endpoint-prefix", "limit-", "--devices", 50, "--duration", 5)
    status, output = run("simulate", "--server", server, *arguments, preexec_fn=few)
    assert status == 0 and "registered 50 of 50" in output, output


def test_d7_simulate_takes_the_good_lines(tmp_path):
    file = tmp_path / "psk"
    file.write_text("bad line\nsim-0:00112233445566778899aabbccddeeff\n")
    server = f"coaps://127.0.0.1:{free_udp_port()}"
    status, output = run("simulate", "--server", server, "--psk-file", file, "--duration", 1)
    assert f"warning: --psk-file: {file}: line 1: " in output, output
    assert "registered 0 of 1" in output, "it runs"


def test_d8_mistakes_have_their_place(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text('a = 1\nlifetime_min = "soon"\n[mqtt]\nport = 1883\n[listeners.tcp.x]\nbind = 1\n')
    status, output = run("check-config", file)
    assert status == 1
    assert f"{file}:2: lifetime_min: " in output, output
    assert f"{file}:4: mqtt.port: unknown key: the port is part of mqtt.bind" in output
    assert re.search(rf"{file}:\d: listeners.tcp: unknown key: .*mqtt.bind", output), output
    file.with_suffix(".json").write_text('{\n "coap": {\n  "nstart": 0 }}')
    status, output = run("check-config", file.with_suffix(".json"))
    assert f"{file.with_suffix('.json')}:3: coap.nstart" in output, output


def test_d8_a_missing_directory_and_a_broken_definition(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text('\nxml_dir = "/nowhere/at/all"\n')
    status, output = run("check-config", file)
    assert status == 0 and f"warning: {file}:2: xml_dir: /nowhere/at/all" in output, output
    (tmp_path / "1.xml").write_text("<LWM2M><Object>")
    status, output = run("objects", "--xml-dir", tmp_path)
    assert status == 1 and "1.xml" in output, output


def test_d9_what_the_broker_refuses(programs, tmp_path):
    users, rules = tmp_path / "passwd", tmp_path / "acl"
    subprocess.run(["mosquitto_passwd", "-b", "-c", users, "gateway", "word"], check=True)
    rules.write_text("user gateway\ntopic readwrite elsewhere/#\n")
    for file in (users, rules):
        file.chmod(0o600)
    broker = Standalone({"mqtt.users_file": f'"{users}"', "mqtt.acl_file": f'"{rules}"'})
    programs.append(broker)
    gateway = Standalone(
        {"mqtt.username": "gateway", "mqtt.password": "word", "translators.response.qos": 1,
         "translators.register.qos": 1},
        broker=broker.mqtt,
    )
    programs.append(gateway)
    wait_for(lambda: "refuses a subscription" in gateway.log(), 10, "the filter is named")
    device = Device(gateway, "d9")
    device.register()
    wait_for(lambda: "refuses a message" in gateway.log(), 10, "the topic is named")
    device.close()
    log = gateway.log()
    assert re.search(r"allow the gateway's user to subscribe to this filter there filter=lwm2m/\+/dn/#", log)
    assert re.search(r"allow the gateway's user to publish to this topic there topic=lwm2m/d9/state reason=NotAuthorized", log)
    counters = gateway.statistics()
    assert counters["subscriptions_refused"] >= 1 and counters["publish_refused"] >= 1


def test_d10_counters_are_fields(start):
    bench = start(arguments=["--log", "json"])
    bench.registered()
    bench.gateway.send_signal(signal.SIGUSR1)

    def counters():
        lines = [json.loads(line) for line in bench.gateway.log().splitlines() if line]
        return [line["counters"] for line in lines if "counters" in line]

    wait_for(counters, 5, "statistics")
    assert counters()[0]["registered"] >= 1


def test_d11_a_separator_that_no_endpoint_may_have(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(
        '[listeners.dtls.a]\nbind = "127.0.0.1:1"\nidentity_separator = "#"\nendpoint_rule = "equal"\n'
        'psk = { a = "00112233445566778899aabbccddeeff" }\n'
    )
    file.chmod(0o600)
    status, output = run("check-config", file)
    assert "identity_separator" in output and "owned" in output, output


def test_d13_no_password_on_the_command_line():
    _, output = run("run", "--help")
    assert "LWM2M_GATEWAY_MQTT_PASSWORD" in output and "mqtt.password_file" in output


def test_d14_the_line_can_be_edited(programs):
    keyboard, terminal = pty.openpty()
    mqtt = free_tcp_port()
    command = [binary(), "demo", "--udp", f"127.0.0.1:{free_udp_port()}", "--mqtt", mqtt]
    process = subprocess.Popen(
        [str(part) for part in command], stdin=terminal, stdout=terminal, stderr=terminal,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": ""}, start_new_session=True,
    )
    os.close(terminal)
    seen = []

    def read():
        try:
            while chunk := os.read(keyboard, 4096):
                seen.append(chunk.decode(errors="replace"))
        except OSError:
            pass  # it has ended

    threading.Thread(target=read, daemon=True).start()

    def shows(text):
        wait_for(lambda: text in "".join(seen), 15, f"{text!r} in {''.join(seen)!r}")

    shows("The device has registered")
    # Left, left, backspace, the right letter, the end of the line.
    os.write(keyboard, b"read /3/0x0" + b"\x1b[D" + b"\x7f" + b"/" + b"\r")
    shows("/3/0/0 = Example Devices")
    shows("\x1b[32mread: 2.05")
    seen.clear()
    os.write(keyboard, b"\x1b[A\r")  # the line before
    shows("/3/0/0 = Example Devices")
    os.write(keyboard, b"attr /3/0/9 pmin=abc\r")
    shows("detail: pmin must be a whole number")
    os.write(keyboard, b"quit\r")
    assert process.wait(10) == 0
    os.close(keyboard)


def test_d15_when_it_came(start):
    bench = start({"received_at": "true"})
    device = bench.registered()
    result = bench.read(device, "/3/0/0", "2.05", "x", TEXT)
    for message in (bench.app.report(device.endpoint), result):
        assert abs(message.json["receivedAt"] / 1000 - time.time()) < 60, message
    assert "receivedAt" not in states(bench, device.endpoint)[0].json


def test_d15_is_off_by_default(start):
    bench = start()
    assert "receivedAt" not in bench.app.report(bench.registered().endpoint).json


def test_d16_what_a_device_reads(start):
    bench = start()
    device = bench.registered()
    answer = device.request(POST, "/dp", payload="x", content_format=TEXT)
    assert answer.code == code("4.15") and b"Some(" not in answer.payload, answer
    assert b"110" in answer.payload


def test_d16_attributes_are_checked(start):
    bench = start()
    device = bench.registered()
    for attributes in ({"pmin": "abc"}, {"pmax": -1}, {"gt": "warm"}, {"con": 2}):
        request_id = bench.app.command(device.endpoint, "write-attr", {"path": "/3/0/9", **attributes})
        data = bench.app.result(request_id).data
        assert (data["code"], data["reason"]) == ("4.00", "bad_attribute"), data
        assert next(iter(attributes)) in data["detail"]
    request_id = bench.app.command(device.endpoint, "write-attr", {"path": "/3/0/9", "pmin": 5})
    request = device.expect(PUT, "/3/0/9")
    assert request.query == ["pmin=5"], "nothing else went out"
    device.reply(request, "2.04")
