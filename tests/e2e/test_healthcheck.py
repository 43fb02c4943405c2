"""`lwm2m-gateway healthcheck`: whether a gateway answers at each of its listeners."""

import subprocess

import pytest

from conftest import psk_file, toml
from gateway import binary, free_tcp_port, free_udp_port

pytestmark = pytest.mark.standalone_only


def healthcheck(*arguments):
    return subprocess.run(
        [binary(), "healthcheck", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def config(tmp_path):
    keys = psk_file(tmp_path / "psk", ["sn-1:30313233343536373839616263646566"])
    file = tmp_path / "gateway.toml"
    file.write_text(f"""
        [listeners.udp.default]
        bind = "0.0.0.0:{free_udp_port()}"
        [listeners.dtls.default]
        bind = "127.0.0.1:{free_udp_port()}"
        psk_file = {toml(str(keys))}
        [mqtt]
        bind = "127.0.0.1:{free_tcp_port()}"
    """)
    return file


def test_each_listener_is_asked(config):
    process = subprocess.Popen(
        [binary(), "run", "--config", config], stderr=subprocess.PIPE, text=True
    )
    try:
        for line in process.stderr:
            if "listening mqtt" in line:
                break
        done = healthcheck("--config", config)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    finally:
        process.kill()
        process.communicate()
    done = healthcheck("--config", config)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: listeners.udp.default, 127.0.0.1:")
    assert lines[1].startswith("error: listeners.dtls.default, 127.0.0.1:")


def test_one_that_is_silent(config):
    """The other one answers."""
    other = config.with_name("other.toml")
    text = config.read_text().split("[listeners.dtls.default]")
    mqtt = text[1].split("[mqtt]")[1]
    other.write_text(f"{text[0]}[mqtt]{mqtt}")
    process = subprocess.Popen(
        [binary(), "run", "--config", other], stderr=subprocess.PIPE, text=True
    )
    try:
        for line in process.stderr:
            if "listening mqtt" in line:
                break
        assert healthcheck("--config", other).returncode == 0
        done = healthcheck("--config", config)
        assert done.returncode == 1
        assert "listeners.dtls.default" in done.stderr and "listeners.udp" not in done.stderr
    finally:
        process.kill()
        process.communicate()


def test_a_configuration_that_is_wrong(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text("nonsense = 1\n")
    done = healthcheck("--config", file)
    assert done.returncode == 1 and "nonsense" in done.stderr
