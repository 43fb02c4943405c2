"""A device of LwM2M 1.1 or 1.2 made with `aiocoap`: a tree of values, read and written in any format.

Unlike `device.Device` it answers by itself, with somebody else's CoAP below it.
"""

import asyncio
import itertools
import os
import threading

import aiocoap
from aiocoap import error, resource

import formats
from coap import TLV
from gateway import free_udp_port

_numbers = itertools.count(1)

VALUES = {
    "/1/0/1": 300,
    "/1/0/6": True,
    "/3/0/0": "Example",
    "/3/0/9": 74,
    "/3/0/13": 1_700_000_000,
    "/3303/0/5700": 21.5,
    "/5/0/0": bytes(range(250, 256)),
}


class Tree(resource.ObservableResource):
    """Every path of the device; `formats` are those it knows, the first one its default."""

    def __init__(self, values, known):
        super().__init__()
        self.values, self.formats = dict(values), list(known)
        self.requests = []
        # To content formats it does not know.
        self.refusal = aiocoap.UNSUPPORTED_CONTENT_FORMAT

    async def needs_blockwise_assembly(self, request):
        return True

    async def render(self, request):
        self.requests.append(request)
        path = "/" + "/".join(request.opt.uri_path)
        if request.payload and request.opt.content_format not in self.formats:
            return aiocoap.Message(code=self.refusal)
        if request.code == aiocoap.GET:
            return self.answer(request, path, [path])
        assert request.payload, request
        written = formats.decode(request.opt.content_format, request.payload, path)
        if request.code == aiocoap.FETCH:
            assert path == "/" and set(written.values()) == {None}, written
            return self.answer(request, "/", list(written))
        assert request.code in (aiocoap.PUT, aiocoap.POST, aiocoap.iPATCH)
        assert (path == "/") == (request.code == aiocoap.iPATCH)
        self.values.update(written)
        return aiocoap.Message(code=aiocoap.CHANGED)

    def answer(self, request, base, paths):
        chosen = self.formats[0] if request.opt.accept is None else request.opt.accept
        if chosen not in self.formats:
            return aiocoap.Message(code=aiocoap.NOT_ACCEPTABLE)
        found = {
            at: value
            for path in paths
            for at, value in self.values.items()
            if at == path or at.startswith(path.rstrip("/") + "/")
        }
        if not found:
            raise error.NotFound()
        return self.content(formats.encode(chosen, base, found), chosen)

    @staticmethod
    def content(payload, content_format):
        return aiocoap.Message(
            code=aiocoap.CONTENT, payload=payload, content_format=content_format
        )


class Client:
    """The device's event loop in a thread of its own."""

    def __init__(self, gateway, endpoint=None, values=None, known=None, credentials=None):
        """With `credentials`, a PSK identity and its key, it speaks DTLS (tinydtls)."""
        self.base = "coaps://%s:%d" % gateway.dtls if credentials else "coap://%s:%d" % gateway.udp
        self.credentials = credentials
        self.endpoint = endpoint or f"client{os.getpid()}x{next(_numbers)}"
        known = known or [formats.SENML_CBOR, formats.SENML_JSON, formats.LWM2M_CBOR, TLV]
        self.tree = Tree(VALUES if values is None else values, known)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.do(self._start())

    async def _start(self):
        if self.credentials:
            identity, key = self.credentials
            self.context = await aiocoap.Context.create_server_context(
                self.tree, transports=["tinydtls"]
            )
            dtls = {"psk": key, "client-identity": identity.encode()}
            self.context.client_credentials.load_from_dict({f"{self.base}/*": {"dtls": dtls}})
            return
        # aiocoap shares its port (SO_REUSEPORT): at port 0 it may get that of a gateway.
        address = ("127.0.0.1", free_udp_port())
        self.context = await aiocoap.Context.create_server_context(
            self.tree, bind=address, transports=["udp6"]
        )

    def do(self, what):
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(20)

    def post(self, path, payload=b"", content_format=None, query=(), code=aiocoap.POST):
        async def exchange():
            request = aiocoap.Message(
                code=code,
                uri=self.base + path,
                payload=payload,
                content_format=content_format,
            )
            request.opt.uri_query = query
            answer = await self.context.request(request).response
            # aiocoap ends a connection that nobody holds.
            self.remote = answer.remote
            return answer

        return self.do(exchange())

    def register(self, *query, lwm2m="1.2", ct=None, objects="</1/0>,</3/0>,</5/0>,</3303/0>"):
        """`ct` is what the root link declares, all formats by default."""
        ct = " ".join(map(str, self.tree.formats)) if ct is None else ct
        links = f'</>;rt="oma.lwm2m"{f";ct={chr(34)}{ct}{chr(34)}" if ct else ""},{objects}'
        query = [f"ep={self.endpoint}", "lt=300", f"lwm2m={lwm2m}", *query]
        answer = self.post("/rd", links.encode(), 40, query)
        assert answer.code.dotted == "2.01", answer
        self.location = "/" + "/".join(answer.opt.location_path)
        return answer

    def push(self, payload, content_format):
        """A Send; returns the code of the answer."""
        return self.post("/dp", payload, content_format).code.dotted

    def send(self, pack, content_format=formats.SENML_CBOR):
        code = self.push(formats.SENML[content_format](pack), content_format)
        assert code == "2.04", code

    def notify(self, payload, content_format):
        """A notification of all observations."""
        message = (payload, content_format)
        self.loop.call_soon_threadsafe(lambda: self.tree.updated_state(Tree.content(*message)))

    @property
    def last(self):
        """The last request of the gateway."""
        return self.tree.requests[-1]

    def close(self):
        self.do(self.context.shutdown())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()
