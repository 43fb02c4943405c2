"""Observations and notifications (RFC 7641)."""

import time

import pytest

from coap import ACK, CON, GET, NON, OBSERVE, PUT, TEXT, TLV, resource
from patience import patient


@pytest.fixture
def device(bench):
    return bench.registered()


def observe(bench, device, path="/3/0/9", value="100", sequence=1, **keys):
    """Observes; returns the device's end of it and the request id."""
    request_id = bench.app.command(device.endpoint, "observe", {"path": path}, **keys)
    request = device.expect(GET, path)
    assert request.uint(OBSERVE) == 0
    device.reply(request, "2.05", value, TEXT, observe=sequence)
    bench.app.result(request_id, kind="observe")
    return request, request_id


def notifications(bench, request_id):
    return [m for m in bench.app.results(request_id) if m.type == "notify"]


def wait_for(bench, request_id, count, timeout=5):
    end = time.monotonic() + patient(timeout)
    while len(notifications(bench, request_id)) < count and time.monotonic() < end:
        time.sleep(0.02)
    found = notifications(bench, request_id)
    assert len(found) == count, found
    return found


def values(messages):
    return [m.data["content"][0]["value"] for m in messages]


def test_first_answer(bench, device):
    request, request_id = observe(bench, device, sequence=0, cacheID=7)
    assert 1 <= len(request.token) <= 8
    answer = bench.app.result(request_id)
    assert answer.topic == f"lwm2m/{device.endpoint}/up/resp"
    assert answer.json == {
        "reqID": request_id,
        "cacheID": 7,
        "msgType": "observe",
        "data": {
            "reqPath": "/3/0/9",
            "code": "2.05",
            "codeMsg": "content",
            "content": [{"path": "/3/0/9", "value": 100}],
        },
    }


def test_a_silent_observation_is_asked_for_again(bench, device):
    """`pmax` was set through the gateway, and has passed twice."""
    request_id = bench.app.command(device.endpoint, "write-attr", {"path": "/3/0/9", "pmax": "1"})
    device.reply(device.expect(PUT, "/3/0/9"), "2.04")
    bench.app.result(request_id)
    first, request_id = observe(bench, device)
    again = device.expect(GET, "/3/0/9", timeout=10)
    assert (again.uint(OBSERVE), again.token) == (0, first.token)
    device.reply(again, "2.05", "99", TEXT, observe=9)
    assert values(wait_for(bench, request_id, 1)) == [99]


def test_a_device_that_does_not_observe(bench, device):
    _, request_id = observe(bench, device, sequence=None)
    data = bench.app.result(request_id).data
    assert (data["code"], data["reason"]) == ("2.05", "not_observed")


def test_the_last_notification(bench, device):
    """One without Observe ends the observation."""
    request, request_id = observe(bench, device)
    device.notify(request, 2, "99", TEXT)
    device.notify(request, None, "98", TEXT)
    wait_for(bench, request_id, 2)
    assert [m.data.get("reason") for m in notifications(bench, request_id)] == [
        None,
        "observation_ended",
    ]


def test_first_answer_with_a_sequence_number(bench, device):
    _, request_id = observe(bench, device, sequence=7)
    assert bench.app.result(request_id).json["seqNum"] == 7


def test_notifications_with_message_ids_of_the_device(bench, device):
    request, request_id = observe(bench, device, cacheID=7)
    device.notify(request, 2, resource(9, b"\x62"), TLV)
    message = wait_for(bench, request_id, 1)[0]
    assert message.topic == f"lwm2m/{device.endpoint}/up/notify"
    assert message.json == {
        "reqID": request_id,
        "cacheID": 7,
        "msgType": "notify",
        "seqNum": 2,
        "data": {
            "reqPath": "/3/0/9",
            "code": "2.05",
            "codeMsg": "content",
            "content": [{"path": "/3/0/9", "value": 98}],
        },
    }
    device.silence(0.2)


def test_confirmable_notifications_are_acknowledged(bench, device):
    request, request_id = observe(bench, device)
    sent = device.notify(request, 2, "97", kind=CON)
    ack = device.expect_ack(sent)
    assert (ack.type, ack.code, ack.token, ack.payload) == (ACK, 0, b"", b"")
    assert values(wait_for(bench, request_id, 1)) == [97]


def test_duplicates_are_acknowledged_and_published_once(bench, device):
    request, request_id = observe(bench, device)
    sent = device.notify(request, 2, "97", kind=CON)
    device.expect_ack(sent)
    device.send(sent)
    device.expect_ack(sent)
    sent = device.notify(request, 3, "98")
    device.send(sent)
    time.sleep(0.3)
    assert values(wait_for(bench, request_id, 2)) == [97, 98]


def test_stale_notifications_are_not_published(bench, device):
    request, request_id = observe(bench, device)
    device.notify(request, 10, "10")
    wait_for(bench, request_id, 1)
    device.notify(request, 9, "9")
    device.notify(request, 10, "10")
    stale = device.notify(request, 5, "5", kind=CON)
    device.expect_ack(stale)
    device.notify(request, 11, "11")
    assert values(wait_for(bench, request_id, 2)) == [10, 11]
    time.sleep(0.2)
    assert len(notifications(bench, request_id)) == 2


def test_sequence_numbers_wrap(bench, device):
    request, request_id = observe(bench, device, sequence=0xFFFFFE)
    for sequence, value in ((0xFFFFFF, "1"), (0, "2"), (1, "3")):
        device.notify(request, sequence, value)
    found = wait_for(bench, request_id, 3)
    assert values(found) == [1, 2, 3]


def test_unknown_tokens_are_reset(bench, device):
    request, request_id = observe(bench, device)
    request.token = b"\xde\xad\xbe\xef"
    for kind in (CON, NON):
        device.expect_reset(device.notify(request, 9, "1", kind=kind))
    time.sleep(0.2)
    assert notifications(bench, request_id) == []


def test_cancel_uses_the_token_of_the_observation(bench, device):
    request, _ = observe(bench, device)
    cancel_id = bench.app.command(device.endpoint, "cancel-observe", {"path": "/3/0/9"})
    cancel = device.expect(GET, "/3/0/9")
    assert cancel.uint(OBSERVE) == 1
    assert cancel.token == request.token
    device.reply(cancel, "2.05", "95", TEXT)
    result = bench.app.result(cancel_id)
    assert result.type == "cancel-observe" and "seqNum" not in result.json
    assert values([result]) == [95]
    device.expect_reset(device.notify(request, 20, "96", kind=CON))


def test_error_notification_ends_the_observation_and_is_told(bench, device):
    request, request_id = observe(bench, device)
    device.notify(request, None, b"", None, kind=CON, status="4.04")
    message = bench.app.wait(
        lambda m: m.json.get("reqID") == request_id and (m.data or {}).get("code") == "4.04"
    )
    assert message.data["codeMsg"] == "not_found"
    device.expect_reset(device.notify(request, 30, "1", kind=CON))


def test_observe_again_replaces_the_first(bench, device):
    first, first_id = observe(bench, device)
    second, second_id = observe(bench, device, sequence=3)
    device.notify(second, 4, "44")
    assert values(wait_for(bench, second_id, 1)) == [44]
    if first.token != second.token:
        device.expect_reset(device.notify(first, 9, "9", kind=CON))
    assert notifications(bench, first_id) == []


def test_two_paths_at_once(bench, device):
    one, one_id = observe(bench, device, "/3/0/9")
    two, two_id = observe(bench, device, "/3/0/10")
    assert one.token != two.token
    device.notify(two, 2, "2")
    device.notify(one, 2, "1")
    assert values(wait_for(bench, one_id, 1)) == [1]
    assert values(wait_for(bench, two_id, 1)) == [2]


def test_observe_refused(bench, device):
    request_id = bench.app.command(device.endpoint, "observe", {"path": "/3/0/9"})
    request = device.expect(GET)
    device.reply(request, "4.01")
    assert bench.app.result(request_id).data["codeMsg"] == "unauthorized"
    device.expect_reset(device.notify(request, 2, "1", kind=CON))


def test_observe_not_granted_is_a_read(bench, device):
    request_id = bench.app.command(device.endpoint, "observe", {"path": "/3/0/9"})
    device.reply(device.expect(GET), "2.05", "51", TEXT)
    result = bench.app.result(request_id)
    assert result.type == "observe" and values([result]) == [51]


def test_separate_first_answer(bench, device):
    request_id = bench.app.command(device.endpoint, "observe", {"path": "/3/0/9"})
    request = device.expect(GET)
    device.acknowledge(request)
    bench.app.result(request_id, kind="ack")
    sent = device.notify(request, 1, "50", kind=CON)
    device.expect_ack(sent)
    device.notify(request, 2, "51")
    found = bench.app.wait(
        lambda m: m.json.get("reqID") == request_id and m.json.get("seqNum") == 2
    )
    assert values([found]) == [51]


def test_notifications_survive_an_address_change(bench, device):
    request, request_id = observe(bench, device)
    device.new_address()
    device.update()
    device.notify(request, 5, "55")
    assert values(wait_for(bench, request_id, 1)) == [55]


@pytest.mark.udp_only
def test_a14_a_notification_from_a_new_address_is_taken(bench, device):
    """The token shows whose it is; commands go there when the address has answered a ping."""
    request, request_id = observe(bench, device)
    stranger = bench.device()
    sent = stranger.notify(request, 9, "9", kind=CON)
    stranger.expect_ack(sent)
    assert values(wait_for(bench, request_id, 1)) == [9]
    device.notify(request, 10, "10")
    assert values(wait_for(bench, request_id, 2)) == [9, 10]


@pytest.mark.udp_only  # a session carries its identity to a new address
def test_a_notification_before_the_update_of_the_address(bench, device):
    """A device behind NAT notifies before it knows of its new address: nothing stays lost."""
    request, request_id = observe(bench, device)
    device.new_address()
    device.notify(request, 5, "55", kind=CON)
    assert values(wait_for(bench, request_id, 1)) == [55]
    device.update()
    device.notify(request, 6, "56", kind=CON)
    assert values(wait_for(bench, request_id, 2)) == [55, 56]
    assert bench.read(device, "/3/0/0", "2.05", "x", TEXT).data["code"] == "2.05"


def test_limit_of_observations(gateway):
    bench = gateway({"limits.max_observations": 2})
    device = bench.registered()
    observe(bench, device, "/3/0/9")
    observe(bench, device, "/3/0/10")
    request_id = bench.app.command(device.endpoint, "observe", {"path": "/3/0/13"})
    result = bench.app.result(request_id)
    assert result.data["code"].startswith(("4.", "5.")) and result.data.get("reason")


def test_auto_observe_list(gateway):
    bench = gateway({"auto_observe": "/3/0,/6/0"})
    device = bench.device()
    device.register('</>;rt="oma.lwm2m",</1/0>,</3/0>,</5/0>')
    request = device.expect(GET, "/3/0")
    assert request.uint(OBSERVE) == 0
    device.reply(request, "2.05", resource(9, b"\1"), TLV, observe=1)
    first = bench.app.wait(lambda m: device.endpoint in m.topic and m.type == "observe")
    assert first.json["is_auto_observe"] is True and "reqID" not in first.json
    device.notify(request, 2, resource(9, b"\2"), TLV)
    message = bench.app.wait(lambda m: device.endpoint in m.topic and m.type == "notify")
    assert message.json["is_auto_observe"] is True and message.json["seqNum"] == 2
    assert message.data["content"] == [{"path": "/3/0/9", "value": 2}]
    device.silence(0.3)


def test_auto_observe_everything(gateway):
    bench = gateway({"auto_observe": True})
    device = bench.device()
    device.register("</1/0>,</2/0>,</3/0>,</59102/0>")
    request = device.expect(GET, "/3/0")
    device.reply(request, "2.05", resource(9, b"\1"), TLV, observe=1)
    device.silence(0.3)


def test_firmware_notifications_as_emqx(gateway):
    bench = gateway({"compat.firmware_topic": True})
    device = bench.registered("</5/0>")
    request, request_id = observe(bench, device, "/5/0/3", "0", sequence=1)
    device.notify(request, 2, "1")
    assert wait_for(bench, request_id, 1)[0].topic == f"lwm2m/{device.endpoint}//v1/up/dm"
