"""An MQTT application: sends commands, collects what the gateway publishes."""

import itertools
import json
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from patience import patient

# Above the ids that emqxlwm2m draws.
_ids = itertools.count(1_000_000)


class Published:
    """One message of the gateway."""

    def __init__(self, topic, payload, qos, correlation=None):
        self.topic, self.payload, self.qos = topic, payload, qos
        self.correlation = correlation
        self.at = time.monotonic()
        self.json = json.loads(payload)

    @property
    def type(self):
        return self.json.get("msgType")

    @property
    def data(self):
        return self.json.get("data")

    def __repr__(self):
        return f"{self.topic} {self.payload.decode(errors='replace')}"


class Application:
    def __init__(self, address, filters=("lwm2m/#",), client_id="", clean=True, qos=1, username=None):
        self.messages = []
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self._filters = filters
        self._qos = qos
        self._v5 = clean
        self.client = mqtt.Client(
            client_id=client_id, protocol=mqtt.MQTTv5 if clean else mqtt.MQTTv311,
            **({} if clean else {"clean_session": False}),
        )
        if username is not None:
            self.client.username_pw_set(username)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = self._on_message
        self.client.reconnect_delay_set(0.2, 0.5)
        self.client.connect(*address)
        self.client.loop_start()
        assert self._subscribed.wait(10), f"no subscription at {address}"

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, client, *_):
        if self._v5:  # without what this client publishes itself
            options = SubscribeOptions(qos=self._qos, noLocal=True)
            client.subscribe([(topic, options) for topic in self._filters])
        else:
            client.subscribe([(topic, self._qos) for topic in self._filters])

    def _on_message(self, client, userdata, message):
        # Commands of others: the subscription covers both directions.
        if "/dn" in message.topic or message.topic.endswith("/command"):
            return
        with self._changed:
            correlation = getattr(
                getattr(message, "properties", None), "CorrelationData", None
            )
            self.messages.append(
                Published(message.topic, message.payload, message.qos, correlation)
            )
            self._changed.notify_all()

    # Commands

    def publish(self, topic, payload, qos=1, expiry=None, reply=None):
        """`reply` is a response topic with its correlation data."""
        properties = None
        if expiry is not None or reply is not None:
            properties = Properties(PacketTypes.PUBLISH)
        if expiry is not None:
            properties.MessageExpiryInterval = expiry
        if reply is not None:
            properties.ResponseTopic, properties.CorrelationData = reply
        payload = payload if isinstance(payload, (str, bytes)) else json.dumps(payload)
        self.client.publish(topic, payload, qos, properties=properties).wait_for_publish(5)

    def command(self, endpoint, kind, data=None, topic="dn/dm", expiry=None, reply=None, **keys):
        """Sends a command with a request id of its own, which it returns."""
        request_id = next(_ids)
        command = {"reqID": request_id, "msgType": kind, **keys}
        if data is not None:
            command["data"] = data
        self.publish(f"lwm2m/{endpoint}/{topic}", command, expiry=expiry, reply=reply)
        return request_id

    # What came back

    def all(self, predicate):
        with self._changed:
            return [message for message in self.messages if predicate(message)]

    def wait(self, predicate, timeout=10.0, what="a message"):
        timeout = patient(timeout)
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                for message in self.messages:
                    if predicate(message):
                        return message
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError(
                        f"{what} was not published within {timeout} s; the last: {self.messages[-8:]}"
                    )
                self._changed.wait(left)

    def result(self, request_id, timeout=10.0, kind=None):
        """The answer to a command; of type `kind` when one is given."""
        return self.wait(
            lambda m: m.json.get("reqID") == request_id and (kind is None or m.type == kind),
            timeout,
            f"answer to {request_id} ({kind})",
        )

    def results(self, request_id):
        return self.all(lambda m: m.json.get("reqID") == request_id)

    def report(self, endpoint, kind="register", timeout=10.0, after=0):
        """The report number `after` (from 0) of `kind` about `endpoint`."""
        timeout = patient(timeout)
        end = time.monotonic() + timeout
        while True:
            found = self.reports(endpoint, kind)
            if len(found) > after:
                return found[after]
            left = end - time.monotonic()
            assert left > 0, f"no {kind} of {endpoint} ({len(found)} so far) within {timeout} s"
            with self._changed:
                self._changed.wait(min(left, 0.2))

    def reports(self, endpoint, kind="register"):
        return self.all(
            lambda m: m.type == kind and isinstance(m.data, dict) and m.data.get("ep") == endpoint
        )

    def nothing(self, predicate, seconds):
        time.sleep(seconds)
        assert not self.all(predicate)
