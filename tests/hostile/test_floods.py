"""Floods of each kind against a gateway in a process of 1 GB, beside ten honest devices: the process
lives, its memory stays below its ceiling, and each honest device gets every answer."""

import itertools
import time

import pytest

from application import Application
from flooding import Flood, Honest, Ten, reset_peak, status
from secure import fresh_identity

# What the gateway may account for, in a process of 1 GB.
ACCOUNT = 256 << 20
# What a process has beside it: the program, stacks, buffers of the broker, and what an allocator
# keeps in pieces.
BESIDE = 160 << 20

SETTINGS = {
    "limits.memory": '"256MB"',
    # As they are by default, not the short timers of the other tests.
    "coap.ack_timeout": '"2s"',
    "coap.max_retransmit": "4",
    # What floods leave behind goes within the test.
    "coap.exchange_lifetime": '"10s"',
    "blockwise.exchange_lifetime": '"10s"',
}

KIB = 1024

# Kind, where to, and options: `count` is a tenth of what `--slow` sends.
FLOODS = {
    "junk": ("junk", "udp", {"count": 100_000}),
    "pings": ("ping", "udp", {"count": 100_000}),
    "resets-and-acknowledgements": ("reset", "udp", {"count": 100_000}),
    "registers": ("register", "udp", {"count": 50_000}),
    "registers-of-60-kb": ("register", "udp", {"count": 20_000, "size": 60_000}),
    "first-blocks": ("register-blocks", "udp", {"count": 50_000}),
    "blocks-without-end": ("bodies-without-end", "udp", {"count": 50_000}),
    "updates": ("update", "udp", {"count": 50_000}),
    "sends": ("send", "udp", {"count": 50_000}),
    "sends-of-60-kb": ("send", "udp", {"count": 10_000, "size": 60_000}),
    "largest-datagrams": ("large", "udp", {"count": 10_000}),
    "hellos": ("hello", "dtls", {"count": 50_000}),
    "half-open-handshakes": ("half-open", "dtls", {"count": 5000}),
    "unknown-identities": ("unknown-identity", "dtls", {"count": 3000}),
    "wrong-keys": ("wrong-key", "dtls", {"count": 3000}),
    "commands": ("commands", "mqtt", {"count": 20_000}),
    "commands-of-64-kb": ("commands", "mqtt", {"count": 2000, "size": 64 * KIB}),
    "commands-of-1-mb": ("commands", "mqtt", {"count": 300, "size": 1000 * KIB}),
    "connects": ("connects", "mqtt", {"count": 5000}),
    "half-open-connections": ("half-open-connections", "mqtt", {"count": 400}),
}


class Ground:
    """A flooded gateway and what is seen of it."""

    # The next flood comes from another address.
    addresses = itertools.count(1)

    def __init__(self, arena, name, slow):
        self.gateway = arena.bench(SETTINGS)
        self.at_rest, self.slow = arena.at_rest, slow
        self.source = f"127.1.{next(self.addresses)}.1"
        self.ten = Ten(self.gateway, Application, name, self.source)
        self.floods = []

    def flood(self, kind, target, count, **options):
        if self.slow:
            count *= 10
        options = {"count": count, "seconds": 60 if self.slow else 2, **options}
        options["from"] = self.source
        flood = Flood(kind, getattr(self.gateway, target), **options)
        self.floods.append(flood)
        return flood

    def hold(self):
        """While the floods last the ten live on; then it is told how it went."""
        reset_peak(self.gateway.pid)
        self.ten.start()
        while not all(flood.over() for flood in self.floods):
            assert self.gateway.process.poll() is None, "the process has ended"
            time.sleep(0.05)
        results = [flood.result() for flood in self.floods]
        problems = self.ten.stop()
        died = self.gateway.process.poll()
        assert died is None, f"the process has ended: {died}\n{self.gateway.log()[-2000:]}"
        peak = status(self.gateway.pid, "VmHWM")
        print(
            f"{results}; {sum(r.rounds for r in self.ten.all)} rounds, "
            f"{sum(r.repeated for r in self.ten.all)} repetitions, "
            f"{sum(r.refused for r in self.ten.all)} refused, at most {peak >> 20} MB"
        )
        assert not problems, "\n".join(problems)
        assert peak - self.at_rest < ACCOUNT + BESIDE, f"{peak >> 20} MB"
        assert "panicked" not in self.gateway.log()
        return results

    def close(self):
        for flood in self.floods:
            flood.stop()
        self.ten.close()


@pytest.fixture
def ground(request, arena):
    made = []

    def make(name):
        made.append(Ground(arena, name, request.config.getoption("--slow")))
        return made[-1]

    yield make
    for ground in made:
        ground.close()


@pytest.mark.parametrize("which", FLOODS)
def test_c3_flood(ground, which):
    kind, target, options = FLOODS[which]
    if kind == "wrong-key":
        options = {**options, "name": fresh_identity()}
    field = ground(which)
    field.flood(kind, target, **options)
    assert field.hold()[0]["sent"] > 0


def observed(field, endpoint):
    """A device of the flood, observed by the application; its run."""
    flood = field.flood("notifications", "udp", 200_000, name=endpoint)
    flood.wait_for("registered")
    field.ten.app.command(endpoint, "observe", {"path": "/3303/0/5700"})
    return flood


def test_c3_flood_of_notifications(ground):
    field = ground("notifications")
    observed(field, "notifier")
    assert field.hold()[0]["sent"] > 1000


def test_c3_flood_of_notifications_to_slow_readers(ground):
    """Subscribers to everything that never read, while a device notifies at full rate."""
    field = ground("slow-readers")
    slow = field.flood("slow-readers", "mqtt", 20)
    slow.wait_for("subscribed")
    observed(field, "notifier-of-slow-readers")
    field.hold()


def test_c3_flood_of_large_commands_for_one_device(ground):
    """Commands of 64 kB for a device that does not answer."""
    field = ground("large-commands")
    device = Honest(field.gateway, "silent", source="127.0.0.10")
    device.register(extra=["b=UQ"])
    field.flood("commands", "mqtt", 2000, size=64 * KIB, name="silent")
    field.hold()
    device.close()


def test_a1_answers_without_end(ground):
    """Devices that answer every read by a first block, as fast as they are asked."""
    field = ground("answers-without-end")
    for number in range(4):
        flood = field.flood("answers-without-end", "udp", 1_000_000, name=f"endless-{number}")
        flood.wait_for("registered")
        for _ in range(10):
            field.ten.app.command(f"endless-{number}", "read", {"path": "/5/0/0"})
    results = field.hold()
    # Ten commands cause some requests each, not as many as there is time for.
    assert all(result["sent"] <= 10 * 32 for result in results), results


@pytest.mark.slow
def test_c3_a_million_registrations_from_one_address(ground):
    """They do not move the memory beyond its share."""
    field = ground("million")
    field.slow = False
    field.flood("register", "udp", 1_000_000, seconds=300)
    assert field.hold()[0]["sent"] == 1_000_000
