"""CoAP messages (RFC 7252 section 3), OMA-TLV and nothing else: the tests' own encoder.

It shares no line with the gateway, so the two cannot agree on a mistake.
"""

import dataclasses
import struct

CON, NON, ACK, RST = range(4)

GET, POST, PUT, DELETE = 1, 2, 3, 4


def code(text):
    """The code byte of "2.05"."""
    klass, detail = text.split(".")
    return int(klass) << 5 | int(detail)


def code_text(number):
    return f"{number >> 5}.{number & 31:02}"


OBSERVE = 6
LOCATION_PATH = 8
URI_PATH = 11
CONTENT_FORMAT = 12
URI_QUERY = 15
ACCEPT = 17
BLOCK2 = 23
BLOCK1 = 27
SIZE2 = 28
SIZE1 = 60

TEXT, LINK, OCTETS, TLV, JSON = 0, 40, 42, 11542, 11543


def uint(number):
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def block(number, more, szx):
    return uint(number << 4 | (8 if more else 0) | szx)


@dataclasses.dataclass
class Message:
    type: int
    code: int
    mid: int
    token: bytes = b""
    options: list = dataclasses.field(default_factory=list)
    payload: bytes = b""
    raw: bytes = dataclasses.field(default=b"", compare=False, repr=False)

    def get(self, number):
        """All values of an option."""
        return [value for n, value in self.options if n == number]

    def uint(self, number):
        """The value of an option of format uint, None when absent."""
        values = self.get(number)
        return int.from_bytes(values[0], "big") if values else None

    @property
    def path(self):
        return "/" + "/".join(v.decode() for v in self.get(URI_PATH))

    @property
    def query(self):
        return [v.decode() for v in self.get(URI_QUERY)]

    @property
    def location(self):
        return [v.decode() for v in self.get(LOCATION_PATH)]

    @property
    def code_text(self):
        return code_text(self.code)

    def encode(self):
        out = bytearray([0x40 | self.type << 4 | len(self.token), self.code])
        out += struct.pack("!H", self.mid) + self.token
        last = 0
        for number, value in sorted(self.options, key=lambda option: option[0]):
            delta, more_delta = _nibble(number - last)
            length, more_length = _nibble(len(value))
            out.append(delta << 4 | length)
            out += more_delta + more_length + value
            last = number
        if self.payload:
            out += b"\xff" + self.payload
        return bytes(out)

    @classmethod
    def decode(cls, data):
        assert len(data) >= 4 and data[0] >> 6 == 1, f"no CoAP: {data.hex()}"
        length = data[0] & 15
        assert length <= 8, f"token too long: {data.hex()}"
        message = cls(data[0] >> 4 & 3, data[1], struct.unpack("!H", data[2:4])[0], raw=data)
        message.token = data[4 : 4 + length]
        rest, number = data[4 + length :], 0
        while rest:
            if rest[0] == 0xFF:
                assert len(rest) > 1, f"payload marker without payload: {data.hex()}"
                message.payload = rest[1:]
                break
            first, rest = rest[0], rest[1:]
            delta, rest = _extended(first >> 4, rest)
            size, rest = _extended(first & 15, rest)
            number += delta
            assert len(rest) >= size, f"truncated option: {data.hex()}"
            message.options.append((number, rest[:size]))
            rest = rest[size:]
        return message

    def __str__(self):
        kind = ("CON", "NON", "ACK", "RST")[self.type]
        return (
            f"{kind} {self.code_text} mid={self.mid} token={self.token.hex()} "
            f"{[(n, v.hex()) for n, v in self.options]} payload={self.payload[:64]!r}"
        )


def _nibble(value):
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes([value - 13])
    return 14, struct.pack("!H", value - 269)


def _extended(nibble, rest):
    assert nibble != 15, "reserved option nibble"
    if nibble == 13:
        return rest[0] + 13, rest[1:]
    if nibble == 14:
        return int.from_bytes(rest[:2], "big") + 269, rest[2:]
    return nibble, rest


def tlv(kind, ident, value):
    """One TLV entry; kind 0 object instance, 1 resource instance, 2 multiple, 3 resource."""
    head = kind << 6
    if ident > 255:
        head |= 0x20
    ids = ident.to_bytes(2 if ident > 255 else 1, "big")
    if len(value) < 8:
        return bytes([head | len(value)]) + ids + value
    size = uint(len(value))
    return bytes([head | len(size) << 3]) + ids + size + value


def resource(ident, value):
    return tlv(3, ident, value)


def multiple(ident, values):
    return tlv(2, ident, b"".join(tlv(1, i, v) for i, v in values.items()))


def instance(ident, *entries):
    return tlv(0, ident, b"".join(entries))
