"""Work is linear in what was sent, and every loop that a peer drives has an end."""

import itertools
import time

import pytest

from coap import BLOCK1, BLOCK2, GET, LINK, POST, PUT, SIZE1, TEXT, block, uint
from flooding import Honest

# Ends a loop without end: far more requests than one command may cause.
WITHOUT_END = 2000


@pytest.fixture
def bystanders(bench):
    """Registered devices from several ports, so that each shard has one."""
    devices = [Honest(bench.gateway) for _ in range(8)]
    for device in devices:
        device.register()
    yield devices
    for device in devices:
        device.close()


def all_well(devices):
    """Each gets its answer."""
    for device in devices:
        device.update()


def published_bytes(bench, endpoint):
    found = bench.app.all(lambda m: m.topic.startswith(f"lwm2m/{endpoint}/"))
    return sum(len(message.payload) for message in found)


# C1


def items(first, count):
    """`count` query items of three bytes, each another."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-._~ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    names = ("".join(name) for name in itertools.product(letters, repeat=3))
    return list(itertools.islice(names, first, first + count))


@pytest.mark.parametrize(
    "updates, count", [(8, 16_000), (1051, 140)], ids=["large-datagrams", "many-datagrams"]
)
def test_c1_query_items_add_up_to_little(bench, bystanders, updates, count):
    """However many query items Updates bring, the next one costs what it weighs."""
    device = bench.device()
    device.register()
    sent = 0
    for number in range(updates):
        query = items(number * count, count)
        sent += sum(map(len, query))
        answer = device.request(POST, device.location, query, timeout=30)
        assert answer.code >> 5 in (2, 4, 5), f"{answer}"
    device.request(POST, device.location, payload="</5/0>", content_format=LINK, timeout=30)
    all_well(bystanders)
    # What is reported of this device is bounded by what it sent.
    assert published_bytes(bench, device.endpoint) <= 2 * sent + 100_000


def test_c1_a_registration_has_a_bound_after_the_merge(bench):
    """No report of a registration holds more than its bound, though each Update is small."""
    device = bench.device()
    device.register()
    for number in range(200):
        device.request(POST, device.location, items(number * 60, 60))
    device.request(POST, device.location, payload="</5/0>", content_format=LINK)
    reports = bench.app.all(lambda m: m.topic.startswith(f"lwm2m/{device.endpoint}/"))
    assert max(len(report.payload) for report in reports) < 64 << 10


# C2


def send_body(device, body, query, size=1024, szx=6):
    """A Register in blocks; the answers, up to the first that is not 2.31."""
    answers = []
    for number in range((len(body) + size - 1) // size):
        part = body[number * size : (number + 1) * size]
        more = (number + 1) * size < len(body)
        options = [(BLOCK1, block(number, more, szx))]
        answers.append(device.request(POST, "/rd", query, part, LINK, options, timeout=30))
        if answers[-1].code_text != "2.31":
            break
    return answers


def test_c2_attributes_without_end(bench, bystanders):
    """An object list of 2 MB is refused at its bound of 64 kB, not read."""
    device = bench.device()
    body = ("</1>" + ";a=1" * 500_000).encode()
    answers = send_body(device, body, [f"ep={device.endpoint}", "lt=300", "lwm2m=1.1"])
    assert answers[-1].code_text in ("4.00", "4.13"), f"{answers[-1]}"
    assert len(answers) <= 65
    all_well(bystanders)


def test_c2_attributes_in_one_datagram(bench, bystanders):
    """Repeated attributes are counted: 15,000 of one name come to no more than they weigh."""
    device = bench.device()
    objects = "</1>" + ";a=1" * 15_000
    query = [f"ep={device.endpoint}", "lt=300", "lwm2m=1.1"]
    answer = device.request(POST, "/rd", query, objects, LINK, timeout=30)
    assert answer.code >> 5 in (2, 4), f"{answer}"
    all_well(bystanders)
    assert published_bytes(bench, device.endpoint) <= 2 * len(objects)


# A1, A6


def answer_all(bench, device, request_id, reply):
    """Answers the gateway's requests with `reply(request, number)` until the command has its
    answer; that answer, and how many requests it took."""
    requests = 0
    end = time.monotonic() + 30
    while time.monotonic() < end and requests < WITHOUT_END:
        found = [m for m in bench.app.results(request_id) if m.type != "ack"]
        if found:
            return found[0], requests
        for request in [m for m in device.inbox if 0 < m.code < 32] or [None]:
            if request is None:
                device._receive(0.05)
                continue
            device.inbox.remove(request)
            reply(request, requests)
            requests += 1
    raise AssertionError(f"{requests} requests and no answer to the command")


def part(device, request, number, more=True, options=(), observe=None):
    device.reply(
        request,
        "2.05",
        b"x" * 1024,
        TEXT,
        observe,
        [(BLOCK2, block(number, more, 6)), *options],
    )


ETAG = 4

WRONG_BLOCKS = {
    "the-first-again-and-again": lambda asked, count: (0, ()),
    "always-one-behind": lambda asked, count: (max(asked - 1, 0), ()),
    "always-one-behind-with-an-etag": lambda asked, count: (max(asked - 1, 0), [(ETAG, b"e")]),
    "the-first-with-an-etag": lambda asked, count: (0, [(ETAG, b"e")]),
    "the-first-with-ever-new-etags": lambda asked, count: (0, [(ETAG, uint(count + 1))]),
    "always-one-ahead": lambda asked, count: (asked + 1 if asked else 0, ()),
    "far-ahead": lambda asked, count: (1000 if asked else 0, ()),
}


def is_read_again(bench, device):
    """The next command goes its way."""
    device.inbox.clear()
    assert bench.read(device, "/3/0/0", "2.05", "well", TEXT).data["code"] == "2.05"


@pytest.mark.parametrize("which", WRONG_BLOCKS)
def test_a1_blocks_that_were_not_asked_for(bench, which):
    """The command ends after a few tries with `bad_block`, and the next one goes its way."""
    device = bench.registered()
    request_id = bench.app.command(device.endpoint, "read", {"path": "/5/0/0"})

    def reply(request, count):
        number, options = WRONG_BLOCKS[which]((request.uint(BLOCK2) or 0) >> 4, count)
        part(device, request, number, options=options)

    answer, requests = answer_all(bench, device, request_id, reply)
    assert requests <= 32
    assert answer.data["code"].startswith("5."), f"{answer}"
    if "new-etags" not in which:
        assert "bad_block" in answer.payload.decode(), f"{answer}"
    is_read_again(bench, device)


def test_a1_blocks_in_a_notification(bench):
    """The rest of a notification that is not what was asked for ends; the observation lives."""
    device = bench.registered()
    request_id = bench.app.command(device.endpoint, "observe", {"path": "/5/0/0"})
    observation = device.expect(GET)
    device.reply(observation, "2.05", "1", TEXT, observe=1)
    bench.app.result(request_id)
    first = [(BLOCK2, block(0, True, 6))]
    device.notify(observation, 2, b"x" * 1024, TEXT, options=first)
    requests = 0
    end = time.monotonic() + 10
    quiet = 0
    while quiet < 2 and requests < WITHOUT_END and time.monotonic() < end:
        try:
            request = device.expect(GET, timeout=1)
        except AssertionError:
            quiet += 1
            continue
        part(device, request, 0)
        requests += 1
    assert 1 <= requests <= 32
    is_read_again(bench, device)
    device.notify(observation, 9, "9", TEXT)
    bench.app.wait(
        lambda m: m.topic == f"lwm2m/{device.endpoint}/up/notify" and b'"9"' in m.payload
        or m.topic == f"lwm2m/{device.endpoint}/up/notify" and b":9" in m.payload,
        what="the next notification",
    )


def test_a1_one_stray_repetition_passes(bench):
    """One block that comes twice, the right one after it: the value is whole (RIOT#20952)."""
    device = bench.registered()
    request_id = bench.app.command(device.endpoint, "read", {"path": "/3/0/0"})
    stray = []

    def reply(request, count):
        number = (request.uint(BLOCK2) or 0) >> 4
        if number == 1 and not stray:
            stray.append(number)
            number = 0
        part(device, request, number, more=number < 2)

    answer, requests = answer_all(bench, device, request_id, reply)
    assert answer.data["code"] == "2.05" and requests == 4, f"{answer} after {requests}"
    assert answer.data["content"][0]["value"] == "x" * 3072


def test_a1_a_transfer_has_a_deadline_as_a_whole(gateway):
    """A device that sends block after block, each in time, does not keep the command for ever."""
    bench = gateway({"blockwise.exchange_lifetime": "2s"})
    device = bench.registered()
    request_id = bench.app.command(device.endpoint, "read", {"path": "/5/0/0"})

    def reply(request, count):
        time.sleep(0.2)
        part(device, request, (request.uint(BLOCK2) or 0) >> 4)

    answer, requests = answer_all(bench, device, request_id, reply)
    assert answer.type != "read" or answer.data["code"][0] in "45", f"{answer}"
    assert requests <= 40
    is_read_again(bench, device)


def test_a6_a_reserved_block_size_is_no_value(bench):
    """SZX 7 is reserved (RFC 7959 section 2.2): what comes with it is not taken for the value."""
    device = bench.registered()
    request_id = bench.app.command(device.endpoint, "read", {"path": "/5/0/0"})

    def reply(request, count):
        device.reply(request, "2.05", b"x" * 1024, TEXT, options=[(BLOCK2, block(0, True, 7))])

    answer, requests = answer_all(bench, device, request_id, reply)
    assert requests <= 32 and answer.data["code"][0] in "45", f"{answer}"
    assert b"xxxx" not in answer.payload
    is_read_again(bench, device)


# A12


def write_large(bench, device, size=12_376):
    value = "x" * size
    return bench.app.command(
        device.endpoint, "write", {"path": "/3/0/14", "type": "String", "value": value}
    )


def test_a12_too_large_with_a_size_ends_the_write(bench):
    """4.13 with Size1 says what would be taken: smaller blocks do not help (RFC 7959 2.9.3)."""
    device = bench.registered()
    request_id = write_large(bench, device)
    answer, requests = answer_all(
        bench,
        device,
        request_id,
        lambda request, count: device.reply(request, "4.13", options=[(SIZE1, uint(8192))]),
    )
    assert requests == 1 and answer.data["code"] == "4.13", f"{answer} after {requests}"
    is_read_again(bench, device)


def test_a12_too_large_without_a_size_tries_smaller_blocks(bench):
    device = bench.registered()
    request_id = write_large(bench, device)
    request = device.expect(PUT)
    device.reply(request, "4.13")
    request = device.expect(PUT)
    assert (request.uint(BLOCK1) & 7) < 6
    device.collect_blocks(request, szx=4)
    assert bench.app.result(request_id, kind="write").data["code"] == "2.04"


def test_a12_too_large_for_ever_ends(bench):
    """4.13 to every size ends as well."""
    device = bench.registered()
    request_id = write_large(bench, device)
    answer, requests = answer_all(
        bench, device, request_id, lambda request, count: device.reply(request, "4.13")
    )
    assert requests <= 16 and answer.data["code"] == "4.13", f"{answer} after {requests}"


# A16


def test_a16_a_part_that_comes_again_is_taken_again(bench):
    """A block of a Register with a new message id is answered 2.31 once more (libcoap#2111)."""
    device = bench.device()
    body = ",".join(f"</3303/{n}>" for n in range(40)).encode()
    query = [f"ep={device.endpoint}", "lt=300", "lwm2m=1.1"]
    parts = [body[at : at + 64] for at in range(0, len(body), 64)]
    for number, piece in enumerate(parts):
        more = number + 1 < len(parts)
        options = [(BLOCK1, block(number, more, 2))]
        for _ in range(2 if more else 1):
            answer = device.request(POST, "/rd", query, piece, LINK, options)
            assert answer.code_text == ("2.31" if more else "2.01"), f"block {number}: {answer}"
    report = bench.app.report(device.endpoint)
    assert len(report.data["objectList"]) == 40
