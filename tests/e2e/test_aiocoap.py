"""A device made with `aiocoap`: its resources are read, written and observed block-wise."""

import asyncio
import base64
import threading

import pytest

aiocoap = pytest.importorskip("aiocoap", reason="aiocoap is not installed")

from aiocoap import resource  # noqa: E402

from gateway import free_udp_port  # noqa: E402

BINARY = bytes(range(256)) * 20


class Text(resource.Resource):
    def __init__(self, text):
        super().__init__()
        self.text = text

    async def render_get(self, request):
        return aiocoap.Message(payload=self.text.encode(), content_format=0)

    async def render_put(self, request):
        self.written = request.payload
        return aiocoap.Message(code=aiocoap.CHANGED)

    async def render_post(self, request):
        return aiocoap.Message(code=aiocoap.CHANGED)


class Slow(Text):
    async def render_get(self, request):
        await asyncio.sleep(1)
        return await super().render_get(request)


class Binary(Text):
    async def render_get(self, request):
        return aiocoap.Message(payload=BINARY, content_format=42)


class Battery(resource.ObservableResource):
    level = 100

    async def render_get(self, request):
        return aiocoap.Message(payload=str(self.level).encode(), content_format=0)

    def drop(self):
        self.level -= 1
        self.updated_state()


class AiocoapDevice:
    """The device's event loop in a thread of its own."""

    def __init__(self, gateway, endpoint):
        self.base = "coap://%s:%d" % gateway.udp
        self.endpoint = endpoint
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.do(self._start())

    def do(self, what):
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(20)

    async def _start(self):
        site = resource.Site()
        self.time_zone, self.battery = Text("UTC"), Battery()
        site.add_resource(["3", "0", "0"], Text("Open Mobile Alliance"))
        site.add_resource(["3", "0", "1"], Slow("late"))
        site.add_resource(["3", "0", "4"], Text(""))
        site.add_resource(["3", "0", "9"], self.battery)
        site.add_resource(["3", "0", "15"], self.time_zone)
        site.add_resource(["5", "0", "0"], Binary(""))
        # aiocoap shares its port (SO_REUSEPORT): at port 0 it may get that of a gateway.
        address = ("127.0.0.1", free_udp_port())
        self.context = await aiocoap.Context.create_server_context(
            site, bind=address, transports=["udp6"]
        )

    def post(self, path, payload=b"", code=aiocoap.POST):
        async def exchange():
            request = aiocoap.Message(code=code, uri=self.base + path, payload=payload)
            if payload:
                request.opt.content_format = 40
            return await self.context.request(request).response

        return self.do(exchange())

    def register(self, objects=b"</1/0>,</3/0>,</5/0>"):
        answer = self.post(f"/rd?ep={self.endpoint}&lt=300&lwm2m=1.1&b=U", objects)
        assert answer.code == aiocoap.CREATED, answer
        self.location = "/" + "/".join(answer.opt.location_path)

    def close(self):
        self.do(self.context.shutdown())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)


_number = iter(range(1000))


@pytest.fixture
def device(bench):
    device = AiocoapDevice(bench.gateway, f"aiocoap-{next(_number)}")
    device.register()
    bench.app.report(device.endpoint)
    yield device
    device.close()


def content(result):
    assert result.data["code"] == "2.05", result
    return result.data["content"]


def command(bench, device, kind, **data):
    return bench.app.command(device.endpoint, kind, data)


def test_read(bench, device):
    result = bench.app.result(command(bench, device, "read", path="/3/0/0"))
    assert content(result) == [{"path": "/3/0/0", "value": "Open Mobile Alliance"}]
    result = bench.app.result(command(bench, device, "read", path="/3/0/99"))
    assert result.data["code"] == "4.04"


def test_separate_answer(bench, device):
    request_id = command(bench, device, "read", path="/3/0/1")
    assert bench.app.result(request_id, kind="ack")
    result = bench.app.result(request_id, kind="read")
    assert content(result)[0]["value"] == "late"


def test_blockwise_read(bench, device):
    result = bench.app.result(command(bench, device, "read", path="/5/0/0"))
    assert base64.b64decode(content(result)[0]["value"]) == BINARY


def test_blockwise_write(bench, device):
    request_id = command(bench, device, "write", path="/3/0/15", type="String", value="z" * 4000)
    assert bench.app.result(request_id).data["code"] == "2.04"
    assert device.time_zone.written.endswith(b"z" * 4000)


def test_execute(bench, device):
    request_id = command(bench, device, "execute", path="/3/0/4", args="1")
    assert bench.app.result(request_id).data["code"] == "2.04"


def test_observe(bench, device):
    request_id = command(bench, device, "observe", path="/3/0/9")
    assert content(bench.app.result(request_id, kind="observe"))[0]["value"] == 100
    for level in (99, 98, 97):
        device.loop.call_soon_threadsafe(device.battery.drop)
        bench.app.wait(
            lambda m, level=level: m.json.get("reqID") == request_id
            and m.type == "notify"
            and m.data["content"] == [{"path": "/3/0/9", "value": level}]
        )
    result = bench.app.result(command(bench, device, "cancel-observe", path="/3/0/9"))
    assert result.data["code"] == "2.05"
    device.loop.call_soon_threadsafe(device.battery.drop)
    bench.app.nothing(
        lambda m: m.json.get("reqID") == request_id and "96" in str(m.data.get("content")), 0.5
    )


def test_blockwise_register(bench):
    device = AiocoapDevice(bench.gateway, f"aiocoap-{next(_number)}")
    try:
        objects = [f"/{30000 + n}/0" for n in range(200)]
        device.register(",".join(f"<{path}>" for path in objects).encode())
        assert bench.app.report(device.endpoint).data["objectList"] == objects
    finally:
        device.close()


def test_update_and_deregister(bench, device):
    assert device.post(device.location + "?lt=100").code == aiocoap.CHANGED
    assert device.post(device.location, code=aiocoap.DELETE).code == aiocoap.DELETED
    assert device.post(device.location).code == aiocoap.NOT_FOUND
