"""A broker by hand (MQTT 3.1.1 and 5), for one client: every packet is under the test's control."""

import socket
import struct
import threading
import time

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    1, 2, 3, 4, 8, 9, 12, 13, 14,
)  # fmt: skip


def length_of(number):
    out = b""
    while True:
        number, byte = number >> 7, number & 127
        out += bytes([byte | (0x80 if number else 0)])
        if not number:
            return out


class Broker:
    """Serves one client after the other: answers CONNECT, SUBSCRIBE and PINGREQ, keeps what is
    published, and which of its own messages the client has acknowledged."""

    def __init__(self, port):
        self.address = ("127.0.0.1", port)
        self.published, self.acknowledged = [], []
        self.subscribed, self.disconnected = threading.Event(), threading.Event()
        self.changed = threading.Condition()
        self.server = socket.create_server(self.address)
        self.client, self.version, self.packet_id = None, 4, 0
        self.sending = threading.Lock()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self):
        self.server.close()
        if self.client:
            self.client.close()

    def send(self, first, body):
        with self.sending:
            self.client.sendall(bytes([first]) + length_of(len(body)) + body)

    def command(self, topic, payload):
        """A message of QoS 1 to the client; its packet id."""
        self.packet_id = self.packet_id % 65535 + 1
        topic = topic.encode()
        body = struct.pack("!H", len(topic)) + topic + struct.pack("!H", self.packet_id)
        self.send(PUBLISH << 4 | 2, body + (b"\0" if self.version == 5 else b"") + payload)
        return self.packet_id

    def serve(self):
        while True:
            try:
                self.client, _ = self.server.accept()
            except OSError:
                return
            stream = self.client.makefile("rb")
            try:
                while self.packet(stream):
                    pass
            except (OSError, ValueError):
                pass
            with self.changed:
                self.disconnected.set()
                self.changed.notify_all()

    def packet(self, stream):
        first = stream.read(1)
        if not first:
            return False
        length = shift = 0
        while True:
            byte = stream.read(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
        body = stream.read(length)
        kind = first[0] >> 4
        if kind == CONNECT:
            self.version = body[6]
            self.send(CONNACK << 4, b"\0\0" + (b"\0" if self.version == 5 else b""))
        elif kind == SUBSCRIBE:
            at, count = 2, 0
            if self.version == 5:
                at += 1 + body[at]
            while at < len(body):
                at += 3 + struct.unpack("!H", body[at : at + 2])[0]
                count += 1
            properties = b"\0" if self.version == 5 else b""
            self.send(SUBACK << 4, body[:2] + properties + b"\1" * count)
            self.subscribed.set()
        elif kind == PINGREQ:
            self.send(PINGRESP << 4, b"")
        elif kind == PUBLISH:
            qos, end = first[0] >> 1 & 3, 2 + struct.unpack("!H", body[:2])[0]
            topic, rest = body[2:end].decode(), body[end:]
            if qos:
                self.send(PUBACK << 4, rest[:2])
                rest = rest[2:]
            if self.version == 5:
                rest = rest[1 + rest[0] :]  # shorter than 128 bytes
            with self.changed:
                self.published.append((topic, rest, time.monotonic()))
                self.changed.notify_all()
        elif kind == PUBACK:
            with self.changed:
                self.acknowledged.append(struct.unpack("!H", body[:2])[0])
                self.changed.notify_all()
        return kind != DISCONNECT
