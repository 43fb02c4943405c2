"""Nothing lost, in every host: what is there again after its process was stopped or killed."""

import time

import pytest

from application import Application
from coap import GET, POST, RST, TEXT
from device import Device
from gateway import HOSTS, Process, accepts_tcp, answers_ping

pytestmark = pytest.mark.udp_only


@pytest.fixture
def kept(request, tmp_path):
    """A gateway with a store, and how to start it again at the same addresses after a signal."""
    name = request.config.getoption("--host")
    options = {}
    if name == "mosquitto":
        # What waits for an application is there again as well.
        options["lines"] = [
            "persistence true",
            f"persistence_location {tmp_path}/",
            "autosave_on_changes true",
            "autosave_interval 1",
        ]
    settings = {
        "store.path": f'"{tmp_path}/store"',
        "qmode_time_window": '"1s"',
        "translators.response.qos": "1",
    }
    gateway = HOSTS[name](settings, **options)
    # Whether its broker keeps what is published while an application is away.
    gateway.keeps_sessions = name in ("mosquitto", "nif")

    def restart(number):
        gateway.process.send_signal(number)
        gateway.process.wait(15)
        Process.__init__(gateway, gateway.command)
        gateway.wait_ready(
            lambda: answers_ping(gateway.udp)
            and accepts_tcp(gateway.mqtt)
            and ("e2e_host" not in gateway.command or "subscribed" in gateway.log())
        )

    gateway.restart = restart
    yield gateway
    gateway.stop()
    assert "panicked" not in gateway.log()


def written():
    """Much longer than `store.sync`, for a machine that does something else as well."""
    time.sleep(1)


@pytest.mark.parametrize("number", [9, 15])
def test_devices_observations_and_queues(kept, number):
    awake, asleep = Device(kept), Device(kept)
    awake.register()
    asleep.register(extra=["b=U", "Q"])
    app = Application(kept.mqtt)
    observe = app.command(awake.endpoint, "observe", {"path": "/3303/0/5700"})
    request = awake.expect(GET)
    awake.reply(request, "2.05", "20", TEXT, observe=1)
    app.result(observe)
    time.sleep(1.2)
    waiting = [app.command(asleep.endpoint, "read", {"path": f"/3/0/{n}"}) for n in (0, 1)]
    asleep.silence(0.2)
    # The gateway has them, however busy the broker is.
    queue = app.result(app.command(asleep.endpoint, "list-queue")).data["content"]
    assert [it["reqID"] for it in queue] == waiting
    app.close()
    written()
    kept.restart(number)
    app = Application(kept.mqtt)
    awake.notify(request, 2, "21", TEXT)
    notification = app.wait(lambda m: m.type == "notify" and m.json["reqID"] == observe)
    assert notification.data["content"][0]["value"] == 21
    awake.silence(0.3, lambda m: m.type == RST)
    awake.update()
    asleep.silence(0.2)
    asleep.update()
    for request_id in waiting:
        asleep.reply(asleep.expect(GET), "2.05", "x", TEXT)
        assert "repeated" not in app.result(request_id).json
    app.close()
    awake.close()
    asleep.close()


def test_what_was_under_way(kept):
    """A read is done once more, an Execute never is, and is answered all the same."""
    reading, executing = Device(kept), Device(kept)
    for device in (reading, executing):
        device.register()
        device.update()
    session = {"client_id": "application", "clean": False} if kept.keeps_sessions else {}
    app = Application(kept.mqtt, **session)
    read = app.command(reading.endpoint, "read", {"path": "/3/0/0"})
    execute = app.command(executing.endpoint, "execute", {"path": "/3/0/4"})
    # Repetitions of these may still be on their way at the end.
    before = [reading.expect(GET).token, executing.expect(POST, "/3/0/4").token]
    app.close()
    written()
    kept.restart(9)
    app = Application(kept.mqtt, **session)
    if kept.keeps_sessions:
        answer = app.result(execute, kind="execute")
        assert (answer.data["code"], answer.data["reason"]) == ("5.04", "restarted")
        assert answer.json["repeated"] is True
    # Nobody waits for it any more.
    queue = app.result(app.command(executing.endpoint, "list-queue"))
    assert queue.data["content"] == []
    again = reading.expect(GET)
    while again.token in before:
        again = reading.expect(GET)
    reading.reply(again, "2.05", "x", TEXT)
    answer = app.result(read, kind="read")
    assert answer.data["code"] == "2.05" and answer.json["repeated"] is True
    executing.silence(1.0, lambda m: m.code == POST and m.token not in before)
    executing.update()
    app.close()
    reading.close()
    executing.close()
