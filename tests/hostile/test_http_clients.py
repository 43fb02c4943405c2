"""Slow clients of the HTTP API, many of them, and what a notification costs meanwhile: instructions of
the shard. They hardly depend on what else the machine does: a lock that another thread has just then
costs some."""

import re
import shutil
import socket
import threading

import pytest

from coap import GET, TEXT
from application import Application
from device import Device
from gateway import Process, Standalone, accepts_tcp, free_tcp_port, wait_for

pytestmark = [
    pytest.mark.standalone_only,
    pytest.mark.udp_only,
    pytest.mark.alone,
    pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is absent"),
]

NOTIFICATIONS = 100
CLIENTS = 120


class UnderValgrind(Process):
    """Counts what is done from a datagram to its messages."""

    def __init__(self, command, **kwargs):
        counter = ["valgrind", "--tool=callgrind", "--toggle-collect=*Shard*::receive*"]
        super().__init__([*counter, f"--callgrind-out-file={self.counts}", *command], **kwargs)

    def wait_ready(self, check, timeout=120):
        super().wait_ready(check, timeout)


class SlowClients:
    """Requests that begin and do not end, bodies in drops, answers that nobody reads."""

    def __init__(self, address):
        self.over = threading.Event()
        self.socks = [socket.create_connection(address, 60) for _ in range(CLIENTS)]
        self.sent, kinds = 0, [
            b"GET /v1/devices HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
            b"POST /v1/devices/x/commands HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n{",
            b"GET /v1/config HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,
        ]
        for number, sock in enumerate(self.socks):
            sock.setblocking(False)
            sock.send(kinds[number % len(kinds)])
        self.thread = threading.Thread(target=self.drip, daemon=True)
        self.thread.start()

    def drip(self):
        while not self.over.wait(0.05):
            for sock in self.socks:
                try:
                    self.sent += sock.send(b"x")
                except OSError:
                    pass

    def close(self):
        self.over.set()
        self.thread.join()
        for sock in self.socks:
            sock.close()


def instructions(folder, slow):
    """Of a device that comes, is observed and notifies."""
    address = ("127.0.0.1", free_tcp_port())

    class Counted(Standalone, UnderValgrind):
        counts = folder / f"counts-{slow}"

    # Nothing is repeated, however long it takes here.
    settings = {"http.bind": "%s:%d" % address, "shards": "1", "coap.ack_timeout": '"60s"'}
    gateway = Counted({**settings, "coap.response_timeout": '"120s"'})
    app, clients = Application(gateway.mqtt), None
    device = Device(gateway, "counted")
    try:
        device.register(lt=86400, timeout=60)
        app.report(device.endpoint, timeout=60)
        wait_for(lambda: accepts_tcp(address), 60, "the API")
        if slow:
            clients = SlowClients(address)
        asked = app.command(device.endpoint, "observe", {"path": "/3303/0/5700"})
        request = device.expect(GET, timeout=60)
        device.reply(request, "2.05", "1", TEXT, observe=1)
        app.result(asked, timeout=60)
        for number in range(2, NOTIFICATIONS + 2):
            device.notify(request, number, str(number), TEXT)
            told = lambda: [it for it in app.results(asked) if it.type == "notify"]  # noqa: E731
            wait_for(lambda: len(told()) >= number - 1, 60, "a notification")  # noqa: B023
        if slow:
            assert clients.sent > CLIENTS
    finally:
        if clients:
            clients.close()
        device.close()
        app.close()
        gateway.stop(timeout=60)
    found = re.findall(r"^(?:totals|summary): (\d+)", Counted.counts.read_text(), re.M)
    total = int(found[-1])
    # The function is not found in a build that has put it into its caller.
    assert total > NOTIFICATIONS * 1000, "run `cargo build`"
    return total


def test_slow_clients_of_the_api_cost_devices_nothing(tmp_path):
    # What they cost is there each time; what comes by chance is not.
    alone, beside = float("inf"), float("inf")
    for _ in range(3):
        alone = min(alone, instructions(tmp_path, False))
        beside = min(beside, instructions(tmp_path, True))
        print(f"{alone / NOTIFICATIONS:.0f} and {beside / NOTIFICATIONS:.0f} instructions a notification")
        if beside < alone * 1.02:
            return
    pytest.fail(f"{beside / alone:.4f}")
