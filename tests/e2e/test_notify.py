"""What systemd is told: sd_notify(3)."""

import os
import signal
import socket
import subprocess
import uuid

import pytest

from gateway import binary

pytestmark = pytest.mark.standalone_only


class Manager:
    """Stands in for systemd."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(20)

    def hears(self):
        lines = self.socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_it_tells_systemd(tmp_path, abstract):
    name = f"lwm2m-gateway-{uuid.uuid4()}" if abstract else str(tmp_path / "notify")
    manager = Manager("\0" + name if abstract else name)
    config = tmp_path / "gateway.toml"
    good = '[listeners.udp.default]\nbind = "127.0.0.1:0"\n[mqtt]\nbind = "127.0.0.1:0"\n'
    config.write_text(good)
    process = subprocess.Popen(
        [binary(), "run", "--config", config], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "NOTIFY_SOCKET": f"@{name}" if abstract else name},
    )
    try:
        assert manager.hears() == {"READY": "1", "STATUS": "Serving"}

        process.send_signal(signal.SIGHUP)
        assert manager.hears()["RELOADING"] == "1"
        assert manager.hears() == {"READY": "1", "STATUS": "Serving"}

        config.write_text(good + "nonsense = 1\n")
        process.send_signal(signal.SIGHUP)
        assert manager.hears()["RELOADING"] == "1"
        heard = manager.hears()
        assert heard["READY"] == "1" and "previous configuration" in heard["STATUS"]

        process.send_signal(signal.SIGTERM)
        assert manager.hears()["STOPPING"] == "1"
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_nobody_listens(tmp_path):
    """That is no reason not to serve."""
    process = subprocess.Popen(
        [binary(), "run", "--udp", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"],
        stderr=subprocess.PIPE, text=True,
        env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "nobody")},
    )
    try:
        for line in process.stderr:
            if "NOTIFY_SOCKET" in line:
                break
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
