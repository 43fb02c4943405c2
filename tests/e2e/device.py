"""A hand-made LwM2M device: one UDP socket and every byte under the test's control.

Nothing is answered by itself but pings. A test says what comes (`expect`), what goes (`reply`, `notify`,
`send`), and can lose, repeat and reorder messages as it likes.
"""

import itertools
import os
import socket
import time

from coap import (
    ACK,
    BLOCK1,
    BLOCK2,
    CON,
    CONTENT_FORMAT,
    DELETE,
    GET,
    LINK,
    LOCATION_PATH,
    NON,
    OBSERVE,
    POST,
    RST,
    URI_PATH,
    URI_QUERY,
    Message,
    block,
    code,
    uint,
)
from patience import patient

_numbers = itertools.count(1)

# Addresses that devices had. The system gives a port again that was closed, and a gateway would take
# whoever comes from there for the device that it still has at that address.
_taken = set()


class Device:
    def __init__(self, gateway, endpoint=None):
        self.gateway = gateway
        self.endpoint = endpoint or f"dev{os.getpid()}x{next(_numbers)}"
        self.location = None
        self.mid = int.from_bytes(os.urandom(2), "big")
        self.log = []
        self.sock = None
        self.inbox = []
        self.replies = {}
        self.new_address()

    def new_address(self):
        """Comes back from another port, as after a NAT rebinding."""
        if self.sock:
            self.sock.close()
        self.inbox.clear()
        self.replies.clear()
        self.sock = self.connect()

    def connect(self):
        """A socket to the gateway, or what behaves like one."""
        family = socket.AF_INET6 if ":" in self.gateway.udp[0] else socket.AF_INET
        while True:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.connect(self.gateway.udp)
            if sock.getsockname() not in _taken:
                _taken.add(sock.getsockname())
                return sock
            sock.close()

    def close(self):
        self.sock.close()

    # Sending

    def next_mid(self):
        self.mid = self.mid + 1 & 0xFFFF
        return self.mid

    def send(self, message):
        data = message if isinstance(message, bytes) else message.encode()
        self.log.append(f"device -> gateway {data.hex()}")
        self.sock.send(data)
        return message

    # Receiving

    def _receive(self, timeout):
        """The next datagram into the inbox; False when none came. An exact repetition of a request
        that was answered already gets the same answer again, as RFC 7252 section 4.5 wants."""
        self.sock.settimeout(max(timeout, 0.001))
        try:
            data = self.sock.recv(65536)
        except (TimeoutError, BlockingIOError, ConnectionRefusedError):
            return False
        self.log.append(f"gateway -> device {data.hex()}")
        message = Message.decode(data)
        if (message.type, message.code) == (CON, 0):
            # A ping (RFC 7252 section 4.3).
            self.sock.send(Message(RST, 0, message.mid).encode())
            return True
        known = self.replies.get(message.mid)
        if known and known[0] == data:
            if known[1] is not None:
                self.sock.send(known[1])
        else:
            self.inbox.append(message)
        return True

    def wait(self, predicate, timeout=5.0, what="a message"):
        """The first message that fits; what does not fit stays for later."""
        # Who asks for less looks whether something is there.
        timeout = patient(timeout) if timeout >= 2 else timeout
        end = time.monotonic() + timeout
        seen = 0
        while True:
            for index in range(seen, len(self.inbox)):
                if predicate(self.inbox[index]):
                    return self.inbox.pop(index)
            seen = len(self.inbox)
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(
                    f"{self.endpoint}: {what} did not come within {timeout} s; inbox: "
                    f"{[str(m) for m in self.inbox]}; log:\n" + "\n".join(self.log[-20:])
                )
            self._receive(min(left, 0.5))

    def silence(self, seconds, predicate=lambda message: True):
        """Nothing (that fits) comes for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._receive(left)
        found = [str(message) for message in self.inbox if predicate(message)]
        assert not found, f"{self.endpoint}: unexpected {found}"

    def expect(self, method=None, path=None, timeout=5.0):
        """The next request of the gateway; it is of `method` and on `path`, or the test fails."""
        request = self.wait(
            lambda m: m.type in (CON, NON) and 0 < m.code < 32, timeout, f"request {method} {path}"
        )
        assert request.token, f"a token is never empty: {request}"
        if method is not None:
            assert request.code == method, f"{request}"
        if path is not None:
            assert request.path == path, f"{request}"
        return request

    # The client's own requests

    def request(
        self,
        method,
        path,
        query=(),
        payload=b"",
        content_format=None,
        options=(),
        mid=None,
        token=None,
        timeout=5.0,
        type=CON,
    ):
        """A request of the device and the answer to it."""
        message = Message(
            type,
            method,
            self.next_mid() if mid is None else mid,
            os.urandom(4) if token is None else token,
            payload=payload.encode() if isinstance(payload, str) else payload,
        )
        message.options += [(URI_PATH, s.encode()) for s in path.strip("/").split("/") if s]
        message.options += [(URI_QUERY, q.encode()) for q in query]
        if content_format is not None:
            message.options.append((CONTENT_FORMAT, uint(content_format)))
        message.options += options
        self.send(message)
        return self.answer_to(message, timeout)

    def answer_to(self, message, timeout=5.0):
        return self.wait(
            lambda m: m.code >= 64 and m.token == message.token, timeout, f"answer to {message}"
        )

    def register(
        self,
        objects='</>;rt="oma.lwm2m",</1/0>,</3/0>',
        lt=300,
        lwm2m="1.1",
        expect="2.01",
        extra=(),
        **kwargs,
    ):
        query = [f"ep={self.endpoint}"] if self.endpoint is not None else []
        query += [f"lt={lt}"] if lt is not None else []
        query += [f"lwm2m={lwm2m}"] if lwm2m is not None else []
        query += list(extra)
        answer = self.request(
            POST, "/rd", query, objects, LINK if objects else None, **kwargs
        )
        assert answer.code_text == expect, f"{answer}"
        if answer.get(LOCATION_PATH):
            self.location = "/".join(answer.location)
        return answer

    def update(self, query=(), objects="", expect="2.04", **kwargs):
        answer = self.request(
            POST, self.location, query, objects, LINK if objects else None, **kwargs
        )
        assert answer.code_text == expect, f"{answer}"
        return answer

    def deregister(self, expect="2.02"):
        answer = self.request(DELETE, self.location)
        assert answer.code_text == expect, f"{answer}"
        return answer

    # Answers

    def _response(self, kind, mid, token, status, payload, content_format, observe, options):
        message = Message(kind, code(status), mid, token)
        message.payload = payload.encode() if isinstance(payload, str) else payload
        if observe is not None:
            message.options.append((OBSERVE, uint(observe)))
        if content_format is not None:
            message.options.append((CONTENT_FORMAT, uint(content_format)))
        message.options += options
        return message

    def reply(
        self, request, status, payload=b"", content_format=None, observe=None, options=(), lose=False
    ):
        """A piggybacked answer; `lose` drops it on its way."""
        message = self._response(
            ACK, request.mid, request.token, status, payload, content_format, observe, options
        )
        if not lose:
            self.send(message)
            self.replies[request.mid] = (request.raw, message.encode())
        return message

    def acknowledge(self, request):
        """An empty ACK: the answer comes later."""
        message = Message(ACK, 0, request.mid)
        self.send(message)
        self.replies[request.mid] = (request.raw, message.encode())

    def separate(self, request, status, payload=b"", content_format=None, kind=CON, mid=None):
        """A separate answer with a message id of the device's own."""
        mid = self.next_mid() if mid is None else mid
        return self.send(
            self._response(kind, mid, request.token, status, payload, content_format, None, ())
        )

    def reset(self, message):
        self.send(Message(RST, 0, message.mid))
        self.replies[message.mid] = (message.raw, None)

    def notify(
        self, observation, sequence, payload, content_format=0, kind=NON, mid=None, status="2.05", options=()
    ):
        """A notification for the observe request `observation`."""
        return self.send(
            self._response(
                kind,
                self.next_mid() if mid is None else mid,
                observation.token,
                status,
                payload,
                content_format,
                sequence,
                options,
            )
        )

    def expect_ack(self, message, timeout=5.0):
        return self.wait(
            lambda m: m.type == ACK and m.code == 0 and m.mid == message.mid, timeout, "empty ACK"
        )

    def expect_reset(self, message, timeout=5.0):
        return self.wait(lambda m: m.type == RST and m.mid == message.mid, timeout, "RST")

    # Block-wise transfer

    def serve_blocks(self, request, body, content_format, szx=6, observe=None):
        """Answers a GET for `body` block by block; returns the requests that came."""
        size, requests = 16 << szx, [request]
        while True:
            asked = request.uint(BLOCK2) or 0
            number = asked >> 4
            if number:
                assert asked & 7 <= szx, f"a larger block than agreed: {request}"
                szx, size = asked & 7, 16 << (asked & 7)
            part = body[number * size : (number + 1) * size]
            more = (number + 1) * size < len(body)
            self.reply(
                request,
                "2.05",
                part,
                content_format,
                observe if number == 0 else None,
                [(BLOCK2, block(number, more, szx))],
            )
            if not more:
                return requests
            request = self.expect(GET)
            requests.append(request)

    def collect_blocks(self, request, status="2.04", szx=6):
        """Takes a request body block by block; returns the body and the requests."""
        body, requests = b"", [request]
        while True:
            option = request.uint(BLOCK1)
            assert option is not None, f"no Block1 in {request}"
            assert (option >> 4) * (16 << (option & 7)) == len(body), f"wrong place: {request}"
            body += request.payload
            more = option & 8
            use = min(option & 7, szx)
            self.reply(
                request,
                "2.31" if more else status,
                options=[(BLOCK1, block(option >> 4, more, use))],
            )
            if not more:
                return body, requests
            request = self.expect(request.code)
            requests.append(request)
