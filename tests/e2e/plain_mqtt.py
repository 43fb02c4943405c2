"""An MQTT client, of 3.1.1 or 5, that does the little it does by the book: one filter, commands of QoS 1, and
after a break everything again that was not acknowledged, behind its subscription; what was refused it sends anew."""

import collections
import json
import socket
import struct
import threading
import time

CONNACK, PUBLISH, PUBACK, SUBACK = 2, 3, 4, 9


def packet(first, body):
    length, size = b"", len(body)
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return bytes([first]) + length + body


def text(value):
    return struct.pack(">H", len(value)) + value.encode()


class PlainClient(threading.Thread):
    """Sends the commands that `send` is given; `answers` has what came back, by request id."""

    WINDOW = 200

    def __init__(self, address, client_id, filter, version=4):
        super().__init__(daemon=True)
        self.version = version
        # No properties, where there may be some.
        self.none = b"\0" if version == 5 else b""
        self.address, self.client_id, self.filter = address, client_id, filter
        self.lock = threading.Lock()
        self.waiting = collections.deque()
        self.unacknowledged = collections.OrderedDict()
        self.acknowledged = set()
        self.answers = {}
        self.done = False
        self.start()

    def send(self, number, topic, command):
        self.waiting.append((number, topic, json.dumps(command)))

    def close(self):
        self.done = True
        self.join(5)

    def run(self):
        while not self.done:
            try:
                with socket.create_connection(self.address, 1) as self.socket:
                    self.serve()
            except OSError:
                time.sleep(0.05)

    def serve(self):
        self.socket.settimeout(0.005)
        self.buffer, self.output = b"", bytearray()
        flags = 0  # the session is kept
        header = text("MQTT") + bytes([self.version, flags, 0, 60])
        expiry = b"\x05\x11\0\0\x0e\x10" if self.version == 5 else b""
        self.write(packet(0x10, header + expiry + text(self.client_id)))
        self.expect(CONNACK)
        self.write(packet(0x82, b"\xff\xff" + self.none + text(self.filter) + b"\x01"))
        self.expect(SUBACK)
        for identifier, message in self.unacknowledged.items():
            self.publish(identifier, message, again=True)
        while not self.done:
            self.flush()
            while self.waiting and len(self.unacknowledged) < self.WINDOW:
                message = self.waiting.popleft()
                identifier = message[0] % 60_000 + 1
                self.unacknowledged[identifier] = message
                self.publish(identifier, message)
            for kind, first, body in self.read():
                self.handle(kind, first, body)

    def publish(self, identifier, message, again=False):
        _, topic, payload = message
        body = text(topic) + struct.pack(">H", identifier) + self.none + payload.encode()
        self.write(packet(0x3A if again else 0x32, body))

    def handle(self, kind, first, body):
        if kind == PUBACK:
            message = self.unacknowledged.pop(struct.unpack(">H", body[:2])[0], None)
            if message and len(body) > 2 and body[2] >= 0x80:
                self.waiting.append(message)
            elif message:
                self.acknowledged.add(message[0])
        elif kind == PUBLISH:
            length = struct.unpack(">H", body[:2])[0]
            payload = body[2 + length :]
            if first & 6:
                self.write(packet(0x40, payload[:2]))
                payload = payload[2:]
            if self.version == 5:
                payload = payload[1 + payload[0] :]
            answer = json.loads(payload)
            self.answers[answer.get("reqID")] = answer

    def expect(self, wanted):
        end = time.monotonic() + 5
        while time.monotonic() < end:
            self.flush()
            packets = self.read()
            for kind, first, body in packets:
                self.handle(kind, first, body)
            if any(kind == wanted for kind, _, _ in packets):
                return
        raise OSError("no answer")

    def write(self, data):
        self.output += data

    def flush(self):
        if self.output:
            self.socket.settimeout(5)
            self.socket.sendall(self.output)
            self.socket.settimeout(0.005)
            self.output = bytearray()

    def read(self):
        """The packets that are here."""
        try:
            some = self.socket.recv(1 << 16)
        except TimeoutError:
            return []
        if not some:
            raise OSError("closed")
        self.buffer += some
        packets, begin = [], 0
        while begin < len(self.buffer):
            size, at = 0, begin + 1
            while at < len(self.buffer):
                size |= (self.buffer[at] & 127) << 7 * (at - begin - 1)
                at += 1
                if not self.buffer[at - 1] & 128:
                    break
            else:
                break
            if len(self.buffer) < at + size:
                break
            first = self.buffer[begin]
            packets.append((first >> 4, first, self.buffer[at : at + size]))
            begin = at + size
        self.buffer = self.buffer[begin:]
        return packets
