"""The embedded broker: retained messages, users, rules, with the programs of Mosquitto and paho."""

import shutil
import signal
import subprocess
import threading
import time

import paho.mqtt.client as mqtt
import pytest

from coap import POST
from device import Device
from gateway import Standalone, binary, wait_for
from test_store import Kept

pytestmark = [
    pytest.mark.standalone_only,
    pytest.mark.skipif(not shutil.which("mosquitto_pub"), reason="without mosquitto-clients"),
]


@pytest.fixture
def broker(programs):
    def start(**settings):
        named = {f"mqtt.{key}": value for key, value in settings.items()}
        gateway = Standalone(named)
        programs.append(gateway)
        return gateway

    return start


def sub(gateway, topic, *options, seconds=2, user=None):
    """What a subscriber gets within some seconds, as lines `topic payload`."""
    host, port = gateway.mqtt
    login = ["-u", user, "-P", f"{user}-word"] if user else []
    done = subprocess.run(
        ["mosquitto_sub", "-h", host, "-p", str(port), "-v", "-t", topic, "-W", str(seconds), *login, *options],
        capture_output=True, text=True, timeout=30,
    )
    return done.stdout.splitlines()


def pub(gateway, topic, payload, *options, user=None):
    host, port = gateway.mqtt
    login = ["-u", user, "-P", f"{user}-word"] if user else []
    return subprocess.run(
        ["mosquitto_pub", "-h", host, "-p", str(port), "-t", topic, *login, *options]
        + (["-m", payload] if payload is not None else ["-n"]),
        capture_output=True, text=True, timeout=30,
    )


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_retained_messages(broker, version):
    gateway = broker()
    for topic in ("a/b", "a/c", "d"):
        assert pub(gateway, topic, f"of {topic}", "-r", "-q", "1", "-V", version).returncode == 0
    assert sub(gateway, "a/+", "-V", version) == ["a/b of a/b", "a/c of a/c"]
    pub(gateway, "a/b", None, "-r", "-q", "1", "-V", version)
    assert sub(gateway, "#", "-V", version) == ["a/c of a/c", "d of d"]
    # Without the flag a message is not kept.
    pub(gateway, "e", "x", "-q", "1", "-V", version)
    assert sub(gateway, "e", "-V", version) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_retained_messages_outlive_the_process_with_a_store(tmp_path, programs, number):
    gateway = Kept(tmp_path / "store", {"mqtt.max_retained": "3"})
    programs.append(gateway)
    for topic in ("a", "b", "c", "d"):
        assert pub(gateway, topic, f"of {topic}", "-r", "-q", "1").returncode == 0
    pub(gateway, "a", "newer", "-r", "-q", "1")
    pub(gateway, "b", None, "-r", "-q", "1")
    pub(gateway, "e", "of e", "-r", "-q", "1", "-V", "mqttv5", "-D", "PUBLISH", "user-property", "k", "v")
    # Longer than changes are collected.
    time.sleep(0.6)
    gateway.restart(number)
    assert sub(gateway, "#") == ["a newer", "c of c", "e of e"]
    assert sub(gateway, "e", "-V", "mqttv5", "-F", "%p %P") == ["of e k:v"]
    # Not what was cleared after a restart, either.
    pub(gateway, "c", None, "-r", "-q", "1")
    time.sleep(0.6)
    gateway.restart(number)
    assert sub(gateway, "#") == ["a newer", "e of e"]


def test_without_a_store_retained_messages_end_with_the_process(broker):
    gateway = broker()
    pub(gateway, "a", "x", "-r", "-q", "1")
    assert sub(gateway, "a") == ["a x"]
    gateway.stop(signal.SIGKILL)
    assert sub(broker(), "a") == []


def test_a_retained_command_is_carried_out_once(broker):
    gateway = broker()
    pub(gateway, "lwm2m/nobody/dn", '{"reqID":1,"msgType":"read","data":{"path":"/3"}}', "-r", "-q", "1")
    assert sub(gateway, "lwm2m/nobody/dn") == []


def test_retained_messages_are_bounded(broker):
    gateway = broker(max_retained="100", max_retained_bytes='"64KB"')
    client = connected(gateway)
    for number in range(300):
        client.publish(f"many/{number}", "x", qos=1, retain=True)
    for number in range(50):
        client.publish(f"large/{number}", b"x" * 4000, qos=1, retain=True)
    client.publish("end", "x", qos=1).wait_for_publish(20)
    client.disconnect()
    assert len(sub(gateway, "#")) == 100
    assert gateway.statistics()["retained_refused"] == 250
    assert gateway.log().count("retained message delivered but not kept") == 1


def test_many_subscriptions_to_everything_that_is_retained(broker):
    """A flood of wildcards takes neither the memory nor the broker from others."""
    gateway = broker(max_queued_bytes='"16MB"')
    client = connected(gateway)
    for number in range(5000):
        client.publish(f"many/{number}", b"x" * 1000, qos=1, retain=True)
    client.publish("end", "x", qos=1).wait_for_publish(60)
    before = gateway.memory()
    greedy = connected(gateway)
    for number in range(200):
        greedy.subscribe(["#", "+/#", "many/#", "many/+"][number % 4])
        greedy.unsubscribe(["#", "+/#", "many/#", "many/+"][(number + 1) % 4])
    got = threading.Event()
    other = connected(gateway)
    other.on_message = lambda *_: got.set()
    other.subscribe("quick")
    time.sleep(0.5)
    client.publish("quick", "x", qos=1)
    assert got.wait(10), "others are served"
    time.sleep(3)
    assert gateway.memory() - before < 300 << 20
    for one in (client, greedy, other):
        one.disconnect()


def connected(gateway, user=None, **kwargs):
    client = mqtt.Client(protocol=mqtt.MQTTv5, **kwargs)
    if user:
        client.username_pw_set(user, f"{user}-word")
    up = threading.Event()
    client.on_connect = lambda *_: up.set()
    client.connect(*gateway.mqtt)
    client.loop_start()
    assert up.wait(10)
    return client


@pytest.fixture
def users(tmp_path):
    """A file that mosquitto_passwd made, with hashes of both kinds."""
    if not shutil.which("mosquitto_passwd"):
        pytest.skip("without mosquitto_passwd")
    file = tmp_path / "passwd"
    file.touch(0o600)
    for name, kind in (("operator", "sha512-pbkdf2"), ("app", "sha512")):
        done = subprocess.run(["mosquitto_passwd", "-H", kind, "-b", file, name, f"{name}-word"])
        if done.returncode != 0:
            subprocess.run(["mosquitto_passwd", "-b", file, name, f"{name}-word"], check=True)
    return file


RULES = """
topic read public/#
user operator
topic lwm2m/#
topic public/#
user app
topic read lwm2m/+/up/#
topic deny lwm2m/secret/up/#
topic write lwm2m/+/dn
pattern readwrite apps/%u/%c
"""


def test_users_of_mosquitto_passwd(broker, users):
    gateway = broker(users_file=f'"{users}"')
    for user in ("operator", "app"):
        assert pub(gateway, "x", "y", "-q", "1", user=user).returncode == 0
    host, port = gateway.mqtt
    for login in (["-u", "app", "-P", "wrong"], ["-u", "nobody", "-P", "x"], ["-u", "app"], []):
        done = subprocess.run(
            ["mosquitto_pub", "-h", host, "-p", str(port), "-t", "x", "-m", "y", *login],
            capture_output=True, text=True, timeout=30,
        )
        assert done.returncode != 0, login
    # Another user, and the signal to read the file again.
    subprocess.run(["mosquitto_passwd", "-b", users, "later", "later-word"], check=True)
    assert pub(gateway, "x", "y", "-q", "1", user="later").returncode != 0
    gateway.send_signal(signal.SIGHUP)
    wait_for(lambda: pub(gateway, "x", "y", "-q", "1", user="later").returncode == 0, 10, "the new user")
    users.write_text("broken\n")
    gateway.send_signal(signal.SIGHUP)
    wait_for(lambda: f"{users}:1: the : after the name is missing" in gateway.log(), 10, "the complaint")
    assert pub(gateway, "x", "y", "-q", "1", user="later").returncode == 0, "as it was"


def test_rules_in_the_form_of_mosquitto(broker, users, tmp_path):
    rules = tmp_path / "acl"
    rules.write_text(RULES)
    rules.chmod(0o640)
    gateway = broker(users_file=f'"{users}"', acl_file=f'"{rules}"')
    for topic in ("lwm2m/e/up/resp", "lwm2m/secret/up/resp", "public/x"):
        pub(gateway, topic, "kept", "-r", "-q", "1", user="operator")
    assert sorted(sub(gateway, "#", user="operator")) == [
        "lwm2m/e/up/resp kept", "lwm2m/secret/up/resp kept", "public/x kept",
    ]
    assert sub(gateway, "#", user="app") == ["lwm2m/e/up/resp kept"], "what it may read"
    # It may not write there.
    pub(gateway, "lwm2m/e/up/resp", "forged", "-r", "-q", "1", user="app")
    assert sub(gateway, "lwm2m/#", user="app") == ["lwm2m/e/up/resp kept"]
    pub(gateway, "apps/app/me", "mine", "-r", "-q", "1", "-i", "me", user="app")
    pub(gateway, "apps/app/other", "theirs", "-r", "-q", "1", "-i", "me", user="app")
    assert sub(gateway, "apps/app/me", "-i", "me", user="app") == ["apps/app/me mine"]
    assert sub(gateway, "apps/app/other", "-i", "other", user="app") == []
    host, port = gateway.mqtt
    done = subprocess.run(
        ["mosquitto_sub", "-h", host, "-p", str(port), "-u", "app", "-P", "app-word", "-t", "no/thing",
         "-W", "3"],
        capture_output=True, text=True, timeout=20,
    )
    assert "denied" in (done.stdout + done.stderr).lower(), "a filter that can bring nothing"
    # A last message where it may not write.
    done = pub(gateway, "lwm2m/e/dn", "{}", "--will-topic", "public/x", "--will-payload", "w", user="app")
    assert done.returncode != 0
    assert gateway.statistics()["mqtt_denied"] >= 3


def test_a_command_needs_the_right_to_write(broker, users, tmp_path):
    """What the rules deny never reaches the device, however it is sent."""
    rules = tmp_path / "acl"
    rules.write_text(RULES)
    rules.chmod(0o640)
    gateway = broker(users_file=f'"{users}"', acl_file=f'"{rules}"')
    device = Device(gateway, "guarded")
    device.register()
    execute = '{"reqID":1,"msgType":"execute","data":{"path":"/3/0/4"}}'
    to = ["-V", "mqttv5", "-D", "publish", "response-topic", "apps/app/me", "-i", "me"]
    for qos in "012":
        pub(gateway, "lwm2m/guarded/dn/extra", execute, "-q", qos, user="app")
        pub(gateway, "lwm2m/guarded/dn/extra", execute, "-q", qos, *to, user="app")
    device.silence(1)
    assert gateway.statistics()["mqtt_denied"] >= 6
    # Where it may, the device hears it.
    pub(gateway, "lwm2m/guarded/dn", execute, "-q", "1", user="app")
    device.acknowledge(device.expect(POST))
    device.close()


def test_answers_do_not_go_where_a_client_may_not_write(broker, users, tmp_path):
    rules = tmp_path / "acl"
    rules.write_text(RULES)
    rules.chmod(0o640)
    gateway = broker(users_file=f'"{users}"', acl_file=f'"{rules}"')
    command = '{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}'
    reader = subprocess.Popen(
        ["mosquitto_sub", "-h", gateway.mqtt[0], "-p", str(gateway.mqtt[1]), "-u", "operator", "-P",
         "operator-word", "-v", "-t", "#", "-W", "4"],
        stdout=subprocess.PIPE, text=True,
    )
    time.sleep(1)
    to = ["-V", "mqttv5", "-q", "1", "-D", "publish", "response-topic", "public/injected"]
    pub(gateway, "lwm2m/nobody/dn", command, *to, user="app")
    got = reader.communicate(timeout=20)[0]
    assert "lwm2m/nobody/up/resp" in got and "public/injected" not in got, got


def test_mistakes_in_the_files(tmp_path):
    def output(**settings):
        arguments = [part for key, value in settings.items() for part in ("--set", f"mqtt.{key}={value}")]
        done = subprocess.run(
            [binary(), "run", "--udp", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", *arguments],
            capture_output=True, text=True, timeout=20,
        )
        assert done.returncode == 1
        return done.stdout + done.stderr

    file = tmp_path / "file"
    assert f"mqtt.users_file: {file}: No such file" in output(users_file=file)
    file.write_text("me:geheim\n")
    file.chmod(0o644)
    assert f"chmod 640 {file}" in output(users_file=file)
    file.chmod(0o600)
    said = output(users_file=file)
    assert f"{file}:1: the password is not hashed" in said and "geheim" not in said
    file.write_text("user x\ntopic read #\n")
    assert "mqtt.acl_file: names users, but there are no users" in output(acl_file=file)
    file.write_text("\nnonsense here\n")
    assert f"{file}:2: a line must begin with" in output(acl_file=file)
