"""Who is let in to the HTTP API, and what senders who mean harm get."""

import os
import socket
import subprocess

import pytest

from api import Api
from dtls import Refused, Session
from gateway import Standalone, accepts_tcp, binary, free_tcp_port, free_udp_port, wait_for

pytestmark = [pytest.mark.standalone_only, pytest.mark.udp_only]

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    file = tmp_path_factory.mktemp("http") / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    address = ("127.0.0.1", free_tcp_port())
    settings = {"http.bind": "%s:%d" % address, "http.token_file": file, "http.max_connections": 20}
    gateway = Standalone(settings)
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    yield Api(address, TOKEN)
    assert gateway.stop() == 0 and "panicked" not in gateway.log()
    assert TOKEN not in gateway.log()


PATHS = ["about", "config", "devices", "devices/x", "events", "keys", "objects", "objects/3", "stats"]


@pytest.mark.parametrize("token", [None, "wrong-token", TOKEN[:-1], TOKEN + "x", ""])
def test_nothing_without_the_token(api, token):
    stranger = Api(api.address)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    for path in PATHS:
        error = stranger.json("GET", f"/v1/{path}", status=401, headers=headers)
        assert error["error"] == "unauthorized"
    body = {"msgType": "read", "data": {"path": "/3"}}
    stranger.json("POST", "/v1/devices/x/commands", body, status=401, headers=headers)
    stranger.json("DELETE", "/v1/devices/x", status=401, headers=headers)
    for path in ("/", "/healthz", "/readyz"):
        assert stranger.request("GET", path)[0] == 200
    assert api.get("/v1/about")["role"] == "admin"


def refused(*arguments, env=()):
    command = [binary(), "run", "--udp", f"127.0.0.1:{free_udp_port()}", "--mqtt"]
    command += [f"127.0.0.1:{free_tcp_port()}", *arguments]
    done = subprocess.run(
        command, env={**os.environ, **dict(env)}, capture_output=True, text=True, timeout=20
    )
    assert done.returncode != 0
    return done.stderr


def test_everybody_s_api_is_refused():
    assert "is not a loopback address" in refused("--http", f"0.0.0.0:{free_tcp_port()}")
    variable = "LWM2M_GATEWAY_HTTP_TOKEN"
    assert variable in refused("--http", str(free_tcp_port()), env={variable: "short"}.items())


def test_a_token_that_everybody_can_read_is_refused(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o644)
    said = refused("--http", str(free_tcp_port()), "--set", f"http.token_file={file}")
    assert "http.token_file" in said and "chmod 640" in said and TOKEN not in said


def answer(api, request):
    with socket.create_connection(api.address, 10) as sock:
        try:
            sock.sendall(request)
            return sock.recv(64)
        except ConnectionError:
            return b""


def test_what_is_no_request_is_refused(api):
    line = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    assert answer(api, line + b"X: " + b"a" * 100_000 + b"\r\n\r\n")[9:12] in (b"431", b"")
    many = b"".join(b"X%d: 1\r\n" % number for number in range(100))
    assert answer(api, line + many + b"\r\n")[9:12] == b"431"
    assert answer(api, b"\x16\x03\x01\x00\r\n\r\n")[9:12] in (b"400", b"")
    assert api.request("GET", "/healthz")[0] == 200


def test_connections_are_bounded(api):
    socks = [socket.create_connection(api.address, 10) for _ in range(60)]
    for sock in socks:
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")
        sock.settimeout(0.2)
    held = 0
    for sock in socks:
        try:
            held += sock.recv(1) != b""
        except TimeoutError:
            held += 1
        except ConnectionError:
            pass
        sock.close()
    assert 1 <= held <= 20
    wait_for(lambda: Api(api.address).request("GET", "/healthz")[0] == 200, 20, "room")


def test_idle_connections_keep_nobody_out(api):
    before = api.get("/v1/stats")["counters"]["http_connections_closed"]
    socks = [socket.create_connection(api.address, 10) for _ in range(60)]
    # Those that have asked for something, and might again, are idle as well.
    for sock in socks[::2]:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for _ in range(5):
        assert Api(api.address).request("GET", "/healthz")[0] == 200
        assert api.get("/v1/about")["role"] == "admin"
    assert api.get("/v1/stats")["counters"]["http_connections_closed"] >= before + 40
    for sock in socks:
        sock.close()


def test_the_configuration_has_no_secrets(api):
    config = api.get("/v1/config")
    assert config["http"]["max_connections"] == 20
    assert config["http"]["token_file"].endswith("/token")
    assert config["coap"]["nstart"] == 1 and config["store"]["path"] is None
    assert config["listeners"]["udp"]["default"]["enable"] is True
    assert TOKEN not in str(config)


def test_metrics_are_openmetrics(api):
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    status, headers, body = api.request("GET", "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {it.name: it for it in parser.text_string_to_metric_families(body.decode())}
    assert families["lwm2m_registered"].type == "counter"
    assert families["lwm2m_registrations"].type == "gauge"
    assert families["lwm2m_memory_queues"].type == "gauge"
    assert "Registrations accepted" in families["lwm2m_registered"].documentation
    samples = [s for family in families.values() for s in family.samples]
    assert {name for s in samples for name in s.labels} <= {"kind", "le", "listener"}
    assert Api(api.address).request("GET", "/metrics")[0] == 401


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """An API with a DTLS listener, and its PSK file."""
    file = tmp_path_factory.mktemp("keys") / "psk"
    file.write_text("# ours\nold:00112233445566778899aabbccddeeff\n")
    file.chmod(0o640)
    address = ("127.0.0.1", free_tcp_port())
    settings = {
        "http.bind": "%s:%d" % address,
        "listeners.dtls.default.bind": f"127.0.0.1:{free_udp_port()}",
        "listeners.dtls.default.psk_file": file,
        "listeners.dtls.default.psk": '{ fixed = "ffeeddccbbaa99887766554433221100" }',
    }
    gateway = Standalone(settings)
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    yield Api(address), file
    assert gateway.stop() == 0 and "panicked" not in gateway.log()


def test_keys_are_made_changed_and_removed(keys):
    api, file = keys
    listed = {it["identity"]: it for it in api.get("/v1/keys")["keys"]}
    assert listed["old"] == {
        "identity": "old", "listener": "dtls:default", "source": "file", "length": 16
    }
    assert listed["fixed"]["source"] == "config"
    made = api.json("POST", "/v1/keys", {"identity": "new one"}, status=201)
    assert made["identity"] == "new one" and len(bytes.fromhex(made["key"])) == 16
    assert f"new one:{made['key']}\n" in file.read_text()
    error = api.json("POST", "/v1/keys", {"identity": "new one"}, status=409)
    assert error["error"] == "identity_exists"
    body = {"key": "0f" * 16, "endpoints": ["truck-*", "a"]}
    assert api.request("PUT", "/v1/keys/new%20one", body)[0] == 204
    listed = {it["identity"]: it for it in api.get("/v1/keys")["keys"]}
    assert listed["new one"]["endpoints"] == ["truck-*", "a"]
    assert "0f" * 16 not in str(listed) and "0f" * 16 in file.read_text()
    assert api.request("DELETE", "/v1/keys/new%20one")[0] == 204
    assert api.json("DELETE", "/v1/keys/new%20one", status=404)["error"] == "unknown_identity"
    assert file.read_text().startswith("# ours\nold:") and "new one" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    named = api.json("POST", "/v1/keys", {}, status=201)
    assert api.request("DELETE", f"/v1/keys/{named['identity']}")[0] == 204


def test_a_key_is_in_force_when_it_is_answered(keys):
    api, file = keys
    about = api.get("/v1/about")
    (bind,) = [it["bind"] for it in about["listeners"] if it["dtls"]]
    host, _, port = bind.rpartition(":")
    for number in range(3):
        made = api.json("POST", "/v1/keys", {"identity": f"at-once-{number}"}, status=201)
        key = bytes.fromhex(made["key"])
        Session((host, int(port)), made["identity"], key).handshake().close()
        assert api.request("DELETE", f"/v1/keys/{made['identity']}")[0] == 204
        with pytest.raises(Refused):
            Session((host, int(port)), made["identity"], key).handshake()


@pytest.mark.parametrize(
    "identity, body",
    [
        ("x", b"{"),
        ("x", {"key": "xyz"}),
        ("x", {"key": ""}),
        ("x", {}),
        ("x", {"key": "0f" * 16, "other": 1}),
        ("x", {"key": "0f" * 16, "identity": "y"}),
        ("a%0Ab", {"key": "0f" * 16}),
        ("x" * 2000, {"key": "0f" * 16}),
        ("x", {"key": "0f" * 1000}),
    ],
)
def test_what_is_no_key_is_refused(keys, identity, body):
    api, file = keys
    before = file.read_bytes()
    error = api.json("PUT", f"/v1/keys/{identity}", body, status=400)
    assert error["error"] in ("bad_key", "bad_json") and "0f0f" not in error["detail"]
    assert file.read_bytes() == before


def test_without_a_file_no_key_is_kept(api):
    assert api.get("/v1/keys")["keys"] == []
    error = api.json("POST", "/v1/keys", {"identity": "x"}, status=409)
    assert error["error"] == "no_psk_file"


def raw(api, text, body=b""):
    """Status and rest of the answer to a request as it is."""
    with socket.create_connection(api.address, 10) as sock:
        sock.sendall(text.replace("\n", "\r\n").encode() + body)
        sock.settimeout(10)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
            if b"\r\n\r\n" in answer and b"HTTP/1.1 100" not in answer:
                break
        return int(answer.split(b" ")[1]), answer


@pytest.mark.parametrize(
    "lines, status",
    [
        ("Host: evil.example", 403),
        ("Host: 127.0.0.1.evil.example", 403),
        ("Host: localhost@evil.example", 403),
        ("Host: evil.example#localhost", 403),
        ("Host: [::1].evil.example", 403),
        ("Host: ", 403),
        ("X: 1", 403),
        ("Host: LOCALHOST:1", 200),
        ("Host: [::1]:8080", 200),
        ("Host: 127.0.0.1", 200),
        ("Host: evil.example\nHost: localhost", 403),
        ("Host: localhost\nHost: evil.example", 403),
        ("Host: localhost\nX-Forwarded-Host: evil.example", 200),
    ],
)
def test_names_of_strangers_lead_nowhere(api, lines, status):
    found, answer = raw(api, f"GET /v1/about HTTP/1.1\n{lines}\nAuthorization: Bearer {TOKEN}\n\n")
    assert found in ((403, 400) if status == 403 else (status,)), answer
    # By its own name in the first line, which goes before Host (RFC 9112 section 3.2.2).
    line = "GET http://evil.example/v1/about HTTP/1.1\nHost: localhost\n"
    assert raw(api, f"{line}Authorization: Bearer {TOKEN}\n\n")[0] in (400, 403)


@pytest.mark.parametrize(
    "origin, status",
    [
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://127.0.0.1.evil.example", 403),
        ("http://localhost", 403),
        ("http://{host}", 404),
        (None, 404),
    ],
)
@pytest.mark.parametrize("method, path", [("DELETE", "/v1/devices/x"), ("POST", "/v1/devices/x/commands")])
def test_pages_of_strangers_change_nothing(api, method, path, origin, status):
    host = "%s:%d" % api.address
    headers = {} if origin is None else {"Origin": origin.format(host=host)}
    body = {"msgType": "read", "data": {"path": "/3"}} if method == "POST" else None
    assert api.request(method, path, body, headers=headers)[0] == status
    # What a form can send without being asked first.
    if origin is None and method == "POST":
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            more = {"Content-Type": kind, "Sec-Fetch-Site": "cross-site"}
            assert api.request(method, path, b"{}", headers=more)[0] == 403


def test_bodies_are_bounded(api):
    head = f"POST /v1/devices/x/commands HTTP/1.1\nHost: localhost\nAuthorization: Bearer {TOKEN}\n"
    status, answer = raw(api, f"{head}Content-Length: 1000000\n\n", b"{" * 100_000)
    assert status == 413 and b"http.max_body" in answer
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    status, answer = raw(api, f"{head}Transfer-Encoding: chunked\n\n", chunk * 4)
    assert status == 413, answer
    # Two lengths are how requests are smuggled past a proxy.
    both = f"{head}Content-Length: 5\nTransfer-Encoding: chunked\n\n"
    assert raw(api, both, b"0\r\n\r\n")[0] in (400, 404)
    two = f"{head}Content-Length: 5\nContent-Length: 6\n\n"
    assert raw(api, two, b"hello!")[0] == 400
    # No route without a body takes one.
    status, _ = raw(api, head.replace("POST /v1/devices/x/commands", "DELETE /v1/devices/x") + "Content-Length: 9\n\n", b"{}")
    assert status == 404
