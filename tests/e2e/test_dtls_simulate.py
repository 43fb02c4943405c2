"""`lwm2m-gateway simulate` over DTLS, alone and in thousands."""

import re
import signal
import subprocess

import pytest

from dtls import SUITES
from gateway import Process, binary, wait_for
from secure import Changes, fresh_identity, key_of

pytestmark = pytest.mark.standalone_only  # they read its counters

FLEET = "000102030405060708090a0b0c0d0e0f"


@pytest.fixture
def simulate(programs):
    def start(bench, *arguments):
        command = [binary(), "simulate", "--server", "coaps://%s:%d" % bench.gateway.dtls]
        program = Process([*command, *map(str, arguments)])
        programs.append(program)
        return program

    return start


@pytest.fixture
def fleet(secure):
    """Any number of devices with one key."""
    return secure({"identity_separator": "#"}, psk=[f"fleet:{FLEET}"])


def run(bench, endpoint, kind, **data):
    return bench.app.result(bench.app.command(endpoint, kind, data), timeout=20)


@pytest.mark.parametrize("suite", SUITES)
def test_one_device(secure, simulate, suite):
    bench, identity = secure(), fresh_identity()
    changes = Changes(bench.gateway)
    program = simulate(
        bench,
        *("--psk-identity", identity, "--psk-key", key_of(identity).hex()),
        *("--ciphers", suite, "--endpoint-prefix", f"{identity}-", "--notify-every", "0.2"),
    )
    endpoint = f"{identity}-0"
    bench.app.report(endpoint)
    assert run(bench, endpoint, "read", path="/3/0").data["code"] == "2.05"
    request_id = bench.app.command(endpoint, "observe", {"path": "/3303/0"})

    def notifications():
        return [m for m in bench.app.results(request_id) if m.type == "notify"]

    wait_for(lambda: len(notifications()) >= 3, 10, "notifications")
    assert program.stop(signal.SIGINT) == 0
    log = program.log()
    assert "registered 1 of 1" in log and "errors 0, handshakes 1, connections lost 0" in log, log
    # It says goodbye in both protocols.
    wait_for(lambda: changes.look()["dtls_sessions"] == 0, 5, "end of the session")
    assert changes["deregistered"] == 1 and changes["dtls_handshakes_completed"] == 1


def test_the_endpoint_name_is_the_identity(secure, simulate):
    bench = secure({"endpoint_rule": "equal"})
    identity = fresh_identity()
    prefix = identity[:-1]
    program = simulate(bench, "--endpoint-prefix", prefix, "--psk-file", bench.psk_file)
    bench.app.report(prefix + "0")
    assert program.stop() == 0


def test_refused(secure, simulate):
    bench = secure()
    program = simulate(bench, "--psk-identity", "nobody", "--psk-key", "00ff")
    wait_for(lambda: "registered 0 of 1" in program.log(), 10, "failure")
    assert program.stop() != 0
    assert re.search(r"errors \d+, handshakes 0, connections lost [1-9]\d* \(", program.log())


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ((), "needs --psk-key, --psk-file or --cert"),
        (("--psk-key", "xyz"), "not hexadecimal"),
        (("--psk-key", "00", "--ciphers", "none-such"), "none-such"),
        (("--psk-file", "/nonexistent"), "/nonexistent"),
        (("--psk-key", "00", "--server", "coap://127.0.0.1"), "need --server coaps://"),
    ],
)
def test_mistakes(arguments, reason):
    command = [binary(), "simulate", "--server", "coaps://127.0.0.1:9", *arguments]
    if "--server" in arguments:
        del command[2:4]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert done.returncode != 0 and reason in done.stderr, done.stderr


def test_a_new_session_after_the_end_of_the_old_one(fleet, simulate):
    """The device reconnects when it has something to say, and stays registered."""
    program = simulate(
        fleet,
        *("--psk-identity", "fleet#again", "--psk-key", FLEET),
        *("--endpoint-prefix", "again-", "--lifetime", 3),
    )
    fleet.app.report("again-0")
    changes = Changes(fleet.gateway)
    key = bytes.fromhex(FLEET)
    rival = fleet.device("rival", identity="fleet#again", key=key)
    changes.wait("updated", 2)
    assert changes["sessions_displaced"] >= 2 and changes["registered"] == 0
    rival.sock.expect_close()
    assert program.stop() == 0


@pytest.mark.alone
def test_thousands_of_sessions(fleet, simulate, record_property):
    count = 5000
    changes = Changes(fleet.gateway)
    before = fleet.gateway.memory()
    program = simulate(
        fleet,
        *("--devices", count, "--endpoint-prefix", "many-", "--objects", "3"),
        *("--psk-identity", "fleet#{}", "--psk-key", FLEET, "--lifetime", 3600),
    )
    wait_for(lambda: f"registered {count} of {count}" in program.log(), 60, "registrations")
    changes.look()
    assert changes["dtls_sessions"] == changes["registrations"] == count, changes
    assert changes["dtls_sessions_evicted"] == 0 and changes["dtls_send_failed"] == 0
    each = (fleet.gateway.memory() - before) / count
    record_property("bytes_per_session", round(each))
    print(f"{each / 1000:.1f} kB of resident memory for a session with its registration")
    assert each < 100_000
    for number in range(0, count, 50):
        result = run(fleet, f"many-{number}", "read", path="/3/0/0")
        assert result.data["code"] == "2.05"
    assert program.stop(timeout=60) == 0
    assert re.search(rf"registered {count} of {count} .* errors 0, handshakes {count}", program.log())
    changes.wait("deregistered", count)
    wait_for(lambda: changes.look()["dtls_sessions"] == 0, 20, "end of the sessions")
