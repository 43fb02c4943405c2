"""Logs: nothing that a peer says stops the gateway, fills the disk or fakes a line."""

import fcntl
import os
import subprocess

import pytest

from coap import POST
from flooding import Flood, Honest, HonestSecure
from gateway import Standalone
from secure import key_of

F_SETPIPE_SZ = 1031


# C10


@pytest.mark.standalone_only
@pytest.mark.parametrize("format", ["text", "json"])
def test_c10_a_log_that_nobody_reads(own, format):
    """Standard error is a full pipe: devices are served all the same, and SIGTERM ends it."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)

    class Unread(Standalone):
        launch = {"stdout": writer, "stderr": writer}

    try:
        bench = own({"log.level": "debug", "log.format": format}, kind=Unread)
        devices = [bench.device() for _ in range(4)]
        for device in devices:
            device.register()
        flood = Flood("junk", bench.gateway.udp, count=5000, rate=5000)
        flood.result()
        for _ in range(20):
            for device in devices:
                device.update()
        assert bench.read(devices[0], "/3/0/0", "2.05", "x", 0).data["code"] == "2.05"
        assert bench.gateway.stop() == 0
    finally:
        os.close(writer)
        os.close(reader)


# C11


def grown(gateway, before):
    return len(gateway.log()) - before


def test_c11_unknown_identities(own):
    """One line for a reason and an interval, with the number of those that are left out."""
    bench = own()
    before = len(bench.gateway.log())
    flood = Flood("unknown-identity", bench.gateway.dtls, count=3000, seconds=30)
    sent = flood.result()
    assert sent["sent"] >= 300, sent
    assert grown(bench.gateway, before) < 20_000


def test_c11_plain_registers_of_covered_endpoints(own):
    """The same for a credential's endpoint over plain UDP, each refused."""
    bench = own(psk=[f"beta:{key_of('beta').hex()}"])
    before = len(bench.gateway.log())
    device = Honest(bench.gateway)
    bench.devices.append(device)
    for _ in range(1000):
        answer = device.request(POST, "/rd", ["ep=beta", "lt=300", "lwm2m=1.1"])
        assert answer.code >> 5 in (4, 5), f"{answer}"
    assert grown(bench.gateway, before) < 20_000


def test_c11_endpoints_of_others_over_dtls(own):
    """And for an identity that asks for another's endpoint."""
    keys = [f"{name}:{key_of(name).hex()}" for name in ("alpha", "beta")]
    bench = own({"listeners.dtls.default.endpoint_rule": "equal"}, psk=keys)
    before = len(bench.gateway.log())
    alpha = HonestSecure(bench.gateway, "alpha", identity="alpha")
    bench.devices.append(alpha)
    for _ in range(500):
        answer = alpha.request(POST, "/rd", ["ep=beta", "lt=300", "lwm2m=1.1"])
        assert answer.code >> 5 in (4, 5), f"{answer}"
    assert grown(bench.gateway, before) < 20_000


# C15

UGLY = {
    "newline": "a\nINFO all is well",
    "escape": "a\x1b[2Jb",
    "line-separator": "a\u2028b",
    "paragraph-separator": "a\u2029b",
    "bidi": "a\u202eb\u2066c",
    "next-line": "a\x85b",
    "delete": "a\x7fb",
}




@pytest.mark.parametrize("which", UGLY)
@pytest.mark.parametrize("format", ["text", "json"])
def test_c15_names_are_escaped_in_the_log(gateway, which, format):
    """An endpoint name that the mountpoint does not hold cannot fake or hide a line."""
    bench = gateway(
        {"mountpoint": "lwm2m/${peerhost}/", "shared_mountpoint": True, "log.level": "trace", "log.format": format}
    )
    name = f"{UGLY[which]}-{format}"
    device = bench.device(name)
    query = [f"ep={name}", "lt=300", "lwm2m=1.1"]
    answer = device.request(POST, "/rd", query, "</3/0>", 40)
    if answer.code_text == "2.01":
        device.location = "/".join(answer.location)
        device.update()
        device.deregister()
    log = bench.gateway.log()
    assert name not in log
    for character in "\x1b\u2028\u2029\u202e\u2066\x85\x7f":
        assert character not in log, f"{character!r} in the log"
    assert not any(line.startswith("INFO all is well") for line in log.splitlines())
