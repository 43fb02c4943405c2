"""One device: its DTLS session, observations, last answers and counters, by the API and `show`."""

import subprocess
import time

import pytest

from api import Api
from coap import GET, TEXT
from gateway import accepts_tcp, binary, free_tcp_port, wait_for
from test_http import Asking


@pytest.fixture(scope="session")
def address():
    return ("127.0.0.1", free_tcp_port())


@pytest.fixture
def bench(gateway, address):
    bench = gateway({"http.bind": "%s:%d" % address})
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    return bench


@pytest.fixture
def api(bench, address):
    return Api(address)


def asked(api, device, body):
    return Asking(lambda: api.command(device.endpoint, body))


def test_answers_and_counters(bench, api):
    device = bench.registered(objects="</3/0>", lwm2m="1.1")
    fresh = api.device(device.endpoint)
    assert fresh["last_answers"] == []
    assert fresh["counters"]["requests"] == 0 and fresh["counters"]["bytes_in"] > 0
    before = time.time() * 1000
    for number in range(10):
        asking = asked(api, device, {"msgType": "read", "data": {"path": f"/3/0/{number}"}})
        request = device.expect(GET, f"/3/0/{number}")
        device.reply(request, "4.04" if number == 9 else "2.05", b"" if number == 9 else "1", TEXT)
        asking.result()
    asking = asked(api, device, {"msgType": "read-composite", "data": {"paths": ["/3/0/1", "/3/0/2"]}})
    device.reset(device.expect())
    asking.result()
    asking = asked(api, device, {"msgType": "read", "data": {"path": "/3/0/15"}})
    device.expect(GET, "/3/0/15")
    asking.result()
    shown = api.device(device.endpoint)
    answers = shown["last_answers"]
    # The newest first, and no more than are kept.
    assert len(answers) == 8
    assert (answers[0]["failure"], answers[0]["path"]) == ("coap_timeout", "/3/0/15")
    assert answers[1]["failure"] == "coap_reset" and "path" not in answers[1]
    assert answers[1]["msgType"] == "read-composite"
    assert (answers[2]["code"], answers[2]["path"]) == ("4.04", "/3/0/9")
    assert (answers[3]["code"], answers[3]["path"]) == ("2.05", "/3/0/8")
    assert answers[0]["took_ms"] > 200 and before < answers[7]["at"] <= answers[0]["at"]
    counters = shown["counters"]
    assert counters["requests"] == 12 and counters["responses"] == 10
    assert counters["timeouts"] == 1 and counters["resets"] == 1
    assert counters["bytes_out"] > 100 and counters["bytes_in"] > fresh["counters"]["bytes_in"]


def test_observations(bench, api):
    device = bench.registered(objects="</3/0>")
    asking = asked(api, device, {"msgType": "observe", "data": {"path": "/3/0/9"}})
    request = device.expect(GET, "/3/0/9")
    device.reply(request, "2.05", "95", TEXT, observe=1)
    asking.result()
    observed = api.device(device.endpoint)["observations_list"][0]
    assert observed["notifications"] == 0 and "last_at" not in observed
    assert abs(observed["since"] - time.time() * 1000) < 60000
    for number in (2, 3):
        device.notify(request, number, "94", TEXT)
    counted = lambda: api.device(device.endpoint)["observations_list"][0]["notifications"]  # noqa: E731
    wait_for(lambda: counted() == 2, 10, "notifications")
    shown = api.device(device.endpoint)
    observed = shown["observations_list"][0]
    assert observed["since"] <= observed["last_at"] <= time.time() * 1000 + 1000
    assert shown["counters"]["notifications"] == 2


def test_the_session(request, bench, api):
    device = bench.registered()
    shown = api.device(device.endpoint)
    if request.config.getoption("--transport") == "udp":
        assert "dtls" not in shown
        return
    dtls = shown["dtls"]
    assert dtls["suite"].startswith("TLS_") and dtls["identity"] == shown["identity"]
    assert dtls["certificate"] is False and isinstance(dtls["connection_id"], bool)
    assert abs(dtls["since"] - time.time() * 1000) < 120000


@pytest.mark.standalone_only
@pytest.mark.udp_only
def test_show(bench, api, address):
    device = bench.registered(objects="</3/0>")
    asking = asked(api, device, {"msgType": "observe", "data": {"path": "/3/0/9"}})
    request = device.expect(GET, "/3/0/9")
    device.reply(request, "2.05", "95", TEXT, observe=1)
    asking.result()
    done = subprocess.run(
        [binary(), "show", device.endpoint, "--url", "http://%s:%d" % address],
        capture_output=True, text=True, timeout=20,
    )
    assert done.returncode == 0, done.stderr
    assert "observe /3/0/9  2.05 after" in done.stdout
    assert "/3/0/9  0 notifications" in done.stdout
