"""The embedded broker over TLS and WebSocket, with paho and the programs of Mosquitto."""

import base64
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import paho.mqtt.client as mqtt
import pytest

from gateway import Standalone, free_tcp_port, wait_for

pytestmark = [
    pytest.mark.standalone_only,
    pytest.mark.skipif(not shutil.which("openssl"), reason="without openssl"),
]


def certificate(folder, name, issuer=None, subject=None):
    """A key and a certificate, by itself or by an issuer."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    by = [] if issuer is None else ["-CA", folder / f"{issuer}.pem", "-CAkey", folder / f"{issuer}.key"]
    extensions = (
        ["-addext", "basicConstraints=critical,CA:TRUE"]
        if issuer is None
        else ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]
    )
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "30", "-subj", f"/CN={subject or name}", "-keyout", key, "-out", cert, *by, *extensions],
        check=True, capture_output=True,
    )
    return key, cert


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    certificate(folder, "ca")
    certificate(folder, "server", "ca", "localhost")
    certificate(folder, "operator", "ca")
    certificate(folder, "stranger-ca")
    certificate(folder, "stranger", "stranger-ca", "operator")
    return folder


@pytest.fixture
def broker(programs, keys):
    def start(**settings):
        tls, ws = free_tcp_port(), free_tcp_port()
        named = {
            "tls.bind": f'"127.0.0.1:{tls}"',
            "tls.certfile": f'"{keys}/server.pem"',
            "tls.keyfile": f'"{keys}/server.key"',
            "websocket.bind": f'"127.0.0.1:{ws}"',
            **settings,
        }
        gateway = Standalone({f"mqtt.{key}": value for key, value in named.items()})
        gateway.tls, gateway.ws = tls, ws
        programs.append(gateway)
        return gateway

    return start


def client(gateway, port, keys=None, cert=None, websocket=False, user=None, version=mqtt.MQTTv5, origin=None):
    """A connected client with what it has got, or None."""
    one = mqtt.Client(protocol=version, transport="websockets" if websocket else "tcp")
    if websocket:
        one.ws_set_options(path="/mqtt", headers={"Origin": origin} if origin else None)
    if keys:
        pair = {"certfile": f"{keys}/{cert}.pem", "keyfile": f"{keys}/{cert}.key"} if cert else {}
        one.tls_set(f"{keys}/ca.pem", **pair)
    if user:
        one.username_pw_set(*user)
    one.got, state = [], []
    changed = threading.Event()

    def connected(*arguments):
        state.append(arguments[3])
        changed.set()

    one.on_connect = connected
    one.on_message = lambda _c, _u, message: one.got.append((message.topic, message.payload))
    try:
        one.connect("localhost", port)
    except (OSError, mqtt.WebsocketConnectionError):
        return None
    one.loop_start()
    if not changed.wait(5) or str(state[0]) not in ("Success", "0"):
        one.loop_stop()
        return None
    return one


def passes(one, other, size=10):
    """Whether a message goes from one client to the other."""
    topic = f"t/{time.monotonic()}"
    payload = os.urandom(size)
    other.subscribe(topic, 1)
    time.sleep(0.3)
    one.publish(topic, payload, 1)
    wait_for(lambda: (topic, payload) in other.got, 10, "the message")


@pytest.mark.parametrize("version", [mqtt.MQTTv311, mqtt.MQTTv5])
def test_tls_and_websocket(broker, keys, version):
    gateway = broker()
    plain = client(gateway, gateway.mqtt[1], version=version)
    tls = client(gateway, gateway.tls, keys, version=version)
    ws = client(gateway, gateway.ws, websocket=True, version=version)
    for one, other in ((plain, tls), (tls, ws), (ws, plain), (ws, tls)):
        passes(one, other)
        passes(one, other, 300_000)
    for one in (plain, tls, ws):
        one.disconnect()
    assert client(gateway, gateway.tls) is None, "not without TLS"


def test_secure_websocket(broker, keys):
    gateway = broker(**{"websocket.tls": "true"})
    ws = client(gateway, gateway.ws, keys, websocket=True)
    passes(ws, ws)
    ws.disconnect()
    assert client(gateway, gateway.ws, websocket=True) is None


@pytest.mark.skipif(not shutil.which("mosquitto_pub"), reason="without mosquitto-clients")
def test_programs_of_mosquitto_over_tls(broker, keys):
    gateway = broker()
    to = ["-h", "localhost", "-p", str(gateway.tls), "--cafile", f"{keys}/ca.pem"]
    for version in ("mqttv311", "mqttv5"):
        subprocess.run(
            ["mosquitto_pub", *to, "-V", version, "-t", "a", "-m", version, "-r", "-q", "1"],
            check=True, timeout=20,
        )
        done = subprocess.run(
            ["mosquitto_sub", *to, "-V", version, "-t", "a", "-C", "1", "-W", "5"],
            capture_output=True, text=True, timeout=20,
        )
        assert done.stdout.strip() == version


# Paho's thread ends with the alert of TLS.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_client_certificates(broker, keys, tmp_path):
    rules = tmp_path / "acl"
    rules.write_text("user operator\ntopic readwrite t/#\n")
    users = tmp_path / "users"
    users.write_text("other:$6$AAAA$AAAA\n")
    for file in (rules, users):
        file.chmod(0o600)
    gateway = broker(**{
        "tls.cacertfile": f'"{keys}/ca.pem"',
        "tls.identity_as_username": "true",
        "users_file": f'"{users}"',
        "acl_file": f'"{rules}"',
    })
    operator = client(gateway, gateway.tls, keys, "operator")
    passes(operator, operator)
    operator.disconnect()
    # Whatever it calls itself, it is who its certificate says.
    operator = client(gateway, gateway.tls, keys, "operator", user=("other", "x"))
    passes(operator, operator)
    operator.disconnect()
    assert client(gateway, gateway.tls, keys) is None, "without a certificate"
    assert client(gateway, gateway.tls, keys, "stranger") is None, "of somebody else"
    assert client(gateway, gateway.ws, websocket=True) is None, "others need a password"
    assert client(gateway, gateway.mqtt[1]) is None


def test_nobody_comes_in_behind_the_doors(broker, keys):
    """The listener that takes what was unwrapped is for our own threads."""
    gateway = broker()
    listening = set()
    for line in open(f"/proc/{gateway.pid}/net/tcp").read().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[1].startswith("0100007F:"):
            listening.add(int(fields[1][9:], 16))
    inodes = {os.readlink(f"/proc/{gateway.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{gateway.pid}/fd")}
    assert inodes
    connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"
    proxy = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24" + b"\x20\x01" + bytes(30) + b"\0\1\0\1"
    for port in listening - {gateway.tls, gateway.ws, gateway.mqtt[1]}:
        with socket.socket() as sock:
            sock.settimeout(2)
            try:
                sock.connect(("127.0.0.1", port))
                sock.sendall(proxy + connect)
                answer = sock.recv(4)
            except OSError:
                continue
            assert answer != b"\x20\x02\x00\x00", port


@pytest.mark.parametrize(("origin", "comes_in"), [
    (None, True), ("https://console.example", True), ("https://evil.example", False), ("null", False),
    ("same", True),
])
def test_pages_of_others_stay_out(broker, origin, comes_in):
    gateway = broker(**{"websocket.origins": '["https://console.example"]'})
    if origin == "same":
        origin = f"http://localhost:{gateway.ws}"
    with socket.create_connection(("127.0.0.1", gateway.ws), 5) as sock:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /mqtt HTTP/1.1", f"Host: localhost:{gateway.ws}", "Upgrade: websocket",
            "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: mqtt",
        ] + ([f"Origin: {origin}"] if origin else [])
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = sock.recv(1000).decode()
    assert answer.startswith("HTTP/1.1 101" if comes_in else "HTTP/1.1 403"), answer


def test_who_does_not_log_in_goes(broker, keys):
    gateway = broker(max_connections="40")
    silent = []
    for _ in range(10):
        silent.append(socket.create_connection(("127.0.0.1", gateway.ws), 5))
        silent.append(socket.create_connection(("127.0.0.1", gateway.tls), 5))
    silent.append(socket.create_connection(("127.0.0.1", gateway.mqtt[1]), 5))
    end = time.monotonic() + 25
    while silent and time.monotonic() < end:
        for sock in list(silent):
            sock.settimeout(0.05)
            try:
                if sock.recv(1) == b"":
                    silent.remove(sock)
            except TimeoutError:
                pass
            except OSError:
                silent.remove(sock)
    assert not silent, "all are gone within ten seconds and a little"
    ws = client(gateway, gateway.ws, websocket=True)
    passes(ws, ws)
    # And one that has logged in stays.
    time.sleep(11)
    passes(ws, ws)
    ws.disconnect()


def test_packets_that_are_too_large_and_no_mqtt(broker, keys):
    gateway = broker()
    for port in (gateway.ws, gateway.tls):
        for junk in (os.urandom(100_000), b"\x16\x03\x01\xff\xff" + bytes(70_000), b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                try:
                    sock.sendall(junk)
                except OSError:
                    pass
    ws = client(gateway, gateway.ws, websocket=True)
    before = gateway.memory()
    greedy = client(gateway, gateway.ws, websocket=True)
    greedy.publish("x", bytes(60 << 20))
    time.sleep(3)
    assert gateway.memory() - before < 150 << 20
    greedy.disconnect()
    passes(ws, ws)
    ws.disconnect()


def test_certificates_are_read_again(broker, keys, tmp_path):
    for name in ("server.pem", "server.key"):
        shutil.copy(keys / name, tmp_path / name)
    gateway = broker(**{
        "tls.certfile": f'"{tmp_path}/server.pem"', "tls.keyfile": f'"{tmp_path}/server.key"',
    })

    def serial():
        return ssl.get_server_certificate(("127.0.0.1", gateway.tls))

    first = serial()
    shutil.copy(keys / "ca.pem", tmp_path / "ca.pem")
    shutil.copy(keys / "ca.key", tmp_path / "ca.key")
    certificate(tmp_path, "server", "ca", "localhost")
    gateway.send_signal(signal.SIGHUP)
    wait_for(lambda: serial() != first, 10, "the new certificate")
    (tmp_path / "server.pem").write_text("nonsense")
    gateway.send_signal(signal.SIGHUP)
    wait_for(lambda: "server.pem" in gateway.log(), 10, "the complaint")
    assert serial() != first
