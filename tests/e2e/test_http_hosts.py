"""The HTTP API in whatever carries the gateway, over UDP and DTLS: a little of each part."""

import json

import pytest

from api import Api
from coap import GET, TEXT
from gateway import accepts_tcp, free_tcp_port, wait_for
from test_http import Asking

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="session")
def settings(tmp_path_factory):
    file = tmp_path_factory.mktemp("http") / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return {"http.bind": "127.0.0.1:%d" % free_tcp_port(), "http.token_file": str(file)}


@pytest.fixture
def bench(gateway, settings):
    return gateway(settings)


@pytest.fixture
def api(bench, settings):
    host, _, port = settings["http.bind"].partition(":")
    address = (host, int(port))
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    return Api(address, TOKEN)


def test_each_part_is_there(bench, api, request):
    secure = request.config.getoption("--transport") == "dtls"
    host = request.config.getoption("--host").partition("-")[0]
    assert api.request("GET", "/v1/about", headers={"Authorization": "Bearer wrong-token"})[0] == 401
    about = api.get("/v1/about")
    assert about["host"] == host and about["role"] == "admin"
    assert any(listener["dtls"] for listener in about["listeners"]) == secure
    device = bench.registered(lwm2m="1.1", lt=300)
    (listed,) = api.get("/v1/devices", endpoint=device.endpoint)["devices"]
    assert listed["listener"] == ("dtls:default" if secure else "udp:default")
    assert ("identity" in listed) == secure
    assert api.device(device.endpoint)["queue"] == []
    # A command, seen by who listens, too.
    connection = api.connection()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    path = f"/v1/events?kinds=answer&endpoint={device.endpoint}"
    connection.request("GET", path, headers=headers)
    events = connection.getresponse()
    assert events.status == 200 and events.readline() == b":\n"
    body = {"reqID": 7, "msgType": "read", "data": {"path": "/3/0/0"}}
    asking = Asking(lambda: api.command(device.endpoint, body))
    device.reply(device.expect(GET), "2.05", "Acme", TEXT)
    answer = asking.result()
    assert answer["reqID"] == 7 and answer["data"]["content"][0]["value"] == "Acme"
    lines = iter(events.readline, b"")
    data = next(line for line in lines if line.startswith(b"data: "))
    assert json.loads(data[6:])["message"] == answer
    connection.close()
    status, _, metrics = api.request("GET", "/metrics")
    assert status == 200 and f'lwm2m_listener_registrations{{listener="{listed["listener"]}"}}' in metrics.decode()
    # The log of the host, with what was done.
    api.request("DELETE", f"/v1/devices/{device.endpoint}")

    def audited():
        lines = api.get("/v1/log", lines=2000, level="info")["lines"]
        wanted = f"/v1/devices/{device.endpoint}"
        return [it for it in lines if it["target"] == "audit" and wanted in it["text"]]

    lines = wait_for(audited, 10, "the line")
    assert lines[-1]["level"] == "INFO" and "status=204" in lines[-1]["text"]
    assert TOKEN not in str(api.get("/v1/log", lines=2000))
