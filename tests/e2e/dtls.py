"""DTLS 1.2 with a pre-shared key, made with `python-mbedtls`, over a UDP socket of the test's own.

The datagrams pass through the test's hands: `outgoing` and `incoming` may lose, repeat, reorder,
cut and keep them. A `Session` has the methods of a socket that `device.Device` uses, so a scripted
device runs over it.
"""

import os
import socket
import struct
import time

import pytest

from patience import patient

try:
    from mbedtls import exceptions, tls
except ImportError:
    tls = None

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CLIENT_HELLO, HELLO_VERIFY_REQUEST = 1, 3

CCM8 = "TLS-PSK-WITH-AES-128-CCM-8"
# The suites of the gateway and their names here; the last one is off by default.
SUITES = {
    "PSK-AES128-CCM8": CCM8,
    "PSK-AES128-CCM": "TLS-PSK-WITH-AES-128-CCM",
    "PSK-AES128-GCM-SHA256": "TLS-PSK-WITH-AES-128-GCM-SHA256",
    "ECDHE-PSK-CHACHA20-POLY1305": "TLS-ECDHE-PSK-WITH-CHACHA20-POLY1305-SHA256",
    "ECDHE-PSK-AES128-CBC-SHA256": "TLS-ECDHE-PSK-WITH-AES-128-CBC-SHA256",
    "PSK-AES128-CBC-SHA256": "TLS-PSK-WITH-AES-128-CBC-SHA256",
}

HEADER = struct.Struct("!BHHHIH")


def records(datagram):
    """The records of a datagram (RFC 6347 section 4.1), each with its header."""
    found = []
    while datagram:
        end = 13 + int.from_bytes(datagram[11:13], "big")
        found.append(datagram[:end])
        datagram = datagram[end:]
    return found


def record(kind, body, epoch=0, sequence=0, version=0xFEFD):
    return HEADER.pack(kind, version, epoch, sequence >> 32, sequence & 0xFFFFFFFF, len(body)) + body


def hello(cookie=b"", sequence=0, random=None, suites=(0xC0A8,), session=b""):
    """A ClientHello by hand (RFC 6347 section 4.2.2); 0xC0A8 is PSK with AES-128-CCM-8."""
    body = b"\xfe\xfd" + (random or os.urandom(32))
    body += bytes([len(session)]) + session + bytes([len(cookie)]) + cookie
    body += struct.pack("!H", 2 * len(suites)) + b"".join(struct.pack("!H", s) for s in suites)
    body += b"\x01\x00"
    length = len(body).to_bytes(3, "big")
    message = struct.pack("!H", sequence)
    handshake = bytes([CLIENT_HELLO]) + length + message + b"\0\0\0" + length + body
    return record(HANDSHAKE, handshake, sequence=sequence)


def cookie_of(datagram):
    """The cookie of a HelloVerifyRequest; None when it is something else."""
    if datagram[0] != HANDSHAKE or datagram[13] != HELLO_VERIFY_REQUEST:
        return None
    length = datagram[27]
    return datagram[28 : 28 + length]


class Refused(Exception):
    """The handshake or the session was ended by the gateway, with an alert."""


class Closed(Refused):
    """close_notify"""


def same(datagrams):
    return datagrams


class Session:
    def __init__(
        self,
        address,
        identity,
        key,
        suites=(CCM8,),
        sock=None,
        mtu=None,
        outgoing=same,
        incoming=same,
        together=False,
        configuration=None,
    ):
        """`together` puts the records of a flight into one datagram; a `configuration` is for a
        device without a pre-shared key."""
        if tls is None:
            pytest.skip("python-mbedtls is not installed")
        self.address, self.identity = address, identity
        self.outgoing, self.incoming, self.together = outgoing, incoming, together
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.udp = sock or socket.socket(family, socket.SOCK_DGRAM)
        self.udp.connect(address)
        configuration = configuration or tls.DTLSConfiguration(
            validate_certificates=False,
            pre_shared_key=(identity, key),
            ciphers=tuple(suites),
            lowest_supported_version=tls.DTLSVersion.DTLSv1_2,
            handshake_timeout_min=0.5,
            handshake_timeout_max=4,
        )
        self.buffer = tls.ClientContext(configuration).wrap_buffers(None)
        if mtu:
            self.buffer.setmtu(mtu)
        # All datagrams, for replays and for counting.
        self.sent, self.received = [], []
        self.messages = []
        self.closed = False
        self.timeout = 5.0

    # Datagrams

    def transmit(self, datagrams):
        for datagram in datagrams:
            self.sent.append(datagram)
            try:
                self.udp.send(datagram)
            except ConnectionRefusedError:
                pass

    def flush(self):
        data = self.buffer.peek_outgoing(len(self.buffer._output_buffer))
        if data:
            self.buffer.consume_outgoing(len(data))
            found = [data] if self.together else records(data)
            self.transmit(self.outgoing(found))

    def pump(self, timeout):
        """Gives the datagrams that come to the library; False when none came in time."""
        self.udp.settimeout(max(timeout, 0.001))
        try:
            datagram = self.udp.recv(65536)
        except (TimeoutError, BlockingIOError, ConnectionRefusedError):
            return False
        self.received.append(datagram)
        for datagram in self.incoming([datagram]):
            self.buffer.receive_from_network(datagram)
            if self.established:
                self._read()
        return True

    def _read(self):
        room = bytearray(1 << 14)
        while True:
            try:
                length = self.buffer.readinto(room, len(room))
            except (tls.WantReadError, tls.WantWriteError):
                return
            except tls.RaggedEOF:
                self.closed = True
                return
            except exceptions.TLSError as error:
                self.closed = True
                self.failure = error
                return
            finally:
                self.flush()
            self.messages.append(bytes(room[:length]))

    # The handshake

    @property
    def established(self):
        return self.buffer._handshake_state is tls.HandshakeStep.HANDSHAKE_OVER

    @property
    def suite(self):
        return self.buffer.cipher()

    def step(self, timeout=0.05):
        """Goes on until a datagram is needed, and waits for it."""
        while not self.established:
            try:
                self.buffer.do_handshake()
            except tls.WantWriteError:
                self.flush()
            except tls.WantReadError:
                self.flush()
                self.pump(timeout)
                return
            except exceptions.TLSError as error:
                self.flush()
                raise Refused(str(error)) from error
        self.flush()

    def handshake(self, timeout=None):
        timeout = timeout or patient(10)
        end = time.monotonic() + timeout
        while not self.established:
            if time.monotonic() > end:
                raise TimeoutError(f"no handshake of {self.identity} within {timeout} s")
            self.step()
        return self

    # As a socket

    def settimeout(self, timeout):
        self.timeout = timeout

    def send(self, message):
        if self.closed:
            raise Closed(self.identity)
        if message:
            self.buffer.write(message)
            self.flush()
        return len(message)

    def recv(self, size=65536):
        end = time.monotonic() + self.timeout
        while not self.messages:
            if self.closed:
                raise ConnectionRefusedError("the session is closed")
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.pump(left)
        return self.messages.pop(0)

    def expect_close(self, timeout=5.0):
        """The gateway ends the session."""
        timeout = patient(timeout)
        end = time.monotonic() + timeout
        while not self.closed:
            assert time.monotonic() < end, f"{self.identity}: no end within {timeout} s"
            self.pump(0.2)

    def shutdown(self):
        """Says goodbye: close_notify."""
        self.buffer.shutdown()
        self.flush()
        self.close()

    def close(self):
        """Is gone without a word."""
        self.udp.close()
