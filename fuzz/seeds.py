#!/usr/bin/env python3
"""Writes the seeds that no capture gives: inputs of 64 kB, and conversations of the target
`sequence`. Each has the name of what it is about.

    python3 fuzz/seeds.py
"""

import pathlib

CORPUS = pathlib.Path(__file__).parent / "corpus"


def write(target, name, data):
    folder = CORPUS / target
    folder.mkdir(exist_ok=True)
    data = data.encode() if isinstance(data, str) else data
    (folder / name).write_bytes(data[:65_507])


# Parameters of the target `sequence`, see src/sequence.rs.


def wide(number):
    return number.to_bytes(2, "big")


def sized(data):
    data = data.encode() if isinstance(data, str) else data
    return bytes([len(data)]) + data if len(data) < 255 else b"\xff" + wide(len(data)) + data


def repeated(data, times=1):
    return sized(data) + (bytes([times]) if times < 255 else b"\xff" + wide(times))


NON = 0x80


def register(peer=0, endpoint=0, lifetime=3, query="", items=(0, 0), body="</3/0>,</5/0>", times=1):
    head = bytes([0, peer, endpoint, lifetime])
    return head + sized(query) + wide(items[0]) + wide(items[1]) + repeated(body, times)


def update(peer=0, of=0, query="", items=(0, 0), body="", times=1):
    return (
        bytes([2, peer, of]) + sized(query) + wide(items[0]) + wide(items[1]) + repeated(body, times)
    )


def deregister(peer=0, of=0):
    return bytes([4, peer, of])


def part(peer, to, number, more=True, szx=6, body="x", times=1024):
    head = bytes([5, peer, to]) + wide(number) + bytes([8 * more | szx])
    return head + repeated(body, times)


FORMAT, MORE, LAST, ANY, BLOCK1, SIZE1, ETAG, OBSERVE = 4, 8, 16, 24, 32, 64, 1, 2
TEXT, TLV = 0, 5


def answer(peer=0, code=0x45, flags=0, options=b"", body="x", times=1, separate=False):
    head = bytes([7 | (NON if separate else 0), peer, code, flags]) + options
    return head + repeated(body, times)


def notify(peer=0, sequence=2, flags=0, options=b"", body="1", times=1, kind=NON):
    head = bytes([9 | kind, peer]) + wide(sequence) + bytes([flags]) + options
    return head + repeated(body, times)


def send(peer=0, body='[{"n":"/3/0/0","vs":"x"}]', times=1):
    return bytes([11, peer]) + wide(110) + repeated(body, times)


READ, OBSERVE_COMMAND, CANCEL, WRITE, DISCOVER = 0, 2, 4, 5, 6


def command(kind, endpoint=0, path=0, size=0):
    return bytes([12, endpoint, kind, path, size])


def wait(milliseconds):
    return bytes([17, 0]) + wide(milliseconds // 20)


def hold(on):
    return bytes([18, 0, on])


AGAIN = bytes([20, 0])

first = bytes([0])  # block option with number 0

SEQUENCES = {
    "c1-query-items-of-updates": register()
    + b"".join(update(items=(n * 8000, 9999)) for n in range(8))
    + update(body="</5/0>"),
    "c1-small-updates": register()
    + b"".join(update(items=(n * 100, 100)) for n in range(300))
    + update(body="</5/0>"),
    "c2-attributes": register(body=";a=1", times=15_000) + register(body="</1>;a=1", times=8000),
    "c2-attributes-in-blocks": b"".join(part(0, 0, n, n < 99, body=";a=1", times=256) for n in range(100)),
    "c3-registers": b"".join(
        register(peer, endpoint, items=(0, 9999)) for peer in range(4) for endpoint in range(3)
    ),
    "c16-repeated-send": register() + send() + update() * 5 + send() + AGAIN * 3,
    "a1-first-block-for-ever": register()
    + command(READ, path=3)
    + answer(flags=FORMAT | ANY, options=bytes([TEXT]) + wide(0) + b"\x0e", times=1024) * 200
    + command(READ),
    "a1-always-more": register()
    + command(READ, path=3)
    + answer(flags=FORMAT | MORE, options=bytes([TEXT]), times=1024) * 200
    + command(READ),
    "a1-ever-new-etags": register()
    + command(READ, path=3)
    + b"".join(
        answer(flags=ETAG | FORMAT | ANY, options=bytes([n, TEXT]) + wide(0) + b"\x0e", times=1024)
        for n in range(100)
    ),
    "a1-in-a-notification": register()
    + command(OBSERVE_COMMAND, path=3)
    + answer(flags=OBSERVE | FORMAT, options=wide(1) + bytes([TEXT]))
    + notify(flags=FORMAT | ANY, options=bytes([TEXT]) + wide(0) + b"\x0e", times=1024)
    + answer(flags=FORMAT | ANY, options=bytes([TEXT]) + wide(0) + b"\x0e", times=1024) * 100,
    "a2-newer-notification-before-the-rest": register()
    + command(OBSERVE_COMMAND)
    + answer(flags=OBSERVE | FORMAT | ANY, options=wide(1) + bytes([TEXT]) + wide(0) + b"\x0e", times=1024)
    + notify(sequence=2, kind=0)
    + answer(flags=FORMAT | LAST, options=bytes([TEXT]), times=476),
    "a6-reserved-block-size": register()
    + command(READ, path=3)
    + answer(flags=FORMAT | ANY, options=bytes([TEXT]) + wide(0) + b"\x0f", times=1024),
    "a12-too-large": register()
    + command(WRITE, path=5, size=190)
    + answer(code=0x8D, flags=SIZE1, options=wide(8192), body="")
    + command(WRITE, path=5, size=190)
    + answer(code=0x8D, body="") * 8,
    "a16-a-part-again": b"".join(
        part(0, 0, n, n < 9, 2, "</3303/0>,", 6) * 2 for n in range(10)
    ),
    "write-in-blocks": register()
    + command(WRITE, path=5, size=190)
    + b"".join(
        answer(code=0x5F, flags=BLOCK1, options=wide(n) + b"\x0e", body="") for n in range(12)
    ),
    "moves-between-shards": register()
    + command(READ)
    + hold(1)
    + update(peer=1, of=0)
    + command(READ)
    + update(peer=1, of=0)
    + hold(0)
    + command(OBSERVE_COMMAND)
    + answer(peer=1, body="x")
    + register(peer=2)
    + deregister(peer=2, of=2),
    "moves-back-and-forth": register()
    + b"".join(hold(n % 3 == 0) + update(peer=n % 4, of=0) + command(READ) for n in range(24))
    + hold(0),
    "queue-and-expiry": register(query="b=UQ")
    + wait(30_000)
    + command(READ) * 12
    + update()
    + answer() * 3
    + wait(100_000),
    "observations-renewed": register()
    + b"".join(
        command(OBSERVE_COMMAND, path=n) + answer(flags=OBSERVE, options=wide(1)) for n in range(8)
    )
    + register()
    + answer(flags=OBSERVE, options=wide(1)) * 8
    + notify(),
    "format-fall-backs": register() + command(READ) + answer(code=0x86, body="") * 12,
    "separate-answers": register()
    + command(READ)
    + bytes([19, 0, 0])
    + wait(2000)
    + answer(separate=True)
    + AGAIN * 2,
}


def main():
    for name, data in SEQUENCES.items():
        write("sequence", name, data)
    links = ",".join(f"</{n}/0>" for n in range(7000))
    write("link", "c2-repeated-attributes-64kb", "</1>" + ";a=1" * 16_000)
    write("link", "c2-different-attributes-64kb", "</1>" + "".join(f";{n:x}=1" for n in range(9000)))
    write("link", "c2-links-64kb", links)
    write("link", "c2-quotes-64kb", '</1>;a="' + '\\"' * 32_000)
    records = ",".join(f'{{"n":"{n}","v":{n}}}' for n in range(3000))
    write("senml_json", "records-64kb", f'[{{"bn":"/3/0/"}},{records}]')
    write("senml_json", "nested-64kb", "[" * 65_000)
    write("senml_json", "escapes-64kb", '[{"n":"/3/0/0","vs":"' + "\\u0041" * 10_800 + '"}]')
    write("json", "entries-64kb", f'{{"bn":"/3/0/","e":[{records.replace("/3", "3")}]}}')
    write("json", "nested-64kb", '{"e":' + "[" * 65_000)
    write("tlv", "resources-64kb", b"".join(b"\xe1" + wide(n) + b"\x01" for n in range(16_000)))
    write("tlv", "instances-64kb", b"".join(b"\x20" + wide(n) for n in range(21_000)))
    write("tlv", "nested-64kb", b"\x98\x00\xff\xff\x00" * 13_000)
    write("senml_cbor", "records-64kb", b"\x9f" + b"\xa2\x00a1\x02\x01" * 9000 + b"\xff")
    write("senml_cbor", "nested-64kb", b"\x81" * 65_500)
    write("senml_cbor", "chunks-64kb", b"\x81\xa2\x00f/3/0/0\x03\x7f" + b"\x61x" * 32_000 + b"\xff")
    write("lwm2m_cbor", "nested-64kb", b"\xbf\x00" * 32_000)
    write("lwm2m_cbor", "resources-64kb", b"\xbf" + b"".join(b"\x19" + wide(n) + b"\x01" for n in range(16_000)) + b"\xff")
    write("cbor", "chunks-64kb", b"\x5f" + b"\x41x" * 32_000 + b"\xff")
    write("text", "digits-64kb", "9" * 65_000)
    write("text", "base64-64kb", "QUJD" * 16_000)
    write("coap", "c1-query-items-64kb", b"\x40\x02\x00\x01\xd3\x02abc" + b"\x03abc" * 16_000)
    write("coap", "options-without-value-64kb", b"\x40\x01\x00\x01" + b"\x10" * 65_000)
    write("command", "value-64kb", '{"reqID":1,"msgType":"write","data":{"path":"/5/0/0","type":"Opaque","value":"' + "QUJD" * 16_000 + '"}}')
    writes = ",".join(f'{{"path":"/3/0/{n}","type":"Integer","value":{n}}}' for n in range(1400))
    write("command", "batch-64kb", f'{{"reqID":1,"msgType":"write","data":{{"basePath":"/3/0","content":[{writes}]}}}}')
    paths = ",".join(f'"/3/0/{n}"' for n in range(6000))
    write("command", "paths-64kb", f'{{"reqID":1,"msgType":"read-composite","data":{{"paths":[{paths}]}}}}')
    write("command", "nested-64kb", '{"reqID":' + "[" * 65_000)
    # Events of the targets `engine` and `dtls`: 0x20 has two bytes of length.
    datagram = b"\x40\x02\x00\x01\xb2rd\x44ep=e" + b"\x03abc" * 15_000
    write("engine", "c1-register-64kb", b"\x20" + wide(len(datagram)) + datagram)
    write("dtls", "hello-64kb", b"\x20" + wide(65_000) + (b"\x16\xfe\xfd" + bytes(8) + b"\x00\x0c" + b"\x01" * 12) * 2600)


if __name__ == "__main__":
    main()
