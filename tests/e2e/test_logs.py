"""What the program writes: a log that nobody reads, that nobody fills and nobody forges; and the
secrets that it must not show."""

import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import time
import unicodedata

import pytest

from application import Application
from coap import LINK, POST, TEXT, code
from conftest import Bench
from device import Device
from gateway import (
    DEFAULTS,
    Process,
    Standalone,
    accepts_tcp,
    answers_ping,
    binary,
    free_tcp_port,
    free_udp_port,
    wait_for,
)

pytestmark = pytest.mark.standalone_only

KEY = "000102030405060708090a0b0c0d0e0f"

# Nothing of this may be raw in a line.
HOSTILE = "a\nb\x1b[31mc\u2028d\u202ee\u2066f\u200fg\u061ch\u200bi\ufeffj\x7fk"


def hidden(text):
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")]


class Unread:
    """The program with its standard error in a pipe that nobody reads."""

    def __init__(self, *arguments):
        self.udp, self.mqtt = ("127.0.0.1", free_udp_port()), ("127.0.0.1", free_tcp_port())
        command = [binary(), "run", "--udp", "%s:%d" % self.udp, "--mqtt", "%s:%d" % self.mqtt]
        for key, value in DEFAULTS.items():
            command += ["--set", f"{key}={value}"]
        self.process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE)
        wait_for(lambda: answers_ping(self.udp) and accepts_tcp(self.mqtt), 20, "start")

    def flood(self, lines):
        """Datagrams that are a line each at DEBUG; paced, so that the kernel keeps most of them."""
        with socket_to(self.udp) as sock:
            for number in range(lines):
                sock.send(b"\xff" * 8)
                if number % 100 == 99:
                    time.sleep(0.002)

    def read(self, until, timeout):
        """Reads until the pattern `until` is there."""
        text, end = b"", time.monotonic() + timeout
        pipe = self.process.stderr.fileno()
        while not re.search(until, text):
            left = end - time.monotonic()
            assert left > 0 and select.select([pipe], [], [], left)[0], f"no {until}"
            text += os.read(pipe, 1 << 16)
        return text.decode()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


def socket_to(address):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    return sock


@pytest.fixture
def unread():
    started = []

    def start(*arguments):
        started.append(Unread(*arguments))
        return started[-1]

    yield start
    for gateway in started:
        gateway.kill()


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


def test_c10_a_log_that_nobody_reads_stops_nothing(unread):
    gateway = unread("--log", "debug")
    # The pipe holds 64 kB and the queue 1 MB; a line has about 100 bytes.
    gateway.flood(60_000)
    application = Application(gateway.mqtt)
    bench = Bench(gateway, application)
    device = bench.registered()
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"
    gateway.flood(2_000)
    assert bench.read(device, "/3/0/0", "2.05", "y", TEXT).data["code"] == "2.05"
    application.close()
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(15) == 0


def test_c10_what_was_dropped_is_told_when_somebody_reads_again(unread):
    gateway = unread("--log", "debug")
    gateway.flood(60_000)
    text = gateway.read(rb"log lines dropped.* dropped=\d+\n", 20)
    dropped = int(re.search(r"log lines dropped.* dropped=(\d+)", text)[1])
    assert dropped > 1000, dropped
    # Whole lines, each with its time.
    lines = text.split("\n")[:-1]
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in lines), lines[:3]
    gateway.process.send_signal(signal.SIGUSR1)
    text = gateway.read(rb'"log_lines_dropped":\d+,', 20)
    assert int(re.search(r'"log_lines_dropped":(\d+)', text)[1]) >= dropped
    gateway.process.send_signal(signal.SIGTERM)
    gateway.read(b"stopped", 20)
    assert gateway.process.wait(15) == 0


def test_c10_a_reader_that_has_gone_stops_nothing(unread):
    gateway = unread("--log", "debug")
    gateway.process.stderr.close()
    gateway.flood(2_000)
    wait_for(lambda: answers_ping(gateway.udp), 10, "an answer")
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(15) == 0
    gateway.process.stderr = open(os.devnull)


def test_c11_unknown_identities_are_one_line_an_interval(start, tmp_path):
    file = tmp_path / "psk"
    file.write_text(f"known:{KEY}\n")
    file.chmod(0o600)
    port = free_udp_port()
    bench = start(
        {
            "listeners.dtls.default.bind": f'"127.0.0.1:{port}"',
            "listeners.dtls.default.psk_file": f'"{file}"',
            "log.interval": '"1h"',
        }
    )
    done = subprocess.run(
        [
            *(binary(), "simulate", "--server", f"coaps://127.0.0.1:{port}", "--devices", "40"),
            *("--psk-key", KEY, "--duration", "3"),
        ],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode != 0
    statistics = bench.gateway.statistics()
    assert statistics["dtls_unknown_identities"] >= 40
    log = bench.gateway.log()
    assert log.count("unknown identity") == 1, log
    assert log.count("handshake failed") <= 1 and log.count("handshake timed out") <= 1, log


def test_c11_failed_logins_and_junk_do_not_fill_the_log(programs):
    gateway = Standalone(arguments=["--set", "mqtt.username=me", "--set", "mqtt.password=geheim"])
    programs.append(gateway)
    for number in range(5):
        assert not logs_in(gateway.mqtt, "me", f"guess {number}")
    for _ in range(100):
        with socket.create_connection(gateway.mqtt, 5) as sock:
            sock.sendall(b"\xffno MQTT at all\n")
    time.sleep(0.5)
    lines = gateway.log().splitlines()
    assert len(lines) < 20, lines
    assert logs_in(gateway.mqtt, "me", "geheim")


@pytest.mark.parametrize("form", ["text", "json"])
def test_c15_texts_of_devices_are_escaped(start, form):
    bench = start({"mountpoint": '"all/"'}, ["--log", "debug", "--log", form])
    device = Device(bench.gateway)
    query = [f"ep={HOSTILE}-{form}", "lt=300", "lwm2m=1.1"]
    answer = device.request(POST, "/rd", query, "</3/0>", LINK)
    assert answer.code == code("2.01"), answer
    # One whose version is as hostile.
    device.request(POST, "/rd", ["ep=y", f"lwm2m={HOSTILE}"], "</3/0>", LINK)
    bench.app.publish("all/dn/dm", json.dumps({"reqID": 1, "msgType": HOSTILE, "data": {}}))
    time.sleep(0.5)
    lines = bench.gateway.log().split("\n")
    for line in lines:
        assert not hidden(line), line
        if form == "json" and line:
            json.loads(line)
        else:
            assert not line or re.match(r"\d{4}-\d\d-\d\dT", line), line
    assert any(r"\n" in line and "registered" in line for line in lines)


def test_c15_psk_list_shows_no_raw_text(tmp_path):
    file = tmp_path / "psk"
    file.write_text(f"a\u202eb\u200bc:{KEY}:x\u202ey\nd\x1b[31m:{KEY}\n")
    file.chmod(0o600)
    done = subprocess.run(
        [binary(), "psk", "list", "--file", file], capture_output=True, text=True, timeout=20
    )
    for line in (done.stdout + done.stderr).split("\n"):
        assert not hidden(line.replace("\t", "")), line
    assert r"\u{202e}" in done.stdout


# Secrets


def ended(*arguments, env=None):
    """Output and code of a run that does not start."""
    udp, mqtt = free_udp_port(), free_tcp_port()
    done = subprocess.run(
        [binary(), "run", "--udp", f"127.0.0.1:{udp}", *map(str, arguments)]
        + ([] if "--broker" in arguments else ["--mqtt", f"127.0.0.1:{mqtt}"]),
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, **(env or {})},
    )
    return done.stdout + done.stderr, done.returncode


SECRETS = {
    "mqtt.password": '[mqtt]\nusername = "u"\npassword = "geheim"\n',
    "mqtt.broker": '[mqtt]\nbroker = "mqtt://u:geheim@127.0.0.1:1"\n',
    "listeners.dtls.a.psk": f'[listeners.dtls.a]\nbind = "127.0.0.1:0"\npsk = {{ sn = "{KEY}" }}\n',
}


@pytest.mark.parametrize("key", SECRETS)
def test_a_configuration_with_secrets_that_everybody_can_read_is_refused(programs, tmp_path, key):
    file = tmp_path / "gateway.toml"
    file.write_text(SECRETS[key])
    file.chmod(0o644)
    done = subprocess.run([binary(), "check-config", file], capture_output=True, text=True, timeout=20)
    for output, code in (ended("--config", file), (done.stdout + done.stderr, done.returncode)):
        assert code == 1, output
        for part in (key, str(file), "(mode 0644)", f"chmod 640 {file}"):
            assert part in output, output
        assert "geheim" not in output and KEY not in output
    for mode, allow in ((0o640, ()), (0o644, ("--set", "world_readable_keys=allow"))):
        file.chmod(mode)
        if key != "mqtt.broker":
            programs.append(Standalone(arguments=["--config", str(file), *allow]))
        elif not allow:
            done = subprocess.run([binary(), "check-config", file], capture_output=True, timeout=20)
            assert done.returncode == 0


def test_a_configuration_without_secrets_may_be_read_by_everybody(start, tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text('[mqtt]\nbroker = "mqtt://u@127.0.0.1:1"\n')
    file.chmod(0o644)
    done = subprocess.run([binary(), "check-config", file], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_psk_file_that_everybody_can_read_is_refused(start, tmp_path):
    file = tmp_path / "psk"
    file.write_text(f"sn:{KEY}\n")
    file.chmod(0o604)
    arguments = ["--dtls", f"127.0.0.1:{free_udp_port()}", "--psk-file", str(file)]
    output, code = ended(*arguments)
    assert code == 1 and f"chmod 640 {file}" in output and "(mode 0604)" in output, output
    bench = start(arguments=[*arguments, "--set", "world_readable_keys=allow"])
    assert "(mode 0604)" in bench.gateway.log(), "a warning"


def test_a_psk_file_that_is_opened_to_everybody_is_not_taken_up(start, tmp_path):
    file = tmp_path / "psk"
    file.write_text(f"sn:{KEY}\n")
    file.chmod(0o600)
    arguments = ["--dtls", f"127.0.0.1:{free_udp_port()}", "--psk-file", str(file)]
    bench = start(arguments=arguments)
    file.chmod(0o644)
    wait_for(lambda: f"chmod 640 {file}" in bench.gateway.log(), 10, "the complaint")
    assert "the previous keys stay in use" in bench.gateway.log()
    file.chmod(0o600)
    wait_for(lambda: "PSK file reloaded" in bench.gateway.log(), 10, "the file")


def logs_in(address, user, password):
    """The code of the answer to an MQTT 3.1.1 CONNECT."""
    fields = [b"\x00\x04MQTT\x04\xc2\x00\x3c"]
    for text in ("", user, password):
        fields.append(len(text).to_bytes(2, "big") + text.encode())
    body = b"".join(fields)
    with socket.create_connection(address, 5) as sock:
        sock.sendall(b"\x10" + bytes([len(body)]) + body)
        answer = sock.recv(4)
    return answer == b"\x20\x02\x00\x00"


def test_the_password_comes_from_a_file_or_the_environment(programs, tmp_path):
    file = tmp_path / "password"
    file.write_text("from a file\n")
    file.chmod(0o600)
    for arguments, env, password in (
        (["--set", f"mqtt.password_file={file}"], {}, "from a file"),
        ([], {"LWM2M_GATEWAY_MQTT_PASSWORD": "from outside"}, "from outside"),
        (
            ["--set", f"mqtt.password_file={file}"],
            {"LWM2M_GATEWAY_MQTT_PASSWORD": "from outside"},
            "from a file",
        ),
    ):
        udp, mqtt = ("127.0.0.1", free_udp_port()), ("127.0.0.1", free_tcp_port())
        command = [binary(), "run", "--udp", "%s:%d" % udp, "--mqtt", "%s:%d" % mqtt]
        command += ["--set", "mqtt.username=me", *arguments]
        gateway = Process(command, env={**os.environ, **env})
        programs.append(gateway)
        gateway.wait_ready(lambda: accepts_tcp(mqtt))
        assert logs_in(mqtt, "me", password), gateway.log()
        assert not logs_in(mqtt, "me", "another")
        assert password not in gateway.log()
        gateway.stop()


def test_mistakes_with_passwords(tmp_path):
    file = tmp_path / "password"
    with_file = ["--set", "mqtt.username=me", "--set", f"mqtt.password_file={file}"]
    assert f"mqtt.password_file: {file}: No such file" in ended(*with_file)[0]
    file.write_text("geheim\n")
    file.chmod(0o644)
    output, code = ended(*with_file)
    assert code == 1 and f"chmod 640 {file}" in output and "geheim" not in output, output
    file.chmod(0o600)
    output, _ = ended(*with_file, "--set", "mqtt.password=x")
    assert "mqtt.password_file: mqtt.password is set too" in output, output
    output, _ = ended("--set", f"mqtt.password_file={file}")
    assert "mqtt.password_file: needs mqtt.username" in output, output
    file.write_text("two\nlines\n")
    assert "has more than one line" in ended(*with_file)[0]
    file.write_text("")
    assert "is empty" in ended(*with_file)[0]
    output, code = ended(env={"LWM2M_GATEWAY_MQTT_PASSWORD": "geheim"})
    assert code == 1 and "LWM2M_GATEWAY_MQTT_PASSWORD: needs mqtt.username" in output, output
    assert "geheim" not in output


def test_no_core_dumps_unless_they_are_wanted(start):
    def limit(bench):
        limits = pathlib.Path(f"/proc/{bench.gateway.pid}/limits").read_text()
        return re.search(r"Max core file size +(\S+) +(\S+)", limits).groups()

    assert limit(start()) == ("0", "0")
    own = re.search(
        r"Max core file size +(\S+) +(\S+)", pathlib.Path("/proc/self/limits").read_text()
    ).groups()
    assert limit(start(arguments=["--core-dumps"])) == own
