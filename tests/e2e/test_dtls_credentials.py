"""PSK files that change while the gateway runs, and what becomes of devices then."""

import subprocess

import pytest

from conftest import needs
from dtls import Session
from gateway import binary, wait_for
from secure import Changes, OpensslDevice, connects, fresh_identity, key_of, refused

pytestmark = pytest.mark.standalone_only  # they read its counters


def rewrite(bench, lines):
    """As an editor does it: a new file in the place of the old one."""
    new = bench.psk_file.with_suffix(".new")
    new.write_text("\n".join(lines) + "\n")
    new.chmod(0o600)
    new.replace(bench.psk_file)


def test_a_changed_psk_file(secure):
    keys = {name: (name * 16)[:16].encode() for name in ("old", "kept", "new", "next")}
    line = {name: f"{name}:{key.hex()}" for name, key in keys.items()}
    bench = secure({"dtls_options.handshake_timeout": "1s"}, psk=[line["old"], line["kept"]])
    old = bench.device(identity="old", key=keys["old"])
    kept = bench.device(identity="kept", key=keys["kept"])
    for device in (old, kept):
        device.register()
    refused(bench, "new", keys["new"], timeout=1)
    rewrite(bench, [line["kept"], line["new"]])
    old.sock.expect_close(20)
    connects(bench, "new", keys["new"])
    kept.update()
    refused(bench, "old", keys["old"], timeout=1)
    # A new key for a known identity: the session of the old one ends.
    rewrite(bench, [f"kept:{keys['next'].hex()}", "a bad line", line["new"]])
    kept.sock.expect_close(20)
    connects(bench, "kept", keys["next"])
    refused(bench, "kept", keys["kept"], timeout=2)
    assert "2" in [m for m in bench.gateway.log().splitlines() if "line" in m][-1]


def test_a_key_that_is_added(secure):
    """`psk add` at a running gateway."""
    bench = secure(psk=[f"first:{'11' * 16}"])
    refused(bench, "second", b"\x22" * 16, timeout=1)
    command = [binary(), "psk", "add", "--file", bench.psk_file, "second", "--key", "22" * 16]
    subprocess.run(command, check=True, timeout=10)
    connects(bench, "second", b"\x22" * 16)
    bench.device(identity="first", key=b"\x11" * 16).register()


def read_again(bench):
    return bench.gateway.log().count("PSK file reloaded")


@needs("openssl")
def test_a_new_device_disturbs_nobody(secure, tmp_path):
    """Handshakes go on, and sessions can still be resumed, when an identity was added."""
    known, key = fresh_identity(), b"0123456789abcdef"
    lines = [f"{known}:{key_of(known).hex()}", f"slow:{key.hex()}"]
    bench = secure(psk=lines)
    file = str(tmp_path / "session")
    device = OpensslDevice(bench.gateway, identity=known, arguments=("-sess_out", file))
    bench.devices.append(device)
    device.register()
    slow = Session(bench.gateway.dtls, "slow", key)
    changes = Changes(bench.gateway)
    while not changes.look()["dtls_handshakes_started"]:
        slow.step(0.2)
    rewrite(bench, [*lines, f"new:{key.hex()}"])
    wait_for(lambda: read_again(bench), 20, "the changed file")
    works = slow.handshake(5)
    works.close()
    device.arguments = ("-sess_in", file)
    device.new_address()
    changes.wait("dtls_handshakes_resumed")
    device.update()
    # A key that is gone takes this possibility from all of them.
    rewrite(bench, lines)
    wait_for(lambda: read_again(bench) == 2, 20, "the changed file")
    changes.look()
    device.arguments = ("-sess_in", file)
    device.new_address()
    device.update()
    assert changes.look()["dtls_handshakes_resumed"] == 1


def test_other_endpoints_count_at_once(secure):
    """A mistake in the list is corrected while the device keeps trying over its session."""
    key = b"0123456789abcdef"
    bench = secure({"endpoint_rule": "listed"}, psk=[f"car:{key.hex()}:car-1"])
    device = bench.device("car-2", identity="car", key=key)
    device.register(expect="4.03")
    rewrite(bench, [f"car:{key.hex()}:car-1,car-2"])

    def permitted():
        try:
            return device.register()
        except AssertionError:  # 4.03
            return None

    wait_for(permitted, 20, "registration")
    assert bench.gateway.statistics()["dtls_handshakes_completed"] == 1
