"""DTLS clients that others wrote: OpenSSL, libcoap with OpenSSL and with GnuTLS, tinydtls."""

import itertools
import shutil
import subprocess

import pytest

from coap import GET, TEXT
from conftest import needs
from dtls import SUITES
from gateway import wait_for
from secure import Changes, OpensslDevice, fresh_identity, key_of

pytestmark = pytest.mark.standalone_only  # they read its counters

_number = itertools.count()


@pytest.fixture
def bench(secure):
    return secure()


# openssl s_client


@needs("openssl")
@pytest.mark.parametrize("suite", SUITES)
def test_s_client(bench, suite):
    device = OpensslDevice(bench.gateway, suite=suite)
    bench.devices.append(device)
    assert device.sock.cipher == suite
    device.register()
    bench.app.report(device.endpoint)
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"
    request_id = bench.app.command(device.endpoint, "observe", {"path": "/3/0/9"})
    observe = device.expect(GET)
    device.reply(observe, "2.05", "1", TEXT, observe=1)
    device.notify(observe, 2, "2")
    bench.app.wait(lambda m: m.json.get("reqID") == request_id and m.type == "notify")
    device.update()
    device.deregister()
    device.sock.shutdown()


@needs("openssl")
def test_s_client_is_displaced(bench):
    first = OpensslDevice(bench.gateway)
    second = OpensslDevice(bench.gateway, identity=first.identity)
    bench.devices += [first, second]
    # It ends by itself when the gateway says close_notify.
    assert first.sock.ended() == 0


# libcoap


@pytest.fixture(params=["coap-client-openssl", "coap-client-gnutls"])
def libcoap(request, secure, tmp_path):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    # Keys are texts to this program.
    identity, key = f"libcoap-{next(_number)}", "quite secret"
    bench = secure(psk=[f"{identity}:{key.encode().hex()}"])

    def run(method, path, body=None, content_format=40, key=key, block=None):
        command = [request.param, "-v", "7", "-B", "5", "-m", method, "-k", key, "-u", identity]
        if body is not None:
            file = tmp_path / "body"
            file.write_text(body)
            command += ["-t", str(content_format), "-f", file]
        if block:
            command += ["-b", str(block)]
        url = "coaps://%s:%d%s" % (*bench.gateway.dtls, path)
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=30)
        return done.stdout + done.stderr

    run.bench, run.endpoint = bench, identity
    return run


def location(output):
    lines = [line for line in output.splitlines() if "Location-Path:rd" in line]
    assert lines, output
    after = lines[-1].split("Location-Path:rd, Location-Path:")[1]
    return "/rd/" + after.split()[0].rstrip(",]")


def test_libcoap(libcoap):
    """Each request is a process and a session of its own; the registration follows them."""
    bench = libcoap.bench
    changes = Changes(bench.gateway)
    output = libcoap("post", f"/rd?ep={libcoap.endpoint}&lt=60&lwm2m=1.2&b=U", "</1/0>,</3/0>")
    assert "2.01" in output, output
    report = bench.app.report(libcoap.endpoint)
    assert report.data["objectList"] == ["/1/0", "/3/0"]
    assert "2.04" in libcoap("post", location(output))
    sent = libcoap("post", "/dp", '[{"n":"/3/0/9","v":74}]', 110)
    assert "2.04" in sent, sent
    message = bench.app.wait(lambda m: libcoap.endpoint in m.topic and m.type == "send")
    assert message.data["content"][0]["value"] == 74
    assert "2.02" in libcoap("delete", location(output))
    changes.look()
    assert changes["dtls_handshakes_completed"] == 4 and changes["dtls_handshakes_failed"] == 0
    wait_for(lambda: changes.look()["dtls_sessions"] == 0, 5, "end of the sessions")


def test_libcoap_blockwise(libcoap):
    objects = [f"/{30000 + n}/0" for n in range(200)]
    links = ",".join(f"<{path}>" for path in objects)
    output = libcoap("post", f"/rd?ep={libcoap.endpoint}&lt=60&lwm2m=1.1", links, block=1024)
    assert "2.01" in output, output[-2000:]
    assert libcoap.bench.app.report(libcoap.endpoint).data["objectList"] == objects


def test_libcoap_with_a_wrong_key(libcoap):
    output = libcoap("post", f"/rd?ep={libcoap.endpoint}&lt=60&lwm2m=1.1", "</3/0>", key="wrong")
    assert "2.01" not in output
    assert not libcoap.bench.app.reports(libcoap.endpoint)


# aiocoap with tinydtls


@pytest.fixture
def tinydtls(bench):
    pytest.importorskip("aiocoap", reason="aiocoap is not installed")
    pytest.importorskip("cbor2", reason="cbor2 is not installed")
    pytest.importorskip("DTLSSocket", reason="DTLSSocket is not installed")
    from client import Client

    identity = fresh_identity()
    client = Client(bench.gateway, credentials=(identity, key_of(identity)))
    yield client
    client.close()


def test_tinydtls(bench, tinydtls):
    tinydtls.register()
    bench.app.report(tinydtls.endpoint)
    read = bench.app.command(tinydtls.endpoint, "read", {"path": "/3/0"})
    content = bench.app.result(read, kind="read").data["content"]
    assert {entry["path"]: entry["value"] for entry in content}["/3/0/9"] == 74
    write = {"path": "/3/0/9", "type": "Integer", "value": 5}
    assert bench.app.result(bench.app.command(tinydtls.endpoint, "write", write)).data["code"] == "2.04"
    tinydtls.send([{"n": "/3/0/9", "v": 5}], 110)
    message = bench.app.wait(lambda m: tinydtls.endpoint in m.topic and m.type == "send")
    assert message.data["content"][0]["value"] == 5
