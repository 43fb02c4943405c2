"""The published client package `emqxlwm2m`, unmodified, against a simulated device."""

import itertools
import queue

import pytest

emqxlwm2m = pytest.importorskip("emqxlwm2m.engines.emqx", reason="emqxlwm2m is not installed")

from emqxlwm2m.lwm2m import Attributes, Notification, Registration  # noqa: E402

from coap import GET, TEXT  # noqa: E402
from gateway import Process, binary  # noqa: E402

_number = itertools.count()


@pytest.fixture
def endpoint(bench, programs):
    """The package's handle of a simulated device."""
    # The package takes a topic with "up" in it, so an endpoint too, for an uplink.
    prefix = f"emqxpy{next(_number)}-"
    program = Process(
        [
            *(binary(), "simulate", "--server", "coap://%s:%d" % bench.gateway.udp),
            *("--objects", "1,3,6,3303", "--notify-every", "0.3", "--lifetime", "60"),
            *("--endpoint-prefix", prefix),
        ]
    )
    programs.append(program)
    host, port = bench.gateway.mqtt
    with emqxlwm2m.EMQxEngine.via_mqtt(host=host, port=port, timeout=10) as engine:
        endpoint = engine.endpoint(prefix + "0")
        bench.app.report(prefix + "0")
        yield endpoint
        program.stop()


def test_read(endpoint):
    response = endpoint.read("/3/0/1")
    assert response.value == "Simulated sensor"
    response = endpoint.read("/3/0")
    assert response["/3/0/6/1"] == 5 and response["/3/0/16"] == "U"
    assert endpoint.read("/3/0/77").code.value == "4.04"


def test_write(endpoint):
    assert endpoint.write("/3/0/14", "+05:00").code.value == "2.04"
    assert endpoint.read("/3/0/14").value == "+05:00"
    assert endpoint.write("/3/0", {"14": "+06:00", "15": "Asia/Dhaka"}).code.value == "2.04"
    assert endpoint.read("/3/0/15").value == "Asia/Dhaka"
    assert endpoint.write("/1/0/6", False).code.value == "2.04"
    assert endpoint.read("/1/0/6").value is False
    assert endpoint.write("/3/0/9", 5).code.value == "4.05"


def test_discover(endpoint):
    response = endpoint.discover("/3/0")
    assert response["/3/0/7"] == {"dim": 2}
    assert "/3/0/9" in response


def test_attributes(endpoint):
    assert endpoint.write_attr("/3/0/9", pmin=1, pmax=5).code.value == "2.04"
    links = endpoint.discover("/3/0/9")
    assert links["/3/0/9"] == {"pmin": 1, "pmax": 5}
    assert str(Attributes(**links["/3/0/9"])) == "[1,5]"


def test_execute(endpoint):
    registrations = endpoint.registrations()
    assert endpoint.execute("/3/0/4").code.value == "2.04"
    registration = registrations.get(timeout=10)
    assert isinstance(registration, Registration)
    assert "/3303/0" in registration.object_list and registration.lt == 60


def test_create_and_delete(endpoint):
    assert endpoint.create("/3303", {"7/5750": "attic"}).code.value == "2.01"
    assert endpoint.read("/3303/7/5750").value == "attic"
    assert endpoint.delete("/3303/7").code.value == "2.02"
    assert endpoint.read("/3303/7").code.value == "4.04"


def test_observe(endpoint):
    response = endpoint.observe("/3303/0/5700")
    assert response.code.value == "2.05"
    sequence = []
    for _ in range(3):
        notification = response.notifications.get(timeout=5)
        assert isinstance(notification, Notification)
        assert 15 < notification.value < 27
        sequence.append(notification.seq_num)
    assert sequence == sorted(set(sequence))
    assert endpoint.cancel_observe("/3303/0/5700").code.value == "2.05"
    while True:  # what was under way
        try:
            response.notifications.get(timeout=1)
        except queue.Empty:
            break


def test_silent_device(bench):
    """`coap_timeout` is unknown to the package: it sees no answer, as with EMQX."""
    device = bench.registered()
    host, port = bench.gateway.mqtt
    with emqxlwm2m.EMQxEngine.via_mqtt(host=host, port=port, timeout=10) as engine:
        endpoint = engine.endpoint(device.endpoint)
        with pytest.raises(Exception):
            endpoint.read("/3/0/0", timeout=0.3)
        device.expect(GET)
        first = device.expect(GET)
        device.reply(first, "2.05", "x", TEXT)
