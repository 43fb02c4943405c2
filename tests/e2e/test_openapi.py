"""The description of the API, and requests that are made from it (schemathesis)."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from api import Api
from conftest import psk_file
from gateway import ROOT, Process, accepts_tcp, binary, free_tcp_port, free_udp_port, wait_for

TOKEN = "a-token-of-the-tests"

pytestmark = [pytest.mark.standalone_only, pytest.mark.udp_only]


@pytest.fixture
def served(gateway, tmp_path, programs):
    """A gateway with everything that the API has, and two simulated devices."""
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    address = ("127.0.0.1", free_tcp_port())
    bench = gateway({
        "http.bind": "%s:%d" % address, "http.token_file": str(file),
        "listeners.dtls.default.bind": "127.0.0.1:%d" % free_udp_port(),
        "listeners.dtls.default.psk_file": str(psk_file(tmp_path / "psk", ["a:00112233445566778899aabbccddeeff"])),
    })
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    server = "coap://%s:%d" % bench.gateway.udp
    programs.append(Process([binary(), "simulate", "--server", server, "--devices", "2"]))
    bench.app.report("sim-1")
    return address


def test_the_description_is_the_committed_one(served):
    described = Api(served, TOKEN).get("/v1/openapi.json")
    assert described == json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert described["openapi"].startswith("3.1")
    assert Api(served).request("GET", "/v1/openapi.json")[0] == 401


CONFIG = """
[[operations]]
include-path = "/v1/devices/{endpoint}/commands"
parameters = { endpoint = "sim-0", wait = 2 }

[[operations]]
include-path = "/v1/devices/{endpoint}"
parameters = { endpoint = "sim-1" }
"""


def test_requests_made_from_the_description(served, tmp_path):
    program = pathlib.Path(sys.executable).parent / "schemathesis"
    if not program.exists():
        pytest.skip("schemathesis is not installed")
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    # Events have no end. What a command may be is said in docs/mqtt.md: the description takes more.
    # For more of it: SCHEMATHESIS_SECONDS=600
    done = subprocess.run(
        [program, "--config-file", config, "run", "http://%s:%d/v1/openapi.json" % served,
         "-H", f"Authorization: Bearer {TOKEN}", "--exclude-path", "/v1/events", "--exclude-path", "/v1/log/events",
         "--checks", "all", "--exclude-checks", "positive_data_acceptance",
         "--phases", "coverage,fuzzing", "--max-examples", "20", "--request-timeout", "15",
         "--max-time", os.environ.get("SCHEMATHESIS_SECONDS", "45"), "--no-color"],
        capture_output=True, text=True, timeout=900, cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    # It still serves, and its devices are still there.
    assert wait_for(lambda: Api(served, TOKEN).get("/v1/devices")["total"] >= 1, 10, "devices")
