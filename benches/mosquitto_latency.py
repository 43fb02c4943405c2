"""How long a command takes through Mosquitto and its plugin to the device, and the answer back.

    python benches/mosquitto_latency.py [--rate 200] [--seconds 20] [--wakeup auto] [--devices 50]
    python benches/mosquitto_latency.py --wakeup eventfd,signal --rounds 5    # side by side, in turns

An MQTT client and the devices are sockets of this one process, so all times are of one clock.
"direct" is a datagram of the same size from socket to socket: what no gateway can do better than.
Needs a build of the library (`cargo build --release --no-default-features --lib`) and mosquitto.
"""

import argparse
import gc
import json
import pathlib
import select
import socket
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/e2e"))

from coap import ACK, CON, CONTENT_FORMAT, Message, uint  # noqa: E402
from device import Device  # noqa: E402
from gateway import Mosquitto  # noqa: E402


class Mqtt:
    """An MQTT 3.1.1 client of QoS 0 that adds nothing to what is measured."""

    def __init__(self, address):
        self.sock = socket.create_connection(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.write(0x10, self.text("MQTT") + b"\x04\x02\x00\x00" + self.text("latency"))
        self.write(0x82, b"\x00\x01" + self.text("lwm2m/+/up/#") + b"\x00")
        while not any(kind == 0x90 for kind, _ in self.read()):
            pass

    @staticmethod
    def text(text):
        return len(text).to_bytes(2, "big") + text.encode()

    def write(self, kind, body):
        length, head = len(body), bytes([kind])
        while True:
            length, byte = length >> 7, length & 0x7F
            head += bytes([byte | (0x80 if length else 0)])
            if not length:
                break
        self.sock.sendall(head + body)

    def publish(self, topic, payload):
        self.write(0x30, self.text(topic) + payload)

    def read(self):
        """The packets that are there: kind and body."""
        self.buffer += self.sock.recv(65536)
        packets = []
        while len(self.buffer) >= 2:
            length, at, shift = 0, 1, 0
            while at < len(self.buffer):
                byte = self.buffer[at]
                length |= (byte & 0x7F) << shift
                at, shift = at + 1, shift + 7
                if not byte & 0x80:
                    break
            if len(self.buffer) < at + length:
                break
            packets.append((self.buffer[0] & 0xF0, self.buffer[at : at + length]))
            self.buffer = self.buffer[at + length :]
        return packets


def measure(gateway, rate, seconds, count):
    mqtt = Mqtt(gateway.mqtt)
    devices = [Device(gateway, f"latency{index}") for index in range(count)]
    for device in devices:
        device.register(lt=3600)
        device.sock.setblocking(False)
    by_socket = {device.sock: index for index, device in enumerate(devices)}
    poller = [mqtt.sock, *by_socket]
    sent, down, up, answered_at = {}, [], [], {}
    start, number, used = time.perf_counter(), 0, cpu(gateway)
    end = start + seconds
    while True:
        now = time.perf_counter()
        due = start + number / rate
        if now >= end + 1:
            break
        if now < end and now >= due:
            index = number % count
            command = {"reqID": index, "msgType": "read", "data": {"path": "/3/0/0"}}
            payload = json.dumps(command).encode()
            sent[index] = time.perf_counter()
            mqtt.publish(f"lwm2m/latency{index}/dn", payload)
            number += 1
            continue
        timeout = max(0, (due if now < end else end + 1) - now)
        readable, _, _ = select.select(poller, [], [], timeout)
        at = time.perf_counter()
        for sock in readable:
            if sock is mqtt.sock:
                for kind, body in mqtt.read():
                    message = json.loads(body[2 + int.from_bytes(body[:2], "big") :])
                    since = answered_at.pop(message.get("reqID"), None)
                    if kind == 0x30 and message.get("msgType") == "read" and since:
                        up.append(at - since)
                continue
            index = by_socket[sock]
            request = Message.decode(sock.recv(2048))
            if request.type != CON:
                continue
            if index in sent:
                down.append(at - sent.pop(index))
            answer = Message(ACK, 0x45, request.mid, request.token, payload=b"ACME")
            answer.options.append((CONTENT_FORMAT, uint(0)))
            answered_at[index] = time.perf_counter()
            sock.send(answer.encode())
    return number, down, up, (cpu(gateway) - used) / max(number, 1)


def cpu(gateway):
    """Seconds of CPU that all threads of the broker have used, to the microsecond or so."""
    tasks = pathlib.Path(f"/proc/{gateway.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def direct(rate, seconds):
    """A datagram from socket to socket."""
    a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    b.bind(("127.0.0.1", 0))
    a.connect(b.getsockname())
    times = []
    for _ in range(rate * seconds):
        start = time.perf_counter()
        a.send(bytes(60))
        select.select([b], [], [], 1)
        times.append(time.perf_counter() - start)
        b.recv(100)
        time.sleep(1 / rate)
    return times


PARTS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1}


def quantiles(times):
    """In microseconds."""
    times = sorted(times) or [0]
    last = len(times) - 1
    return {name: 1e6 * times[min(last, int(len(times) * part))] for name, part in PARTS.items()}


def show(name, times):
    cells = "".join(f"{value:>9.0f}" for value in quantiles(times).values())
    print(f"{name:12}{len(times):>9}{cells}")


def run(options, wakeup):
    """One broker from start to end."""
    gateway = Mosquitto({"wakeup": wakeup, "sys_interval": "10s"}, lines=["connection_messages false"])
    try:
        time.sleep(0.5)
        return measure(gateway, options.rate, options.seconds, options.devices)
    finally:
        gateway.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=200, help="commands a second")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--wakeup", default="auto", help="one way, or several with commas")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each way, in turns")
    options = parser.parse_args()
    gc.disable()  # its pauses would be measured
    ways = options.wakeup.split(",")
    medians = {way: [] for way in ways}
    head = "".join(f"{name:>9}" for name in PARTS)
    for _ in range(options.rounds):
        for way in ways:
            number, down, up, used = run(options, way)
            print(f"{number} commands at {options.rate}/s, wakeup {way}, microseconds:")
            print(f"{'':12}{'number':>9}{head}")
            show("command", down)
            show("answer", up)
            print(f"CPU of the broker: {1e6 * used:.1f} us a command and its answer", flush=True)
            figures = [1e6 * used, *(quantiles(x)[p] for x in (down, up) for p in ("p50", "p99"))]
            medians[way].append(figures)
    show("direct", direct(options.rate, 5))
    if len(ways) > 1 or options.rounds > 1:
        print("medians:    CPU a command, command p50, p99, answer p50, p99")
        for way, runs in medians.items():
            print(f"{way:12}", *(f"{statistics.median(column):.0f}" for column in zip(*runs)))


if __name__ == "__main__":
    main()
