"""Devices over DTLS: credentials, scripted devices, `openssl s_client` as a transport."""

import hashlib
import itertools
import re
import socket
import subprocess
import tempfile
import time

import pytest

from device import Device
from dtls import Refused, Session
from gateway import Process, Standalone, accepts_tcp, free_udp_port, wait_for
from patience import patient

# Identities that devices of the tests take one after the other.
POOL = 4000
_pool = itertools.count()


def key_of(identity):
    """The key of an identity of the pool."""
    return hashlib.sha256(identity.encode()).digest()[:16]


def fresh_identity():
    number = next(_pool)
    assert number < POOL, "more devices than identities"
    return f"pool-{number:04}"


def pool_lines():
    return [f"pool-{number:04}:{key_of(f'pool-{number:04}').hex()}" for number in range(POOL)]


class SecureDevice(Device):
    """A scripted device over a DTLS session, established when it is made if not given."""

    def __init__(
        self, gateway, endpoint=None, identity=None, key=None, session=None, **options
    ):
        self.identity = session.identity if session else identity or fresh_identity()
        self.key = key or key_of(self.identity)
        self.session, self.options = session, options
        super().__init__(gateway, endpoint)

    def connect(self):
        if self.session:
            session, self.session = self.session, None
            return session
        return Session(self.gateway.dtls, self.identity, self.key, **self.options).handshake()


class OpensslDevice(Device):
    """The same over `openssl s_client`; `resume` is the file of an earlier session."""

    def __init__(
        self, gateway, endpoint=None, identity=None, suite="PSK-AES128-CCM8", arguments=()
    ):
        self.identity = identity or fresh_identity()
        self.key = key_of(self.identity)
        self.suite, self.arguments = suite, arguments
        super().__init__(gateway, endpoint)

    def connect(self):
        return SClient(
            self.gateway.dtls, self.identity, self.key, self.suite, self.arguments
        ).handshake()


class SClient:
    """`openssl s_client` behind two sockets that keep the bounds of messages."""

    def __init__(self, address, identity, key, suite, arguments=()):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.messages = ours
        self.output = tempfile.NamedTemporaryFile("w+", prefix="lwm2m-e2e-", suffix=".log")
        command = [
            *("openssl", "s_client", "-dtls1_2", "-connect", "%s:%d" % address, "-brief"),
            *("-psk", key.hex(), "-psk_identity", identity),
            *("-cipher", f"{suite}:@SECLEVEL=0", *arguments),
        ]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=self.output
        )
        theirs.close()

    def log(self):
        with open(self.output.name) as file:
            return file.read()

    def handshake(self, timeout=None):
        end = time.monotonic() + (timeout or patient(10))
        while "CONNECTION ESTABLISHED" not in self.log():
            assert self.process.poll() is None and time.monotonic() < end, self.log()
            time.sleep(0.02)
        return self

    @property
    def cipher(self):
        return re.search(r"Ciphersuite: (\S+)", self.log())[1]

    def settimeout(self, timeout):
        self.messages.settimeout(timeout)

    def send(self, message):
        return self.messages.send(message)

    def recv(self, size=65536):
        message = self.messages.recv(size)
        if not message:
            raise ConnectionRefusedError("s_client has ended")
        return message

    def ended(self, timeout=5):
        """Waits for its end, whoever wants it."""
        return self.process.wait(patient(timeout))

    def shutdown(self):
        """End of input: close_notify."""
        self.messages.shutdown(socket.SHUT_WR)
        self.process.wait(5)
        self.messages.close()

    def close(self):
        """Is gone without a word."""
        self.process.kill()
        self.process.wait()
        self.messages.close()


class Kept(Standalone):
    """A gateway with a store and DTLS, which comes back at the same addresses."""

    def __init__(self, directory, settings, keys=None):
        self.dtls = ("127.0.0.1", free_udp_port())
        settings = {
            "shards": "2",
            "listeners.dtls.default.bind": '"%s:%d"' % self.dtls,
            **settings,
        }
        if keys:
            settings["listeners.dtls.default.psk_file"] = f'"{keys}"'
        super().__init__(settings, arguments=["--store", str(directory)])
        self.arguments = self.command

    def restart(self, number, meanwhile=lambda: None):
        self.process.send_signal(number)
        self.process.wait(15)
        meanwhile()
        Process.__init__(self, self.arguments)
        self.wait_ready(lambda: accepts_tcp(self.mqtt) and "listening dtls" in self.log())


class Changes(dict):
    """How far the counters of a gateway have gone since this was made."""

    def __init__(self, gateway):
        self.gateway, self.before = gateway, gateway.statistics()
        self.look()

    def look(self):
        now = self.gateway.statistics()
        self.update({name: count - self.before.get(name, 0) for name, count in now.items()})
        return self

    def wait(self, name, count=1, timeout=10):
        """Waits until `name` has gone up by `count`."""
        timeout = patient(timeout)
        end = time.monotonic() + timeout
        while self.look()[name] < count:
            assert time.monotonic() < end, f"{name}: {self[name]} of {count} in {timeout} s"
            time.sleep(0.05)
        return self


def refused(bench, identity, key=None, timeout=3, **options):
    """No session comes of it."""
    with pytest.raises((Refused, TimeoutError)):
        Session(bench.gateway.dtls, identity, key or key_of(identity), **options).handshake(timeout)


def connects(bench, identity, key):
    """Until the change is seen."""

    def tried():
        try:
            Session(bench.gateway.dtls, identity, key).handshake(1).shutdown()
            return True
        except (Refused, TimeoutError):
            return False

    wait_for(tried, 20, f"connection of {identity}")
