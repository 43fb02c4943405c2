"""The program around the gateway: configuration, signals, ports, and a broker of somebody else."""

import json
import re
import signal
import socket
import subprocess
import time

import pytest

from application import Application
from brokers import Mosquitto
from coap import GET, TEXT, URI_PATH
from conftest import Bench, needs
from device import Device
from gateway import Process, Standalone, accepts_tcp, binary, free_tcp_port, free_udp_port, wait_for

pytestmark = pytest.mark.standalone_only


def run(*arguments, timeout=20):
    return subprocess.run(
        [binary(), *map(str, arguments)], capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture
def start(programs):
    """Starts a gateway for one test; returns its bench."""
    applications = []

    def start(settings=None, broker=None, arguments=()):
        gateway = Standalone(settings, broker, arguments)
        programs.append(gateway)
        application = Application(gateway.mqtt)
        applications.append(application)
        return Bench(gateway, application)

    yield start
    for application in applications:
        application.close()


def test_help_and_version():
    done = run("--help")
    assert done.returncode == 0
    for command in ("run", "check-config", "simulate"):
        assert command in done.stdout
    assert re.search(r"\d+\.\d+\.\d+", run("--version").stdout)


def test_objects_with_names_types_and_units(tmp_path):
    listed = run("objects").stdout
    assert re.search(r"^ 3303 +1\.1 +\d+ resources +Temperature$", listed, re.MULTILINE)
    shown = run("objects", 3303, 10242).stdout
    assert re.search(r"^ +5700 +R--- +Float +Sensor Value$", shown, re.MULTILINE)
    assert re.search(r"^ +4 +R--- +Float +Tension R \(V\)$", shown, re.MULTILINE), shown
    assert len(run("objects", "--no-oma-registry").stdout.splitlines()) == 8
    (tmp_path / "3303.xml").write_text(
        "<LWM2M><Object><Name>Tank</Name><ObjectID>3303</ObjectID><Resources/></Object></LWM2M>"
    )
    own = run("objects", "--xml-dir", tmp_path, 3303)
    assert own.stdout.split() == ["3303", "1.0", "0", "resources", "Tank"]
    unknown = run("objects", 9999)
    assert unknown.returncode == 1 and "no definition of object 9999" in unknown.stderr


def test_check_config_names_every_error(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(
        'lifetime_min = "soon"\nmountpont = "x"\n'
        '[coap]\nnstart = 0\n[translators.response]\nqos = 7\n'
        '[listeners.udp.default]\nbind = "nowhere"\n'
    )
    done = run("check-config", file)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    for key in (
        "lifetime_min",
        "mountpont",
        "coap.nstart",
        "translators.response.qos",
        "listeners.udp.default.bind",
    ):
        assert key in output, output
    assert "mountpoint" in output, "the nearest known key is named"


def test_check_config_of_broken_toml(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text("a = [1,\nb")
    done = run("check-config", file)
    assert done.returncode != 0 and "line" in done.stdout + done.stderr


def test_check_config_accepts_what_is_right(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(
        'lifetime_min = "1s"\nlifetime_max = "1d"\nqmode_time_window = "22s"\n'
        'mountpoint = "lwm2m/${endpoint_name}/"\n'
        '[translators]\ncommand = { topic = "dn/#", qos = 0 }\n'
        '[listeners.udp.default]\nbind = "127.0.0.1:5683"\n'
    )
    done = run("check-config", file)
    assert done.returncode == 0, done.stdout + done.stderr


SEND_AND_SERIES = """
format = "senml-cbor"
[translators.send]
topic = "up/send"
qos = 1
[translators.series]
enable = true
topic = "up/series"
qos = 2
[series]
boolean = "text"
paths = ["/3303", "/3/0/9", "/dev0/3303/0/5700"]
[series.mapping]
"/3303/0/5700" = "temperature"
[listeners.udp.default]
bind = "127.0.0.1:5683"
format = 11542
"""


def test_check_config_of_send_and_series(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(SEND_AND_SERIES)
    done = run("check-config", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "right, wrong, key",
    [
        ('format = "senml-cbor"', 'format = "xml"', "format"),
        ('topic = "up/send"', 'topic = "up/#"', "translators.send.topic"),
        ("qos = 1", "qos = 3", "translators.send.qos"),
        ("enable = true", 'enable = "maybe"', "translators.series.enable"),
        ('topic = "up/series"', 'topic = "up/+"', "translators.series.topic"),
        ("qos = 2", "qos = -1", "translators.series.qos"),
        ('boolean = "text"', 'boolean = "yes"', "series.boolean"),
        ('"/3303", ', '"/3303/x", ', "series.paths"),
        ('"/3303/0/5700" =', '"/3303/0" =', "series.mapping"),
        ('= "temperature"', "= 7", "series.mapping"),
        ("boolean", "bolean", "series.bolean"),
        ("format = 11542", 'format = "TLV?"', "listeners.udp.default.format"),
    ],
)
def test_check_config_of_what_is_wrong_there(tmp_path, right, wrong, key):
    file = tmp_path / "gateway.toml"
    assert SEND_AND_SERIES.count(right) >= 1
    file.write_text(SEND_AND_SERIES.replace(right, wrong, 1))
    done = run("check-config", file)
    output = done.stdout + done.stderr
    assert done.returncode != 0 and key in output, output


def test_check_config_of_a_missing_file(tmp_path):
    done = run("check-config", tmp_path / "none.toml")
    assert done.returncode != 0 and "none.toml" in done.stdout + done.stderr


def test_run_refuses_a_bad_setting():
    done = run("run", "--udp", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--set", "coap.nstart=many")
    assert done.returncode != 0 and "coap.nstart" in done.stdout + done.stderr


def test_sigterm_and_sigint_end_with_0(start):
    for number in (signal.SIGTERM, signal.SIGINT):
        bench = start()
        bench.registered()
        assert bench.gateway.stop(number, timeout=5) == 0


def test_json_log(start):
    bench = start(arguments=["--log", "json"])
    bench.registered()
    bench.gateway.stop()
    lines = [line for line in bench.gateway.log().splitlines() if line.strip()]
    assert lines and all(isinstance(json.loads(line), dict) for line in lines)


def test_log_level(start):
    quiet, loud = start(arguments=["--log", "error"]), start(arguments=["--log", "debug"])
    quiet.registered()
    loud.registered()
    quiet.gateway.stop()
    loud.gateway.stop()
    assert len(quiet.gateway.log()) < len(loud.gateway.log())


def test_udp_port_in_use():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        done = run("run", "--udp", address, "--mqtt", f"127.0.0.1:{free_tcp_port()}")
    assert done.returncode != 0 and address in done.stdout + done.stderr


def test_a_second_gateway_on_the_same_udp_port(start):
    bench = start()
    address = "%s:%d" % bench.gateway.udp
    done = run("run", "--udp", address, "--mqtt", f"127.0.0.1:{free_tcp_port()}")
    assert done.returncode != 0 and address in done.stdout + done.stderr


def test_mqtt_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        done = run("run", "--udp", f"127.0.0.1:{free_udp_port()}", "--mqtt", address)
    assert done.returncode != 0 and address in done.stdout + done.stderr


DEFINITION = """<?xml version="1.0" encoding="UTF-8"?>
<LWM2M><Object ObjectType="MODefinition"><Name>Test</Name><ObjectID>33333</ObjectID>
<ObjectURN>urn:oma:lwm2m:x:33333</ObjectURN><MultipleInstances>Multiple</MultipleInstances>
<Mandatory>Optional</Mandatory><Resources><Item ID="1"><Name>Number</Name>
<Operations>RW</Operations><MultipleInstances>Single</MultipleInstances>
<Mandatory>Optional</Mandatory><Type>%s</Type></Item></Resources></Object></LWM2M>
"""


def test_sighup_reads_definitions_again(start, tmp_path):
    (tmp_path / "33333.xml").write_text(DEFINITION % "String")
    (tmp_path / "broken.xml").write_text("<LWM2M><Object>")
    bench = start(arguments=["--xml-dir", str(tmp_path)])
    device = bench.registered("</3/0>,</33333/0>")

    def value():
        result = bench.read(device, "/33333/0/1", "2.05", "42", TEXT)
        return result.data["content"][0]["value"]

    assert value() == "42"
    assert "broken.xml" in bench.gateway.log()
    (tmp_path / "33333.xml").write_text(DEFINITION % "Integer")
    bench.gateway.send_signal(signal.SIGHUP)
    wait_for(lambda: value() == 42, 5, "the new definition")
    device.update()


def test_sighup_reads_the_configuration_again(start, tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text("publish_deregister = false\n")
    bench = start(arguments=["--config", str(file)])
    device = bench.registered()
    file.write_text("publish_deregister = 7\n")
    bench.gateway.send_signal(signal.SIGHUP)
    wait_for(lambda: "publish_deregister" in bench.gateway.log(), 5, "the complaint")
    device.update()
    file.write_text("publish_deregister = true\n")
    bench.gateway.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    device.deregister()
    bench.app.wait(lambda m: m.type == "deregister")


def test_flags_override_the_file(start, tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(
        'mountpoint = "file/${endpoint_name}/"\n[listeners.udp.default]\nbind = "127.0.0.1:1"\n'
        '[mqtt]\nbind = "127.0.0.1:1"\n'
    )
    bench = start({"mountpoint": '"lwm2m/set/${endpoint_name}/"'}, arguments=["--config", file])
    device = bench.registered()
    assert bench.app.report(device.endpoint).topic.startswith("lwm2m/set/")


def test_ipv6(programs):
    udp, mqtt = free_udp_port(), free_tcp_port()
    gateway = Process(
        [binary(), "run", "--udp", f"[::1]:{udp}", "--mqtt", f"127.0.0.1:{mqtt}"]
    )
    programs.append(gateway)
    gateway.wait_ready(lambda: accepts_tcp(("127.0.0.1", mqtt)))
    gateway.udp, gateway.mqtt = ("::1", udp), ("127.0.0.1", mqtt)
    application = Application(gateway.mqtt)
    bench = Bench(gateway, application)
    device = bench.registered()
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"
    application.close()


# A broker of somebody else: Debian's mosquitto


@pytest.fixture
def mosquitto(tmp_path, programs):
    broker = Mosquitto(tmp_path, programs)
    broker.start()
    return broker


QOS_1 = {
    f"translators.{name}.qos": "1" for name in ("command", "response", "notify", "register", "update")
}


@needs("mosquitto")
def test_with_another_broker(start, mosquitto):
    bench = start(broker=mosquitto.address)
    device = bench.registered()
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["content"][0]["value"] == "x"
    result = bench.app.result(bench.app.command("nobody", "read", {"path": "/3/0/0"}))
    assert result.data["reason"] == "not_registered"


@needs("mosquitto")
def test_no_qos_1_message_is_lost_while_the_broker_is_away(start, mosquitto):
    reader = Application(mosquitto.address, client_id="reader", clean=False)
    bench = start(QOS_1, broker=mosquitto.address)
    device = bench.registered()
    request_id = bench.app.command(device.endpoint, "observe", {"path": "/3/0/9"})
    request = device.expect(GET)
    device.reply(request, "2.05", "0", TEXT, observe=1)
    bench.app.result(request_id)
    for number in range(2, 302):
        if number == 50:
            mosquitto.stop()
        if number == 250:
            mosquitto.start()
        device.notify(request, number, str(number))
        time.sleep(0.01)

    def seen():
        return {
            m.json["seqNum"]
            for m in reader.all(lambda m: m.type == "notify" and m.json["reqID"] == request_id)
        }

    wait_for(lambda: len(seen()) == 300, 20, "all notifications")
    # And commands come through again.
    wait_for(bench.app.client.is_connected, 10, "the application is back")
    device.update()
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"
    reader.close()


@needs("mosquitto")
def test_start_before_the_broker(programs, tmp_path):
    broker = Mosquitto(tmp_path, programs)
    gateway = Standalone(QOS_1, broker=broker.address)
    programs.append(gateway)
    device = Device(gateway)
    device.register()
    broker.start()
    application = Application(broker.address)
    device.register()
    wait_for(lambda: application.reports(device.endpoint), 15, "the report")
    bench = Bench(gateway, application)
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"
    assert device.location and URI_PATH
    application.close()
    device.close()


@needs("mosquitto")
def test_commands_sent_while_the_gateway_is_away_arrive(programs, start, mosquitto):
    """QoS 1 commands of a broker that keeps the gateway's session."""
    bench = start(QOS_1, broker=mosquitto.address)
    device = bench.registered()
    assert bench.gateway.stop() == 0
    application = Application(mosquitto.address)
    request_id = application.command(device.endpoint, "read", {"path": "/3/0/0"})
    bench = start(QOS_1, broker=mosquitto.address)
    # The device is unknown to the new process: that is what the application hears, at most.
    answers = application.results(request_id)
    assert all(m.data["reason"] == "not_registered" for m in answers)
    application.close()
