"""The HTTP API by TLS."""

import http.client
import socket
import ssl
import subprocess

import pytest

from api import Api
from certificates import Authority
from gateway import Standalone, accepts_tcp, binary, free_tcp_port, wait_for

pytestmark = [pytest.mark.standalone_only, pytest.mark.udp_only]

TOKEN = "correct-horse-battery"


class SecureApi(Api):
    """The API by TLS."""

    def __init__(self, address, token, context):
        super().__init__(address, token)
        self.context = context

    def connection(self, timeout=15):
        return http.client.HTTPSConnection(*self.address, timeout=timeout, context=self.context)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def for_localhost(authority, name):
    names = "subjectAltName = DNS:localhost, IP:127.0.0.1"
    return authority.issue(f"/CN={name}", names)


@pytest.fixture
def served(authority, tmp_path):
    certificate = for_localhost(authority, "first")
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    certfile.write_text(certificate.certfile.read_text())
    keyfile.write_text(certificate.keyfile.read_text())
    keyfile.chmod(0o600)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    address = ("127.0.0.1", free_tcp_port())
    settings = {
        "http.bind": "%s:%d" % address,
        "http.token_file": token,
        "http.certfile": certfile,
        "http.keyfile": keyfile,
    }
    gateway = Standalone(settings)
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    context = ssl.create_default_context(cafile=authority.certfile)
    yield SecureApi(address, TOKEN, context), gateway, certfile, keyfile
    assert gateway.stop() == 0
    assert "panicked" not in gateway.log() and TOKEN not in gateway.log()


def test_it_speaks_tls_and_nothing_else(served):
    api = served[0]
    assert api.get("/v1/about")["role"] == "admin"
    headers = {"Origin": "https://127.0.0.1:%d" % api.address[1]}
    assert api.request("DELETE", "/v1/devices/x", headers=headers)[0] == 404
    with pytest.raises((http.client.HTTPException, OSError)):
        Api(api.address, TOKEN).get("/v1/about")
    old = ssl.create_default_context()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        SecureApi(api.address, TOKEN, old).get("/v1/about")


def test_events_come_by_tls(served):
    api = served[0]
    connection = api.connection()
    connection.request("GET", "/v1/events", headers={"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.readline() == b":\n"
    connection.close()


def test_another_certificate_is_taken_up(served, authority):
    api, gateway, certfile, keyfile = served
    second = for_localhost(authority, "second")

    def subject():
        connection = api.connection()
        connection.connect()
        names = connection.sock.getpeercert()["subject"]
        connection.close()
        return dict(name for part in names for name in part)["commonName"]

    assert subject() == "first"
    # A certificate whose key is not there yet changes nothing.
    certfile.write_text(second.certfile.read_text())
    wait_for(lambda: "stay in use" in gateway.log(), 10, "the complaint")
    assert subject() == "first"
    keyfile.write_text(second.keyfile.read_text())
    wait_for(lambda: subject() == "second", 10, "the other certificate")


def test_the_terminal_trusts_whom_it_is_told(served, authority):
    api = served[0]

    def run(*arguments):
        url = "https://localhost:%d" % api.address[1]
        return subprocess.run(
            [binary(), "devices", "--url", url, *arguments], capture_output=True, text=True,
            env={"LWM2M_GATEWAY_HTTP_TOKEN": TOKEN}, timeout=20,
        )

    done = run("--cacert", authority.certfile)
    assert done.returncode == 0, done.stderr
    assert run().returncode == 3
    done = run("--cacert", served[3])
    assert done.returncode == 1 and "holds something other than certificates" in done.stderr


def test_slow_handshakes_hold_nobody_up(served):
    api = served[0]
    socks = [socket.create_connection(api.address, 10) for _ in range(50)]
    for sock in socks:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01")
    assert api.get("/v1/about")["role"] == "admin"
    for sock in socks:
        sock.close()
