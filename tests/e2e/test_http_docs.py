"""The curl commands of docs/http.md do what is said there."""

import json
import os
import re
import shutil
import subprocess

import pytest

from api import Api
from gateway import ROOT, Process, Standalone, accepts_tcp, binary, free_tcp_port, free_udp_port, wait_for
from test_http_users import user_line

pytestmark = [
    pytest.mark.standalone_only,
    pytest.mark.udp_only,
    pytest.mark.skipif(not shutil.which("curl"), reason="curl is absent"),
]

TOKEN = "correct-horse-battery"


def commands():
    """Those of the blocks of shell, each as one line."""
    text = (ROOT / "docs/http.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [line.partition("   #")[0].strip() for line in lines if line.startswith("curl ")]
    assert len(found) >= 9
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    users, token, psk = folder / "users", folder / "token", folder / "psk"
    users.write_text(user_line("ann", "read", "password of ann"))
    token.write_text(TOKEN)
    psk.write_text("# none yet\n")
    for file in (users, token, psk):
        file.chmod(0o600)
    address = ("127.0.0.1", free_tcp_port())
    settings = {
        "http.bind": "%s:%d" % address,
        "http.token_file": token,
        "http.users_file": users,
        "listeners.dtls.default.bind": f"127.0.0.1:{free_udp_port()}",
        "listeners.dtls.default.psk_file": psk,
    }
    gateway = Standalone(settings)
    device = Process([binary(), "simulate", "--server", "coap://%s:%d" % gateway.udp])
    api = Api(address, TOKEN)
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    wait_for(lambda: api.request("GET", "/v1/devices/sim-0")[0] == 200, 10, "the device")
    # Where the text does not show it, it speaks of a gateway without a token.
    (folder / ".curlrc").write_text(f'header = "Authorization: Bearer {TOKEN}"\n')

    def run(command):
        shows = " -u " in command or "Authorization" in command
        command = command.replace("127.0.0.1:8080", "%s:%d" % address)
        command = command.replace("-u ann", "-u 'ann:password of ann'")
        command = command.replace("curl ", "curl -sS -m 3 -w '\\n%{http_code}' ", 1)
        home = {} if shows else {"CURL_HOME": str(folder)}
        done = subprocess.run(
            ["sh", "-c", command], env={**os.environ, "TOKEN": TOKEN, **home},
            capture_output=True, text=True, timeout=30,
        )
        return done

    yield run
    device.stop()
    assert gateway.stop() == 0


def test_what_the_text_shows_works(run):
    for command in commands():
        done = run(command)
        if " -N " in command:
            # Goes on until curl has had enough.
            assert done.returncode == 28 and done.stdout.startswith(":\n"), (command, done)
            continue
        body, _, status = done.stdout.rpartition("\n")
        assert done.returncode == 0 and status in ("200", "201", "204"), (command, done)
        if status != "204":
            assert "error" not in json.loads(body), command
