"""The gateway as a plugin of Mosquitto: what this host does by itself."""

import json
import re
import signal
import subprocess
import threading
import time

import pytest

from application import Application
from coap import GET, TEXT
from conftest import Bench, needs
from patience import patient
from gateway import Mosquitto, Process, free_tcp_port, mosquitto, mosquitto_conf, wait_for

pytestmark = [pytest.mark.mosquitto_only, needs("mosquitto")]


@pytest.fixture
def start(programs):
    """Starts a broker for one test; returns its bench."""
    applications = []

    def start(settings=None, lines=(), username=None, **kwargs):
        gateway = Mosquitto(settings, lines, **kwargs)
        programs.append(gateway)
        application = Application(gateway.mqtt, username=username)
        applications.append(application)
        return Bench(gateway, application)

    yield start
    for application in applications:
        application.close()


def works(bench, device):
    assert bench.read(device, "/3/0/0", "2.05", "ACME", TEXT).data["content"][0]["value"] == "ACME"


def shows(bench, text, timeout=5):
    wait_for(lambda: text in bench.gateway.log(), timeout, text)


def version():
    done = subprocess.run([mosquitto(), "-h"], capture_output=True, text=True)
    return tuple(map(int, re.search(r"version (\d+)\.(\d+)\.(\d+)", done.stdout).groups()))


def test_b14_answers_go_to_the_response_topic_with_the_correlation_data(start):
    bench = start()
    app = Application(bench.gateway.mqtt, filters=("lwm2m/#", "answers/#"))
    device = bench.registered()
    asked = {"path": "/3/0/0"}
    request_id = app.command(device.endpoint, "read", asked, reply=("answers/7", b"\0c7"))
    device.reply(device.expect(GET), "2.05", "x", TEXT)
    copy = app.wait(lambda m: m.topic == "answers/7")
    own = app.result(request_id, kind="read")
    assert own.topic == f"lwm2m/{device.endpoint}/up/resp" and own.correlation is None
    assert (copy.json, copy.correlation) == (own.json, b"\0c7")
    # Neither a command, nor in the name of a device, nor the broker's own.
    for topic in (f"lwm2m/{device.endpoint}/dn/x", "lwm2m/other/up/resp", "$SYS/x", "$share/a/b"):
        request_id = app.command(device.endpoint, "read", asked, reply=(topic, b"1"))
        device.reply(device.expect(GET), "2.05", "y", TEXT)
        assert app.result(request_id, kind="read").data["content"][0]["value"] == "y"
    app.close()
    assert bench.gateway.statistics()["replies_refused"] == 4
    assert not [m for m in bench.app.messages if m.topic == "lwm2m/other/up/resp"]


# Waking the broker


@pytest.mark.parametrize(
    "wanted, used",
    [("auto", "signal"), ("eventfd", "eventfd"), ("signal", "signal"), ("tick", "tick")],
)
def test_ways_to_wake_the_broker(start, wanted, used):
    bench = start({"wakeup": wanted})
    shows(bench, f"lwm2m: ready wakeup={used}")
    device = bench.registered()
    for _ in range(20):
        works(bench, device)
    assert bench.gateway.stop() == 0
    assert "lwm2m: stopped" in bench.gateway.log()


@pytest.mark.skipif("version() >= (2, 0, 15)", reason="this broker ticks with these settings too")
def test_a_broker_without_ticks_is_told_apart(start, programs):
    gateway = Mosquitto(lines=["per_listener_settings true"])
    programs.append(gateway)
    wait_for(lambda: "per_listener_settings" in gateway.log(), 5, "the complaint")
    before = gateway.log().count("set per_listener_settings to false")
    application = Application(gateway.mqtt)
    application.publish("anything", "x")
    complaints = lambda: gateway.log().count("set per_listener_settings to false")  # noqa: E731
    wait_for(lambda: complaints() > before, 5, "the complaint in the broker's own log")
    application.close()
    assert gateway.stop() == 0


SLOW_PLUGIN = """
#include <unistd.h>
int mosquitto_plugin_version(int count, const int *versions) { return count && versions ? 5 : -1; }
int mosquitto_plugin_init(void *id, void **data, void *options, int count)
{
    sleep(id && data && (options || !count) ? 3 : 0);
    return 0;
}
int mosquitto_plugin_cleanup(void *data, void *options, int count)
{
    return !data || options ? 0 : count;
}
"""


@needs("cc")
def test_a_broker_whose_first_tick_is_late(start, tmp_path):
    """Other plugins, or addresses of bridges to look up, may take their time."""
    (tmp_path / "slow.c").write_text(SLOW_PLUGIN)
    slow = tmp_path / "slow.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", slow, tmp_path / "slow.c"], check=True)
    bench = start(after=[f"plugin {slow}"])
    shows(bench, "first tick event of the broker has arrived late")
    works(bench, bench.registered())
    shows(bench, "lwm2m: ready wakeup=")
    complaint = "set per_listener_settings to false"
    assert bench.gateway.log().count(complaint) == 1, "none in the broker's own log"


# Messages


def test_subscribers_get_commands_as_well(start):
    bench = start()
    device = bench.registered()
    listener = Application(bench.gateway.mqtt, filters=("lwm2m/+/dn/#",))
    heard = []
    listener.client.on_message = lambda _, __, message: heard.append(message.payload)
    works(bench, device)
    wait_for(lambda: heard, 5, "the command")
    assert json.loads(heard[0])["msgType"] == "read"
    listener.close()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_commands_of_any_qos_once(start, qos):
    bench = start()
    device = bench.registered()
    command = {"reqID": 7, "msgType": "read", "data": {"path": "/3/0/0"}}
    bench.app.publish(f"lwm2m/{device.endpoint}/dn", command, qos=qos)
    device.reply(device.expect(GET), "2.05", "x", TEXT)
    assert bench.app.result(7).data["code"] == "2.05"
    device.silence(0.5)


def test_the_packet_of_a_command_is_left_alone_unless_asked_for(start):
    """Where a command expires by its MQTT property, the plugin reads the broker's memory."""
    for setting, expires in ("ignore", False), ("packet", True):
        bench = start({"message_expiry": setting, "qmode_time_window": "1s"})
        device = bench.registered(extra=["Q"])
        time.sleep(1.3)
        request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"}, expiry=1)
        time.sleep(1.7)
        device.update()
        if expires:
            assert bench.app.result(request_id).data["reason"] == "expired"
        else:
            device.reply(device.expect(GET, "/3/0/0"), "2.05", "x", TEXT)
            assert bench.app.result(request_id).data["code"] == "2.05"


@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff\xfe", b"{\"reqID\":", b"x" * 1_500_000])
def test_payloads_that_are_no_command(start, payload):
    bench = start()
    device = bench.registered()
    bench.app.publish(f"lwm2m/{device.endpoint}/dn", payload)
    answer = bench.app.wait(lambda m: m.type != "register" and m.data.get("code") == "4.00")
    assert answer.data["reason"] in ("malformed_json", "too_large")
    works(bench, device)


@pytest.mark.parametrize("protocol", [["-V", "mqttv311"], ["-V", "mqttv5"]])
@needs("mosquitto_pub")
def test_mosquitto_pub_and_sub(start, protocol):
    bench = start()
    device = bench.registered()
    port = str(bench.gateway.mqtt[1])
    topic = f"lwm2m/{device.endpoint}"
    subscriber = subprocess.Popen(
        [
            *("mosquitto_sub", "-p", port, *protocol, "-i", "subscriber"),
            *("-t", f"{topic}/up/#", "-C", "1", "-W", "10"),
        ],
        stdout=subprocess.PIPE,
    )
    shows(bench, "Sending SUBACK to subscriber")
    command = json.dumps({"reqID": 5, "msgType": "read", "data": {"path": "/3/0/1"}})
    published = subprocess.run(
        ["mosquitto_pub", "-p", port, *protocol, "-t", f"{topic}/dn", "-m", command, "-q", "1"]
    )
    assert published.returncode == 0
    device.reply(device.expect(GET, "/3/0/1"), "2.05", "M", TEXT)
    output, _ = subscriber.communicate(timeout=15)
    assert json.loads(output)["data"]["content"] == [{"path": "/3/0/1", "value": "M"}]


def test_every_notification_arrives(start):
    bench = start()
    device = bench.registered()
    bench.app.command(device.endpoint, "observe", {"path": "/3/0/9"})
    observation = device.expect(GET)
    device.reply(observation, "2.05", "0", TEXT, observe=0)
    for number in range(1, 2001):
        device.notify(observation, number, str(number))
        if number % 100 == 0:  # within the kernel's buffers
            sent = number
            wait_for(lambda: len(notifications(bench)) == sent, 10, f"{sent} notifications")
    values = [message.data["content"][0]["value"] for message in notifications(bench)]
    assert values == list(range(1, 2001)), "all of them, in order"


def notifications(bench):
    return bench.app.all(lambda m: m.type == "notify")


def test_counters_under_sys(start):
    bench = start({"sys_interval": "1s"})
    received = {}
    reader = Application(bench.gateway.mqtt, filters=("$SYS/broker/lwm2m/#",))
    reader.client.on_message = lambda _, __, m: received.update({m.topic: int(m.payload)})
    bench.registered()
    wait_for(lambda: received.get("$SYS/broker/lwm2m/registered") == 1, 5, "the counter")
    assert received["$SYS/broker/lwm2m/registrations"] == 1
    late = {}
    latecomer = Application(bench.gateway.mqtt, filters=("$SYS/broker/lwm2m/registered",))
    latecomer.client.on_message = lambda _, __, m: late.update({m.topic: (m.payload, m.retain)})
    latecomer.client.unsubscribe("$SYS/broker/lwm2m/registered")
    latecomer.client.subscribe("$SYS/broker/lwm2m/registered")
    wait_for(lambda: late, 5, "the retained counter")
    assert late["$SYS/broker/lwm2m/registered"] == (b"1", True)
    reader.close()
    latecomer.close()


def test_no_counters_when_they_are_off(start):
    bench = start({"sys_interval": "0"})
    reader = Application(bench.gateway.mqtt, filters=("$SYS/broker/lwm2m/#",))
    heard = []
    reader.client.on_message = lambda _, __, message: heard.append(message.topic)
    bench.registered()
    time.sleep(1.5)
    assert not heard
    reader.close()


# The broker's access control


ACL = """
user operator
topic write lwm2m/+/dn/#
topic read lwm2m/#

user viewer
topic read lwm2m/#

user deaf
topic write lwm2m/+/dn/#
"""


@pytest.fixture
def guarded(start, tmp_path):
    (tmp_path / "acl").write_text(ACL)
    (tmp_path / "acl").chmod(0o600)
    return start(lines=[f"acl_file {tmp_path}/acl"], username="operator")


def test_who_may_not_write_cannot_command(guarded):
    device = guarded.registered()
    viewer = Application(guarded.gateway.mqtt, username="viewer")
    viewer.command(device.endpoint, "read", {"path": "/3/0/0"})
    device.silence(1)
    works(guarded, device)
    answers = [m for m in viewer.messages if m.type == "read"]
    wait_for(lambda: [m for m in viewer.messages if m.type == "read"], 5, f"{answers}")
    viewer.close()


def test_who_may_not_read_gets_no_answers(guarded):
    device = guarded.registered()
    deaf = Application(guarded.gateway.mqtt, username="deaf")
    request_id = deaf.command(device.endpoint, "read", {"path": "/3/0/0"})
    device.reply(device.expect(GET), "2.05", "x", TEXT)
    assert guarded.app.result(request_id).data["code"] == "2.05"
    time.sleep(0.5)
    assert not deaf.messages
    deaf.close()


def test_strangers_may_nothing(guarded):
    device = guarded.registered()
    stranger = Application(guarded.gateway.mqtt)
    stranger.command(device.endpoint, "read", {"path": "/3/0/0"})
    device.silence(1)
    assert not stranger.messages
    stranger.close()


# Configuration


EMQX = """
[gateway.lwm2m]
mountpoint = "devices/${endpoint_name}/"
lifetime_min = "1s"
[gateway.lwm2m.translators.register]
topic = "up/hello"
"""


def test_a_file_and_options_that_win_over_it(start, tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(EMQX)
    bench = start({"config": file, "mountpoint": "lwm2m/set/${endpoint_name}/"})
    device = bench.registered()
    assert bench.app.report(device.endpoint).topic == f"lwm2m/set/{device.endpoint}/up/hello"


def test_settings_of_another_host_are_warned_of(start):
    bench = start({"mqtt.client_id": "x", "log.format": "json", "log.level": "debug"})
    log = bench.gateway.log()
    assert "mqtt.* has no effect" in log and "log.format has no effect" in log
    bench.registered()


def test_reload(start, tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text("publish_deregister = false\n")
    bench = start({"config": file})
    device = bench.registered()

    file.write_text("publish_deregister = 7\nmountpont = \"x\"\n")
    bench.gateway.send_signal(signal.SIGHUP)
    shows(bench, f"{file}: publish_deregister: ")
    shows(bench, "did you mean mountpoint?")
    works(bench, device)

    file.unlink()
    bench.gateway.send_signal(signal.SIGHUP)
    shows(bench, "No such file")
    works(bench, device)

    file.write_text("publish_deregister = true\n")
    bench.gateway.send_signal(signal.SIGHUP)
    shows(bench, "configuration reloaded")
    works(bench, device)
    device.deregister()
    bench.app.wait(lambda m: m.type == "deregister")
    assert bench.gateway.stop() == 0


# The end, and the time after it


def test_stop_with_work_under_way(start):
    bench = start()
    devices = [bench.registered() for _ in range(20)]
    for device in devices:
        for _ in range(5):
            bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    assert bench.gateway.stop(timeout=5) == 0
    assert "panicked" not in bench.gateway.log()


class Traffic:
    """Devices that register, update and answer by themselves, and an application that asks."""

    def __init__(self, bench, count):
        self.devices = [bench.device() for _ in range(count)]
        self.answered = 0
        self.application = bench.app
        self.ended = threading.Event()
        self.threads = [
            *(threading.Thread(target=self.serve, args=(device,)) for device in self.devices),
            threading.Thread(target=self.ask),
        ]
        for thread in self.threads:
            thread.start()

    def serve(self, device):
        while not self.ended.is_set():
            try:
                if device.location is None:
                    device.register(timeout=0.5)
                request = device.expect(GET, timeout=0.3)
                device.reply(request, "2.05", "x", TEXT)
            except (AssertionError, OSError):
                try:  # nothing to do: a sign of life
                    device.update(timeout=0.5)
                except (AssertionError, OSError) as error:
                    if "4.04" in str(error):  # the gateway does not know this device any more
                        device.location = None

    def ask(self):
        while not self.ended.is_set():
            for device in self.devices:
                command = {"reqID": 9, "msgType": "read", "data": {"path": "/3/0/0"}}
                self.application.client.publish(
                    f"lwm2m/{device.endpoint}/dn", json.dumps(command), 0
                )
            time.sleep(0.02)

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def goes_on(self, application):
        """Every device answers from now on."""
        start = len(application.messages)

        def answering():
            found = application.messages[start:]
            topics = {m.topic for m in found if m.type == "read" and m.data["code"] == "2.05"}
            return len(topics) == len(self.devices)

        wait_for(answering, 15, "answers of all devices")


def test_killed_and_restarted_under_traffic(start, programs):
    bench = start()
    traffic = Traffic(bench, 10)
    try:
        traffic.goes_on(bench.app)
        for _ in range(3):
            bench.gateway.stop(signal.SIGKILL)
            bench.gateway = Mosquitto(again=bench.gateway)
            programs.append(bench.gateway)
            traffic.goes_on(bench.app)
    finally:
        traffic.end()
    assert bench.gateway.stop() == 0


def test_an_update_after_a_restart_is_refused_and_a_register_taken(start, programs):
    bench = start()
    device = bench.registered()
    assert bench.gateway.stop() == 0
    bench.gateway = Mosquitto(again=bench.gateway)
    programs.append(bench.gateway)
    shows(bench, "Sending SUBACK")  # the application is back
    device.update(expect="4.04")
    device.register()
    bench.app.report(device.endpoint, after=1)
    works(bench, device)


# Mistakes


MISTAKES = [
    # Options of the plugin
    ({"wakeup": "bell"}, "plugin_opt_wakeup: expected auto, eventfd, signal or tick"),
    ({"wakup": "auto"}, "plugin_opt_wakup: unknown key, did you mean plugin_opt_wakeup?"),
    ({"sys_interval": "often"}, "plugin_opt_sys_interval: expected a duration"),
    ({"sys_interval": "2d"}, "plugin_opt_sys_interval: 48h is out of range"),
    ({"message_expiry": "yes"}, "plugin_opt_message_expiry: expected ignore or packet"),
    ({"config": "/nowhere/gateway.toml"}, "plugin_opt_config: /nowhere/gateway.toml: No such file"),
    ({"config": "/"}, "plugin_opt_config: /: Is a directory"),
    ([("shards", "1"), ("shards", "2")], "plugin_opt_shards: is given twice"),
    # Keys of the configuration as options
    ({"mountpont": "x"}, "plugin_opt_mountpont: unknown key, did you mean mountpoint?"),
    ({"mountpoint": b"\xe9/".decode(errors="surrogateescape")}, "plugin_opt_mountpoint: is not valid"),
    ({"mountpoint": "lwm2m/+/"}, "plugin_opt_mountpoint: must not hold + or #"),
    ({"coap.nstart": "many"}, "plugin_opt_coap.nstart: expected "),
    ({"coap.nstart": "0"}, "plugin_opt_coap.nstart: 0 is out of range"),
    ({"coap.nstrat": "1"}, "plugin_opt_coap.nstrat: unknown key, did you mean coap.nstart?"),
    ({"coap": "fast"}, "plugin_opt_coap: expected a table"),
    ({"a..b": "1"}, "plugin_opt_a..b: is not a key path"),
    ({"lifetime_min": "soon"}, "plugin_opt_lifetime_min: expected a duration"),
    ({"lifetime_min": "2h", "lifetime_max": "1h"}, "plugin_opt_lifetime_min: is longer than"),
    ({"translators.notify.qos": "3"}, "plugin_opt_translators.notify.qos: 3 is out of range"),
    ({"translators.command.topic": "#/dn"}, "plugin_opt_translators.command.topic: is not a valid MQTT"),
    ({"translators.notify.topic": "dn/x"}, "translators.command.topic: matches a topic that"),
    ({"listeners.udp.default.bind": "nowhere"}, "plugin_opt_listeners.udp.default.bind: "),
    ({"listeners.udp.default.enable": "false"}, "no listener is enabled"),
    ({"listeners.tcp.default.bind": "5683"}, "plugin_opt_listeners.tcp.default.bind: unknown key"),
    ({"blockwise.max_block_size": "1000"}, "plugin_opt_blockwise.max_block_size: expected 16, 32"),
    ({"auto_observe": "[\"/3/x\"]"}, "plugin_opt_auto_observe: \"/3/x\" is not a path"),
    ({"xml_dir": "/nowhere"}, "plugin_opt_xml_dir /nowhere: No such file"),
    ({"listeners.dtls.default.psk_file": "/nowhere"}, "listeners.dtls.default.psk_file"),
    # The file
    ("a = [1,\nb", "line 2"),
    ("[coap]\nnstart = 0\n", "coap.nstart: 0 is out of range"),
    ("lifetime_min = \"soon\"\n", "lifetime_min: expected a duration"),
    ("[gateway.mqttsn]\nenable = true\n", "gateway.mqttsn: unknown gateway"),
    (b"mountpoint = \"\xff\"\n", "stream did not contain valid UTF-8"),
]


def refused(folder, options, lines=()):
    """The log of a broker that does not start."""
    conf = folder / "mosquitto.conf"
    text = mosquitto_conf(("127.0.0.1", free_tcp_port()), options, lines)
    conf.write_text(text, errors="surrogateescape")
    done = subprocess.run([mosquitto(), "-c", conf], capture_output=True, text=True, timeout=10)
    assert done.returncode != 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("given, expected", MISTAKES)
def test_mistakes_stop_the_start_and_are_named(tmp_path, given, expected):
    options = [("listeners.udp.default.bind", "127.0.0.1:0")]
    if isinstance(given, (str, bytes)):
        file = tmp_path / "gateway.toml"
        file.write_bytes(given.encode() if isinstance(given, str) else given)
        expected = f"{file}: {expected}"
        options.append(("config", file))
    elif isinstance(given, dict):
        options = list({**dict(options), **given}.items())
    else:
        options += given
    log = refused(tmp_path, options)
    assert expected in log
    assert "the gateway cannot start" in log
    assert "panicked" not in log


def test_all_mistakes_at_once(tmp_path):
    log = refused(tmp_path, [("wakeup", "x"), ("shards", "x"), ("mountpont", "x")])
    for option in ("wakeup", "shards", "mountpont"):
        assert f"lwm2m: plugin_opt_{option}: " in log
    assert "3 mistakes" in log


def test_an_address_in_use(start, tmp_path):
    address = "%s:%d" % start().gateway.udp
    log = refused(tmp_path, [("listeners.udp.default.bind", address)])
    assert f"plugin_opt_listeners.udp.default.bind {address}: Address already in use" in log


@pytest.mark.skipif("version() >= (2, 1)", reason="this broker runs two gateways")
def test_loaded_twice(tmp_path):
    again = mosquitto_conf(("127.0.0.1", 1), [("listeners.udp.default.bind", "127.0.0.1:0")])
    again = [line for line in again.splitlines() if line.startswith("plugin")]
    log = refused(tmp_path, [("listeners.udp.default.bind", "127.0.0.1:0")], again)
    assert "the plugin is already loaded" in log


def test_a_killed_broker_loses_no_device_and_no_command(programs, tmp_path):
    settings = {"store.path": str(tmp_path / "store"), "qmode_time_window": "1s"}
    gateway = Mosquitto(settings)
    programs.append(gateway)
    app = Application(gateway.mqtt)
    bench = Bench(gateway, app)
    device = bench.registered(extra=["b=U", "Q"])
    observe = app.command(device.endpoint, "observe", {"path": "/3303/0/5700"})
    observation = device.expect(GET)
    device.reply(observation, "2.05", "20", TEXT, observe=1)
    app.result(observe)
    time.sleep(1.2)
    read = app.command(device.endpoint, "read", {"path": "/3/0/0"})
    # The gateway has it, however busy the broker is.
    assert app.result(app.command(device.endpoint, "list-queue")).data["content"]
    app.close()
    time.sleep(patient(1))  # much longer than `store.sync`
    gateway.process.kill()
    gateway.process.wait(15)
    gateway = Mosquitto(settings, again=gateway)
    programs.append(gateway)
    app = Application(gateway.mqtt)
    device.notify(observation, 2, "21", TEXT)
    app.wait(lambda m: m.type == "notify" and m.json["reqID"] == observe)
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "x", TEXT)
    assert app.result(read).data["content"][0]["value"] == "x"
    device.update()
    app.close()
    device.close()
