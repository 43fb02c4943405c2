"""Floods, the process that stands them, and the honest devices beside it."""

import json
import os
import resource
import subprocess
import threading
import time

from coap import GET, TEXT
from device import Device
from dtls import Refused, Session
from gateway import Mosquitto, newest
from secure import SecureDevice

# Memory and cores of a process that is flooded: what a small machine has for it.
LIMIT = 1 << 30
CORES = 2

# Ends what hangs: longer than a message that is repeated four times takes (MAX_TRANSMIT_WAIT of
# RFC 7252 section 4.8.2).
PATIENCE = 95


def restrict():
    """Of the process that is about to start."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def limited(host):
    """The same host in a process that has no more than a small machine."""

    class Limited(host):
        launch = {"preexec_fn": restrict}

        def __init__(self, settings=None, **options):
            if issubclass(host, Mosquitto):
                # What the broker keeps for subscribers that do not read is the broker's own.
                options["after"] = ["max_queued_messages 1000"]
            super().__init__(settings, **options)

    return Limited


def reset_peak(pid):
    """Begins VmHWM anew (proc(5), clear_refs)."""
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")


def status(pid, key):
    """Bytes of a line of /proc/PID/status, such as VmRSS, or VmHWM: the most there ever was."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1]) << 10
    raise AssertionError(f"no {key}")


class Flood:
    """A run of `examples/flood`."""

    def __init__(self, kind, to, **options):
        command = [newest("examples/flood"), kind, "--to", "%s:%d" % to]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def wait_for(self, word):
        """Until it says so."""
        line = self.process.stdout.readline().strip()
        assert line == word, f"{self.process.args}: {line}"

    def over(self):
        return self.process.poll() is not None

    def result(self):
        """What it has sent and received."""
        rest, _ = self.process.communicate(timeout=700)
        assert self.process.returncode == 0, f"{self.process.args}: {rest}"
        return json.loads(rest.splitlines()[-1])

    def stop(self):
        if not self.over():
            self.process.kill()
        self.process.wait()


class Repeating:
    """A device that repeats what is not answered as RFC 7252 section 4.2 has it: after two
    seconds first, four times at most."""

    repeated = 0

    def answer_to(self, message, timeout=None):
        for attempt in range(5):
            try:
                return super().answer_to(message, 2 << attempt)
            except AssertionError:
                if attempt == 4:
                    raise
            self.repeated += 1
            self.send(message)


class Honest(Repeating, Device):
    """Over plain UDP, from an address of its own."""

    def __init__(self, gateway, endpoint=None, source="127.0.0.1"):
        self.source = source
        super().__init__(gateway, endpoint)

    def connect(self):
        return bound(self.source, self.gateway.udp)


class HonestSecure(Repeating, SecureDevice):
    """Over DTLS."""

    def __init__(self, gateway, endpoint=None, source="127.0.0.1", **options):
        self.source = source
        super().__init__(gateway, endpoint, **options)

    def connect(self):
        for attempt in range(5):
            sock = bound(self.source, self.gateway.dtls)
            session = Session(self.gateway.dtls, self.identity, self.key, sock=sock)
            try:
                return session.handshake(PATIENCE)
            except (Refused, TimeoutError):
                # Its library gives up after the repetitions of one flight; a device tries again.
                session.close()
                self.repeated += 1
                if attempt == 4:
                    raise


def bound(source, to):
    import socket

    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((source, 0))
    sock.connect(to)
    return sock


class Resident:
    """An honest device in a thread: it updates and is read, over and over; or it comes and goes:
    registers, is read and says goodbye."""

    def __init__(self, gateway, app, endpoint, source, secure=False, comes_and_goes=False):
        self.gateway, self.app, self.endpoint, self.source = gateway, app, endpoint, source
        self.secure, self.comes_and_goes = secure, comes_and_goes
        self.rounds, self.repeated, self.refused, self.failure = 0, 0, 0, None
        self.device = None if comes_and_goes else self.arrive()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.live, daemon=True)

    def arrive(self):
        kind = HonestSecure if self.secure else Honest
        device = kind(self.gateway, self.endpoint, source=self.source)
        device.register()
        return device

    def live(self):
        try:
            while not self.stopped.is_set():
                self.round()
                self.rounds += 1
                time.sleep(0.05)
        except Exception as error:  # told by the test
            self.failure = f"{self}: {type(error).__name__}: {error}"

    def round(self):
        device = self.device or self.arrive()
        try:
            if self.device:
                device.update()
            while not self.is_read(device):
                self.refused += 1
                assert self.refused < 200, "its commands are refused without end"
            if not self.device:
                device.deregister()
        finally:
            self.repeated += device.repeated
            device.repeated = 0
            if not self.device:
                device.close()

    def is_read(self, device):
        """Whether a read was answered by the device; the gateway may refuse it (5.03) while
        commands of others are too many for it. It is answered in any case."""
        request_id = self.app.command(self.endpoint, "read", {"path": "/3/0/0"})
        end = time.monotonic() + PATIENCE
        while not self.app.results(request_id):
            device._receive(0.02)
            for request in [m for m in device.inbox if m.code == GET]:
                device.inbox.remove(request)
                # Its repetition is answered by itself.
                device.reply(request, "2.05", "well", TEXT)
            assert time.monotonic() < end, f"no answer to a read of {self.endpoint}"
        answer = self.app.results(request_id)[-1]
        assert answer.type == "read" and answer.data["code"] in ("2.05", "5.03"), answer
        return answer.data["code"] == "2.05"

    def __str__(self):
        how = "DTLS" if self.secure else "UDP"
        kind = "comes and goes" if self.comes_and_goes else "stays"
        return f"{self.endpoint} ({how} from {self.source}, {kind})"


# Source address (none: that of the flood), over DTLS, comes and goes.
TEN = [
    ("127.0.0.2", False, False),
    ("127.0.0.3", False, False),
    ("127.0.0.4", True, False),
    (None, False, False),
    (None, True, False),
    ("127.0.0.5", False, True),
    ("127.0.0.6", False, True),
    ("127.0.0.7", False, True),
    ("127.0.0.8", True, True),
    ("127.0.0.9", False, False),
]


class Ten:
    """Ten honest devices."""

    def __init__(self, gateway, make_application, name, flood_source):
        endpoints = [f"honest-{name}-{number}" for number in range(len(TEN))]
        self.app = make_application(
            gateway.mqtt, filters=[f"lwm2m/{endpoint}/#" for endpoint in endpoints]
        )
        self.all = [
            Resident(gateway, self.app, endpoint, source or flood_source, secure, comes)
            for endpoint, (source, secure, comes) in zip(endpoints, TEN)
        ]

    def start(self):
        for resident in self.all:
            resident.thread.start()

    def stop(self):
        """Each finishes its round; what went wrong."""
        for resident in self.all:
            resident.stopped.set()
        for resident in self.all:
            resident.thread.join(2 * PATIENCE)
        problems = [r.failure for r in self.all if r.failure]
        problems += [f"{r}: stuck" for r in self.all if r.thread.is_alive()]
        problems += [f"{r}: not one round" for r in self.all if not r.rounds and not r.failure]
        return problems

    def close(self):
        for resident in self.all:
            if resident.device:
                resident.device.close()
        self.app.close()
