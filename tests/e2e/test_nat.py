"""Devices behind NAT: connection ids (RFC 9146), by which a device is known wherever it comes from."""

import re
import signal
import time

import pytest

from application import Application
from patience import patient
from gateway import Process, binary, wait_for
from conftest import psk_file
from secure import Changes, Kept

# What is sent to a device that has just moved goes where it was, until it speaks.
PATIENT = {"coap.max_retransmit": 5}

FLEET = "000102030405060708090a0b0c0d0e0f"


@pytest.fixture
def fleet(secure):
    """Any number of devices with one key, in two shards."""
    settings = {"shards": 2, **PATIENT}
    return secure({"identity_separator": "#"}, psk=[f"fleet:{FLEET}"], settings=settings)


@pytest.fixture
def simulate(programs, fleet):
    def start(prefix, count, *arguments):
        command = [
            *(binary(), "simulate", "--server", "coaps://%s:%d" % fleet.gateway.dtls),
            *("--psk-identity", "fleet#%s{}" % prefix, "--psk-key", FLEET),
            *("--endpoint-prefix", prefix, "--devices", str(count), "--objects", "3,3303"),
            *("--lifetime", "3600", *map(str, arguments)),
        ]
        program = Process(command)
        programs.append(program)
        wait_for(lambda: f"registered {count} of {count}" in program.log(), 60, "registrations")
        return program

    return start


def summary(program):
    assert program.stop(timeout=30) == 0, program.log()
    found = re.search(r"errors (\d+)(?:, sends \d+)?(?:, ports changed (\d+))?, handshakes (\d+), connections lost (\d+)", program.log())
    assert found, program.log()
    errors, moves, handshakes, lost = (int(number or 0) for number in found.groups())
    return {"errors": errors, "moves": moves, "handshakes": handshakes, "lost": lost}


def notifications(bench, request_id):
    return [m for m in bench.app.results(request_id) if m.type == "notify"]


def read(bench, endpoint):
    request = bench.app.command(endpoint, "read", {"path": "/3/0/0"})
    return bench.app.result(request, timeout=20).data["code"]


def test_devices_that_move_all_the_time(fleet, simulate):
    """Each speaks from another port every half a second: no handshake, no Update, nothing lost."""
    count = 20
    program = simulate("mover-", count, "--rebind-every", 0.5, "--notify-every", 0.2, "--send-every", 0.2)
    observed = [
        fleet.app.command(f"mover-{n}", "observe", {"path": "/3303/0/5700"}) for n in range(count)
    ]
    for request in observed:
        wait_for(lambda: len(notifications(fleet, request)) >= 15, 20, "notifications")
    # Where a device was when it spoke last is where it gets its commands.
    for n in range(count):
        assert read(fleet, f"mover-{n}") == "2.05"
    for request in observed:
        seen = len(notifications(fleet, request))
        wait_for(lambda: len(notifications(fleet, request)) > seen, 10, "further notifications")
    done = summary(program)
    assert (done["handshakes"], done["lost"], done["errors"]) == (count, 0, 0), done
    assert done["moves"] >= 5 * count, done


@pytest.mark.standalone_only  # reads its counters
def test_a_sleeping_device_is_reached_at_its_new_address(fleet, simulate):
    changes = Changes(fleet.gateway)
    arguments = ("--queue-mode", "--awake", 0.3, "--sleep", 1.5, "--rebind-every", 1.1)
    program = simulate("sleeper-", 2, *arguments, "--notify-every", 0)
    for moves in (1, 2, 4):
        changes.wait("dtls_moves", moves)
        assert read(fleet, "sleeper-1") == "2.05"
    done = summary(program)
    assert (done["handshakes"], done["lost"]) == (2, 0), done
    changes.look()
    assert changes["dtls_handshakes_completed"] == 2


@pytest.mark.standalone_only  # reads its counters
def test_without_ids_a_new_port_is_a_stranger(fleet, simulate):
    changes = Changes(fleet.gateway)
    program = simulate(
        "old-", 1, "--no-connection-ids", "--rebind-every", 0.5, "--notify-every", 0.1
    )
    fleet.app.command("old-0", "observe", {"path": "/3303/0/5700"})
    changes.wait("dtls_unknown_peer", 3)
    assert changes["dtls_moves"] == 0
    program.stop(timeout=30)


def observed(app, endpoint):
    """Whether its value is observed; a device that has just moved may be missed once."""
    request = app.command(endpoint, "observe", {"path": "/3303/0/5700"})
    return app.result(request, timeout=30).data.get("code") == "2.05"


def notifying(app):
    """Whose notifications came: the endpoint is in the topic."""
    return {m.topic.split("/")[1] for m in app.all(lambda m: m.type == "notify")}


@pytest.mark.standalone_only  # stops and starts it
@pytest.mark.parametrize("number, sealed", [(signal.SIGKILL, True), (signal.SIGTERM, False)])
def test_sessions_survive_a_restart(tmp_path, programs, number, sealed):
    count = 50
    settings = {"listeners.dtls.default.identity_separator": '"#"', **PATIENT}
    if sealed:
        key = tmp_path / "key"
        key.write_text("any text that nobody guesses\n")
        key.chmod(0o600)
        settings["store.key_file"] = f'"{key}"'
    gateway = Kept(tmp_path / "store", settings, psk_file(tmp_path / "psk", [f"fleet:{FLEET}"]))
    programs.append(gateway)
    program = Process(
        [
            *(binary(), "simulate", "--server", "coaps://%s:%d" % gateway.dtls),
            *("--psk-identity", "fleet#{}", "--psk-key", FLEET, "--endpoint-prefix", "kept-"),
            *("--devices", str(count), "--objects", "3,3303", "--lifetime", "3600"),
            *("--notify-every", "0.3", "--rebind-every", "0.7", "--con-notify"),
            # A device that has moved and says nothing is not reached by anybody.
            *("--send-every", "0.3"),
        ]
    )
    programs.append(program)
    wait_for(lambda: f"registered {count} of {count}" in program.log(), 60, "registrations")
    app = Application(gateway.mqtt)
    for n in range(count):
        wait_for(lambda: observed(app, f"kept-{n}"), 60, "observation")
    app.close()
    time.sleep(patient(1))  # longer than `store.sync`
    for _ in range(2):
        gateway.restart(number)
        app = Application(gateway.mqtt)
        # They speak, from other ports than before, and are understood.
        wait_for(lambda: len(notifying(app)) == count, 20, "notifications of all")
        for n in range(0, count, 5):
            request = app.command(f"kept-{n}", "read", {"path": "/3/0/0"})
            assert app.result(request, timeout=20).data["code"] == "2.05"
        app.close()
    done = summary(program)
    assert (done["handshakes"], done["lost"]) == (count, 0), done
