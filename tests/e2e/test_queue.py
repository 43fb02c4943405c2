"""Queue mode: commands wait for a sleeping device."""

import time

import pytest

from coap import GET, TEXT

AWAKE = {"qmode_time_window": "1s"}


@pytest.fixture
def queue(gateway):
    return gateway(AWAKE)


MODES = {
    "1.0 UQ": ("1.0", ["b=UQ"]),
    "1.0 UQS": ("1.0", ["b=UQS"]),
    "1.1 Q": ("1.1", ["b=U", "Q"]),
    "1.2 Q without b": ("1.2", ["Q"]),
}


def read(bench, device, number):
    return bench.app.command(device.endpoint, "read", {"path": f"/3/0/{number}"})


@pytest.mark.parametrize("mode", MODES)
def test_delivered_in_order_on_wake_up(queue, mode):
    version, extra = MODES[mode]
    device = queue.registered(lwm2m=version, extra=extra)
    first = read(queue, device, 0)  # still awake
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "0", TEXT)
    queue.app.result(first)
    time.sleep(1.3)
    ids = [read(queue, device, number) for number in (1, 2, 3)]
    device.silence(0.5)
    device.update()
    for number in (1, 2, 3):
        device.reply(device.expect(GET, f"/3/0/{number}"), "2.05", str(number), TEXT)
    answers = [queue.app.result(request_id) for request_id in ids]
    assert [a.data["content"][0]["value"] for a in answers] == ["1", "2", "3"]
    assert [a.at for a in answers] == sorted(a.at for a in answers)


def test_others_are_always_awake(queue):
    device = queue.registered(extra=["b=U"])
    time.sleep(1.3)
    request_id = read(queue, device, 0)
    device.reply(device.expect(GET), "2.05", "x", TEXT)
    queue.app.result(request_id)


def test_a_notification_wakes_too(queue):
    device = queue.registered(extra=["Q"])
    request_id = queue.app.command(device.endpoint, "observe", {"path": "/3/0/9"})
    request = device.expect(GET)
    device.reply(request, "2.05", "1", TEXT, observe=1)
    queue.app.result(request_id)
    time.sleep(1.3)
    waiting = read(queue, device, 0)
    device.silence(0.3)
    device.notify(request, 2, "2")
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "x", TEXT)
    queue.app.result(waiting)


def test_expiry(queue):
    device = queue.registered(extra=["Q"])
    time.sleep(1.3)
    gone = queue.app.command(device.endpoint, "read", {"path": "/3/0/0"}, expiry=1)
    kept = queue.app.command(device.endpoint, "read", {"path": "/3/0/1"}, expiry=60)
    result = queue.app.result(gone, timeout=5)
    assert result.data["reason"] == "expired"
    device.update()
    device.reply(device.expect(GET, "/3/0/1"), "2.05", "x", TEXT)
    queue.app.result(kept, kind="read")
    device.silence(0.3)
    assert len(queue.app.results(gone)) == 1


def test_oldest_age(gateway):
    bench = gateway({**AWAKE, "queue.max_age": "1s"})
    device = bench.registered(extra=["Q"])
    time.sleep(1.3)
    request_id = read(bench, device, 0)
    assert bench.app.result(request_id, timeout=5).data["reason"] == "expired"


def test_overflow_is_answered(gateway):
    bench = gateway({**AWAKE, "queue.max_commands": 3})
    device = bench.registered(extra=["Q"])
    time.sleep(1.3)
    ids = [read(bench, device, number) for number in range(4)]
    result = bench.app.result(ids[3])
    assert result.data["reason"] == "queue_full"
    assert result.data["code"].startswith("5.") or result.data["code"].startswith("4.")
    device.update()
    for number in range(3):
        device.reply(device.expect(GET, f"/3/0/{number}"), "2.05", "x", TEXT)
    for request_id in ids[:3]:
        assert bench.app.result(request_id).data["code"] == "2.05"


def test_queue_survives_a_reregistration(queue):
    device = queue.registered(extra=["Q"])
    time.sleep(1.3)
    request_id = read(queue, device, 0)
    device.silence(0.2)
    device.new_address()
    device.register(extra=["Q"])
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "x", TEXT)
    queue.app.result(request_id)


def test_what_waits_for_a_device_that_leaves_is_answered(queue):
    device = queue.registered(extra=["Q"])
    time.sleep(1.3)
    request_id = read(queue, device, 0)
    device.silence(0.2)
    device.deregister()
    result = queue.app.result(request_id)
    assert result.data["code"].startswith("4.") and result.data["reason"]


def test_a_device_that_fell_asleep_early_gets_the_command_later(queue):
    """It announced queue mode and does not answer: the command times out once, no other is lost."""
    device = queue.registered(extra=["Q"])
    first, second = read(queue, device, 0), read(queue, device, 1)
    device.expect(GET, "/3/0/0")
    time.sleep(3)
    device.update()
    end = time.monotonic() + 8
    seen = []
    while time.monotonic() < end and len(queue.app.results(second)) == 0:
        try:
            request = device.expect(GET, timeout=0.5)
        except AssertionError:
            continue
        seen.append(request.path)
        device.reply(request, "2.05", "x", TEXT)
    assert queue.app.result(second, timeout=1).data["code"] == "2.05"
    assert len(queue.app.results(first)) == 1
