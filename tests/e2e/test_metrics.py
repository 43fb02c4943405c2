"""Metrics: histograms, gauges, the dashboard for Grafana; the same numbers over MQTT."""

import json
import re
import time

import paho.mqtt.client as paho
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from api import Api
from coap import GET, TEXT
from gateway import ROOT, accepts_tcp, free_tcp_port, wait_for
from test_http import Asking


@pytest.fixture(scope="session")
def address():
    return ("127.0.0.1", free_tcp_port())


@pytest.fixture
def bench(gateway, address):
    bench = gateway({"http.bind": "%s:%d" % address})
    wait_for(lambda: accepts_tcp(address), 10, "the API")
    return bench


def samples(address):
    """Samples of /metrics by name: pairs of labels and value."""
    status, headers, text = Api(address).request("GET", "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def at(found, name, **labels):
    return sum(value for known, value in found[name] if labels.items() <= known.items())


def test_times_by_listener(bench, address):
    device = bench.registered(objects="</3/0>")
    listener = Api(address).device(device.endpoint)["listener"]
    before = samples(address)
    asking = Asking(lambda: bench.app.result(bench.app.command(device.endpoint, "read", {"path": "/3/0/9"})))
    request = device.expect(GET, "/3/0/9")
    device.reply(request, "2.05", "95", TEXT)
    asking.result()
    for name in ("lwm2m_exchange_time_seconds", "lwm2m_publish_delay_seconds"):
        counted = lambda found: at(found, f"{name}_count", listener=listener)  # noqa: E731
        after = wait_for(lambda: (found := samples(address)) and counted(found) > counted(before) and found, 10, name)
        # Buckets are cumulative, and the last one has all.
        buckets = [value for known, value in after[f"{name}_bucket"] if known["listener"] == listener]
        assert buckets == sorted(buckets) and buckets[-1] == counted(after)
        assert at(after, f"{name}_sum", listener=listener) > 0
    # No label is one that a device can choose.
    labels = {name for metrics in after.values() for known, _ in metrics for name in known}
    assert labels == {"le", "listener", "kind"}
    assert device.endpoint not in json.dumps(list(after))


def test_what_waits_is_a_gauge(bench, address):
    device = bench.registered(extra=["Q"], lwm2m="1.1", objects="</3/0>")
    device_api = Api(address)
    before = samples(address)
    assert at(before, "lwm2m_memory_held_bytes", kind="registrations") > 0
    wait_for(lambda: device_api.device(device.endpoint)["state"] == "asleep", 40, "sleep")
    device_api.command(device.endpoint, {"msgType": "read", "data": {"path": "/3/0/9"}}, status=202)
    after = samples(address)
    assert at(after, "lwm2m_queued_commands") == at(before, "lwm2m_queued_commands") + 1
    assert at(after, "lwm2m_queued_bytes") > at(before, "lwm2m_queued_bytes")
    device.deregister()
    wait_for(lambda: at(samples(address), "lwm2m_queued_commands") == at(before, "lwm2m_queued_commands"), 10, "gone")


def test_every_query_of_the_dashboard_has_its_numbers(bench, address):
    bench.registered()
    known = set(samples(address))
    dashboard = json.loads((ROOT / "packaging" / "grafana" / "lwm2m-gateway.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [it["definition"] for it in dashboard["templating"]["list"] if "definition" in it]
    assert len(queries) > 30
    for query in queries:
        names = re.findall(r"lwm2m_[a-z0-9_]+", query)
        assert names and set(names) <= known, (query, set(names) - known)
    # Labels of a sum are those that its numbers have.
    for query in queries:
        for labels in re.findall(r"by \(([a-z, ]+)\)", query):
            name = re.findall(r"lwm2m_[a-z0-9_]+", query)[0]
            mine = {label for known, _ in samples(address)[name] for label in known} | {"instance"}
            assert set(labels.split(", ")) <= mine, query


def retained(mqtt, topic, seconds=1.0):
    """What a broker has below a topic."""
    client = paho.Client()
    found = {}
    client.on_message = lambda _client, _data, message: found.update({message.topic: message.payload})
    client.connect(*mqtt)
    client.loop_start()
    client.subscribe(topic)
    time.sleep(seconds)
    client.disconnect()
    client.loop_stop()
    return found


class TestOverMqtt:
    """Retained messages below `gateway/numbers`, by hosts that can retain."""

    @pytest.fixture
    def bench(self, request, gateway, address):
        if request.config.getoption("--host") not in ("standalone", "mosquitto"):
            pytest.skip("this host does not retain messages")
        port = ("127.0.0.1", free_tcp_port())
        bench = gateway({"statistics.interval": "1s", "statistics.topic": "gateway/numbers", "http.bind": "%s:%d" % port})
        bench.api = port
        wait_for(lambda: accepts_tcp(port), 10, "the API")
        return bench

    def test_the_same_numbers(self, bench):
        device = bench.registered()
        listener = Api(bench.api).device(device.endpoint)["listener"]
        topics = {}

        def collect():
            topics.update(retained(bench.gateway.mqtt, "gateway/numbers/#"))
            return topics.get(f"gateway/numbers/listener_registrations/{listener}") == b"1"

        wait_for(collect, 20, "the registration")
        stats = Api(bench.api).get("/v1/stats")
        names = {f"gateway/numbers/{name}" for group in stats.values() for name in group}
        assert names <= set(topics)
        assert topics["gateway/numbers/registrations"] == b"1"
        assert int(topics["gateway/numbers/registered"]) >= 1
        times = json.loads(topics[f"gateway/numbers/publish_delay/{listener}"])
        assert times["count"] >= 1 and times["sum_us"] >= 0


def test_no_statistics_by_default(bench):
    bench.registered()
    if bench.gateway.mqtt:
        assert retained(bench.gateway.mqtt, "lwm2m/$stats/#") == {}
