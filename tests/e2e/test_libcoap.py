"""Debian's `coap-client-notls` as the device's side of the registration interface."""

import itertools
import subprocess

import pytest

from conftest import needs
from gateway import free_udp_port

pytestmark = needs("coap-client-notls")

_number = itertools.count()


@pytest.fixture
def coap(bench, tmp_path):
    def run(method, path, body=None, block=None, port=None):
        command = ["coap-client-notls", "-v", "7", "-B", "5", "-m", method]
        if body is not None:
            file = tmp_path / "body"
            file.write_text(body)
            command += ["-t", "40", "-f", file]
        if port:
            command += ["-p", str(port)]
        if block:
            command += ["-b", str(block)]
        url = "coap://%s:%d%s" % (*bench.gateway.udp, path)
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=30)
        return done.stdout + done.stderr

    return run


def location(output):
    """/rd/… from the client's trace of the answer."""
    lines = [line for line in output.splitlines() if "Location-Path:rd" in line]
    assert lines, output
    after = lines[-1].split("Location-Path:rd, Location-Path:")[1]
    return "/rd/" + after.split()[0].rstrip(",]")


def test_register_update_deregister(bench, coap):
    endpoint = f"libcoap-{next(_number)}"
    output = coap("post", f"/rd?ep={endpoint}&lt=60&lwm2m=1.1&b=U", "</1/0>,</3/0>")
    assert "2.01" in output
    report = bench.app.report(endpoint)
    assert report.data["objectList"] == ["/1/0", "/3/0"]
    path = location(output)
    # A process of its own: an Update from another port, which the registration follows.
    port = free_udp_port()
    assert "2.04" in coap("post", path, port=port)
    assert "2.02" in coap("delete", path, port=port)
    assert "4.04" in coap("post", path, port=port)


@pytest.mark.parametrize("method, path", [("get", "/nothing"), ("post", "/bs?ep=x"), ("put", "/x")])
def test_what_is_not_there(coap, method, path):
    output = coap(method, path)
    assert any(code in output for code in ("4.04", "4.05", "5.01")), output


def test_bad_version(coap):
    assert "4.12" in coap("post", "/rd?ep=libcoap-bad&lt=60&lwm2m=9.9", "</3/0>")


@pytest.mark.parametrize("block", [64, 256, 1024])
def test_blockwise_register(bench, coap, block):
    endpoint = f"libcoap-{next(_number)}"
    objects = [f"/{30000 + n}/0" for n in range(200)]
    output = coap(
        "post",
        f"/rd?ep={endpoint}&lt=60&lwm2m=1.1",
        ",".join(f"<{path}>" for path in objects),
        block,
    )
    assert "2.01" in output, output[-2000:]
    assert bench.app.report(endpoint).data["objectList"] == objects
