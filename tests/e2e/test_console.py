"""The console in a real browser, with the real gateway and scripted devices behind it."""

import json
import math
import os
import re
import shutil
import subprocess
import time
from urllib.parse import quote

import pytest

from api import Api
from coap import GET, OBSERVE, PUT, TEXT
from conftest import needs, psk_file
from gateway import ROOT, accepts_tcp, free_tcp_port, free_udp_port, wait_for
from patience import patient
from test_http_users import user_line

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
# Other tests run beside these: a page may take its time.
if hasattr(sync_api.expect, "set_options"):
    sync_api.expect.set_options(timeout=patient(30000))
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.standalone_only,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

TOKEN = "a-token-of-the-tests"
PASSWORD = "a-password-of-the-tests"
HOSTILE = "<img src=x onerror=\"document.title='broken into'\">"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # Root may not have a sandbox of Chromium's.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    file = tmp_path_factory.mktemp("console") / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    address = "127.0.0.1:%d" % free_tcp_port()
    keys = psk_file(file.parent / "psk", ["somebody:00112233445566778899aabbccddeeff"])
    users = psk_file(file.parent / "users", [user_line("ann", "read", PASSWORD).strip()])
    return {
        "http.bind": address, "http.token_file": str(file), "qmode_time_window": "1s",
        "http.users_file": str(users),
        "listeners.dtls.default.bind": "127.0.0.1:%d" % free_udp_port(),
        "listeners.dtls.default.psk_file": str(keys),
    }


@pytest.fixture
def bench(gateway, settings):
    bench = gateway(settings)
    host, port = settings["http.bind"].split(":")
    bench.http = (host, int(port))
    wait_for(lambda: accepts_tcp(bench.http), 10, "the API")
    return bench


@pytest.fixture
def open_page(bench, browser, settings):
    """Opens the console in a window of its own; what a page must not do fails the test."""
    contexts, problems = [], []
    url = "http://" + settings["http.bind"]

    def start(logged_in=True, dark=False, size=None, mock=None):
        context = browser.new_context(
            viewport=size or {"width": 1280, "height": 800},
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(patient(30000))
        page.on("pageerror", lambda error: problems.append(str(error)))
        # A policy that is broken is told here; an HTTP error may be meant.
        page.on("console", lambda line: problems.append(line.text)
                if "Content Security Policy" in line.text else None)
        page.on("request", lambda request: problems.append(request.url)
                if not request.url.startswith((url, "blob:")) else None)
        if mock:
            mock(page)
        page.goto(url + "/")
        if logged_in:
            login(page, TOKEN)
            page.wait_for_selector("nav.nav")
        return page

    yield start
    for context in contexts:
        context.close()
    assert not problems


def login(page, token):
    page.fill("input[name=token]", token)
    page.click("button[type=submit]")


def go(page, where):
    page.goto(page.url.split("#")[0] + "#/" + where)


def to_device(page, endpoint, tab="values"):
    go(page, f"device/{quote(endpoint, safe='')}/{tab}")
    page.wait_for_selector(".device-head h1")


def test_nothing_is_shown_without_the_token(open_page, bench):
    device = bench.registered()
    page = open_page(logged_in=False)
    page.wait_for_selector("input[name=token]")
    assert page.locator("nav.nav").count() == 0
    login(page, "not-the-token")
    sync_api.expect(page.get_by_role("alert")).to_contain_text("rejects this token")
    login(page, TOKEN)
    page.wait_for_selector(f".vlist .row:has-text('{device.endpoint}')")
    assert TOKEN not in page.url and not page.evaluate("localStorage.length && JSON.stringify(localStorage).includes('token-of')")
    page.get_by_label("Log out").click()
    page.wait_for_selector("input[name=token]")
    assert page.evaluate("sessionStorage.length") == 0


def test_the_list_is_searched_and_shows_who_comes(open_page, bench):
    start = f"find{time.monotonic_ns()}"
    bench.registered(endpoint=f"{start}-one")
    bench.registered(endpoint=f"{start}-two", objects="</3/0>,</3303/0>")
    page = open_page()
    search = page.get_by_label("Search devices")
    search.fill(start)
    rows = page.locator(".vlist .row:visible .c0")
    sync_api.expect(rows).to_have_text([f"{start}-one", f"{start}-two"])
    search.fill(f"{start} /3303")
    sync_api.expect(rows).to_have_text([f"{start}-two"])
    search.fill(start)
    bench.registered(endpoint=f"{start}-three")
    sync_api.expect(rows).to_have_text([f"{start}-one", f"{start}-three", f"{start}-two"])
    search.fill("nobody of this name")
    sync_api.expect(page.locator(".empty h2")).to_have_text("No matching device")
    # By keyboard: the first row is opened.
    search.fill(f"{start}-one")
    page.locator(".vlist").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("h1")).to_have_text(f"{start}-one")


def test_what_a_device_says_is_text(open_page, bench):
    device = bench.registered(endpoint=HOSTILE, objects="</3/0>")
    page = open_page()
    page.get_by_label("Search devices").fill("onerror")
    row = page.locator(".vlist .row:visible").first
    sync_api.expect(row.locator(".c0")).to_have_text(HOSTILE)
    row.click()
    sync_api.expect(page.locator("h1")).to_have_text(HOSTILE)
    page.get_by_label("Read /3/0", exact=True).click()
    device.reply(device.expect(GET, "/3/0"), "2.05", tlv(0, f"<script>{HOSTILE}</script>"), 11542)
    sync_api.expect(page.locator(".val").first).to_contain_text(f"<script>{HOSTILE}")
    assert page.locator("#app img[src=x], #app script").count() == 0
    assert page.title() != "broken into"
    device.deregister()


def tlv(resource, text):
    """A resource in OMA TLV, with a length of 8 bits."""
    return bytes([0xC8, resource, len(text)]) + text.encode()


def test_read_write_and_what_went_wrong(open_page, bench):
    device = bench.registered(objects="</3/0>")
    page = open_page()
    to_device(page, device.endpoint)
    page.get_by_label("Read /3/0", exact=True).click()
    device.reply(device.expect(GET, "/3/0"), "2.05", tlv(15, "Europe/Berlin"), 11542)
    row = page.locator(".res", has=page.locator(".res-id", has_text=re.compile("^15$")))
    sync_api.expect(row.locator(".val")).to_have_text("Europe/Berlin")
    row.get_by_role("button", name="Read").click()
    device.reply(device.expect(GET, "/3/0/15"), "2.05", "Europe/Rome", TEXT)
    sync_api.expect(row.locator(".val")).to_have_text("Europe/Rome")
    row.get_by_role("button", name="Write").click()
    box = page.locator("dialog textarea")
    box.fill("Asia/Tokyo")
    page.locator("dialog button[type=submit]").click()
    request = device.expect(PUT, "/3/0/15")
    assert b"Asia/Tokyo" in request.payload
    device.reply(request, "2.04")
    sync_api.expect(row.locator(".val")).to_have_text("Asia/Tokyo")
    row.get_by_role("button", name="Read").click()
    device.reply(device.expect(GET, "/3/0/15"), "4.04", "gone away")
    sync_api.expect(row.locator(".res-note")).to_contain_text("4.04 The device does not have this. It says: gone away")
    go(page, f"device/{device.endpoint}/history")
    entries = page.locator(".history > summary")
    sync_api.expect(entries).to_have_count(4)
    assert re.search(r"read.*/3/0/15.*4\.04.*\d+ ms", entries.first.inner_text(), re.DOTALL)


def test_a_sleeping_device_has_a_queue(open_page, bench):
    device = bench.registered(lwm2m="1.1", extra=["Q"], objects="</3/0>")
    page = open_page()
    to_device(page, device.endpoint)
    sync_api.expect(page.locator(".device-head")).to_contain_text("asleep", timeout=patient(30000))
    page.get_by_label("Read /3/0", exact=True).click()
    sync_api.expect(page.locator(".toast")).to_contain_text("the command waits")
    go(page, f"device/{device.endpoint}/queue")
    rows = page.locator(".queue-row")
    sync_api.expect(rows).to_have_count(1)
    assert "/3/0" in rows.first.inner_text()
    rows.first.get_by_role("button", name="Cancel").click()
    sync_api.expect(page.locator(".empty h2")).to_have_text("No waiting commands")
    device.update()
    device.silence(0.5, lambda message: message.code == GET)


@needs("coap-client-openssl")
def test_a_key_of_the_page_lets_a_client_in(open_page):
    page = open_page()
    go(page, "keys")
    page.get_by_role("button", name="Make a key").first.click()
    page.locator("dialog input").first.fill("key-of-the-page")
    page.locator("dialog button[type=submit]").click()
    shown = page.locator("dialog", has_text="it is not shown again")
    line = shown.locator(".copy-line", has_text="coap-client").locator("pre").inner_text()

    def registers():
        # It ends with 0 whatever happens; an answer to a Register is silent, an error is not.
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30)
        return done.returncode == 0 and not done.stdout + done.stderr

    wait_for(registers, 15, line)
    key = shown.locator(".copy-line", has_text="hexadecimal").locator("pre").inner_text()
    anjay = shown.locator(".copy-line", has_text="Anjay").locator("pre").inner_text()
    assert f"-k {key} " in anjay and b"key-of-the-page".hex() in anjay
    shown.get_by_role("button", name="Close").last.click()
    # The list has it, without the key; the device has come by it.
    sync_api.expect(page.locator(".key-row", has_text="key-of-the-page")).to_have_count(1)
    assert key not in page.content()
    go(page, "devices")
    row = page.locator(".vlist .row:visible", has_text="key-of-the-page")
    row.click()
    sync_api.expect(page.locator(".device-head")).to_contain_text("dtls:default")
    go(page, "keys")
    page.get_by_label("Remove key-of-the-page").click()
    page.locator("dialog button[type=submit]").click()
    sync_api.expect(page.locator(".key-row", has_text="key-of-the-page")).to_have_count(0)


def listed(number):
    """A device as the API lists it."""
    now = int(time.time() * 1000)
    return {
        "endpoint": f"many-{number:05}", "state": "online", "listener": "udp:default",
        "peer": f"10.0.{number >> 8 & 255}.{number & 255}:5683", "mountpoint": "lwm2m/",
        "lifetime": 300, "version": "1.1", "queue_mode": False, "registered_at": now,
        "last_seen": now, "expires_at": now + 300000, "alternate_path": "/",
        "objects": ["/3/0", "/3303/0"], "queued": 0, "observations": 1,
    }


def many(page):
    """Ten thousand devices in the place of the gateway's, and 20,000 notifications at once."""

    def devices(route):
        start = int(re.search(r"cursor=(\d+)", route.request.url + "cursor=0").group(1))
        body = {"devices": [listed(n) for n in range(start, start + 1000)], "total": 10000}
        if start + 1000 < 10000:
            body["next"] = str(start + 1000)
        route.fulfill(json=body)

    lines = []
    for number in range(20000):
        data = {"reqPath": "/3303/0/5700", "code": "2.05",
                "content": [{"path": "/3303/0/5700", "value": 20 + number % 7 / 10}]}
        event = {"at": int(time.time() * 1000), "endpoint": f"many-{number % 10000:05}",
                 "message": {"msgType": "notify", "data": data}}
        lines.append(f"event: notify\ndata: {json.dumps(event)}\n\n")
    page.route(re.compile(r"/v1/devices\?"), devices)
    page.route(re.compile(r"/v1/events"), lambda route: route.fulfill(
        body="".join(lines), content_type="text/event-stream"))


def test_ten_thousand_devices(open_page):
    page = open_page(mock=many)
    sync_api.expect(page.locator(".head .count")).to_have_text("10,000")
    # Only what can be seen is there.
    assert page.locator(".vlist .row").count() < 60
    page.locator(".vlist").focus()
    page.keyboard.press("End")
    sync_api.expect(page.locator(".vlist .row:visible", has_text="many-09999")).to_have_count(1)
    assert page.locator(".vlist .row").count() < 60
    page.get_by_label("Search devices").fill("many-0777")
    sync_api.expect(page.locator(".vlist .row:visible")).to_have_count(10)


def test_a_list_is_read_to_its_end(open_page):
    """The stream of events breaks again and again while the list comes slowly."""

    def slow(page):
        many(page)
        page.route(re.compile(r"/v1/devices\?"), lambda route: (time.sleep(0.2), route.fallback()))

    page = open_page(mock=slow)
    sync_api.expect(page.locator(".head .count")).to_have_text("10,000")


def observed(page, device):
    """Observes the temperature by the page; gives the request."""
    page.get_by_label("Observe Sensor Value", exact=True).click()
    request = device.expect(GET, "/3303/0/5700")
    assert request.get(OBSERVE)
    device.reply(request, "2.05", "20.5", TEXT, observe=1)
    page.get_by_label("Stop observing Sensor Value", exact=True).wait_for()
    return request


def test_an_observed_value_is_a_chart(open_page, bench):
    device = bench.registered(objects="</3/0>,</3303/0>")
    page = open_page()
    to_device(page, device.endpoint)
    request = observed(page, device)
    for number in range(2, 12):
        device.notify(request, number, str(20 + number / 10))
    card = page.locator(".chart-card")
    sync_api.expect(card).to_have_count(1)
    sync_api.expect(card).to_contain_text("11 values, 20.2 to 21.1")
    sync_api.expect(card.locator(".chart-now")).to_contain_text("21.1")
    assert card.locator("path.line").get_attribute("d").startswith("M")
    assert "11 values" in card.locator("svg.chart").get_attribute("aria-label")
    # What comes while another page is looked at is there afterwards.
    go(page, "counters")
    page.wait_for_selector(".counter-row")
    device.notify(request, 12, "25")
    go(page, f"device/{device.endpoint}/values")
    sync_api.expect(card).to_contain_text("12 values, 20.2 to 25")
    page.get_by_label("Stop observing Sensor Value", exact=True).click()
    request = device.expect(GET, "/3303/0/5700")
    assert request.uint(OBSERVE) == 1
    device.reply(request, "2.05", "25", TEXT)
    page.get_by_label("Observe Sensor Value", exact=True).wait_for()


def test_the_trace_goes_on_when_it_is_left(open_page, bench):
    device = bench.registered(objects="</3/0>,</3303/0>")
    page = open_page()
    to_device(page, device.endpoint, "trace")
    page.get_by_role("button", name="Start the trace").click()
    page.wait_for_timeout(500)
    go(page, f"device/{device.endpoint}/values")
    page.get_by_label("Read /3303/0", exact=True).click()
    device.reply(device.expect(GET, "/3303/0"), "4.04", "nothing")
    page.locator(".toast.bad").wait_for()
    go(page, f"device/{device.endpoint}/trace")
    rows = page.locator(".trace-row:visible")
    # More if the machine is so busy that a message is repeated.
    answer = rows.filter(has_text="4.04").first
    answer.wait_for()
    assert "GET" in rows.first.inner_text() and "/3303/0" in rows.first.inner_text()
    answer.click()
    sync_api.expect(page.locator(".trace-detail")).to_contain_text("4.04 Not found")
    # The payload, as it is on the wire.
    sync_api.expect(page.locator(".hex")).to_contain_text("6e 6f 74 68 69 6e 67")


def test_a_user_sees_what_the_role_allows(open_page, bench):
    device = bench.registered()
    page = open_page(logged_in=False)
    page.fill("input[name=user]", "ann")
    login(page, "not-the-password")
    sync_api.expect(page.get_by_role("alert")).to_contain_text("rejects this user")
    login(page, PASSWORD)
    page.wait_for_selector(f".vlist .row:has-text('{device.endpoint}')")
    pages = page.locator("nav.nav a").all_inner_texts()
    assert "Devices" in pages and "Keys" not in pages and "Log" not in pages
    kept = page.evaluate("JSON.stringify(sessionStorage) + JSON.stringify(localStorage) + document.cookie")
    assert "session-" in kept and PASSWORD not in kept and "ann" not in kept


def test_the_log_is_followed(open_page, bench):
    page = open_page()
    assert TOKEN not in page.evaluate("JSON.stringify(sessionStorage)")
    go(page, "log")
    page.locator(".log-line", has_text="listening").first.wait_for()
    api = Api(tuple(bench.http), TOKEN)
    api.request("DELETE", "/v1/devices/nobody-to-follow")
    line = page.locator(".log-line", has_text="nobody-to-follow")
    sync_api.expect(line).to_have_count(1)
    assert "INFO audit:" in line.inner_text() and "status=404" in line.inner_text()
    page.get_by_label("Search the log").fill("nothing-has-this")
    sync_api.expect(page.locator(".log-line")).to_have_count(0)


def test_objects_and_counters(open_page, bench):
    bench.registered()
    page = open_page()
    go(page, "objects/3303")
    sync_api.expect(page.locator(".def-row", has_text="5700")).to_contain_text("Sensor Value")
    page.get_by_label("Search objects").fill("temper")
    sync_api.expect(page.locator(".object-item", has_text="Temperature").first).to_be_visible()
    go(page, "counters")
    row = page.locator(".counter-row", has_text=re.compile(r"^registered"))
    sync_api.expect(row).to_have_count(1)
    assert int(row.locator(".right").last.inner_text().replace(",", "")) > 0


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone(open_page, bench, dark):
    device = bench.registered(objects="</1/0>,</3/0>,</3303/0>")
    page = open_page(size=PHONE, dark=dark)
    page.wait_for_selector(".vlist .row:visible")
    to_device(page, device.endpoint)
    page.wait_for_selector(".instance")
    for where in ("devices", "about", *(f"device/{device.endpoint}/{tab}"
                  for tab in ("values", "composite", "queue", "history", "registration"))):
        go(page, where)
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], where
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", colour)[:3]))
    assert (brightness < 120) == dark


@pytest.mark.skipif("SCREENSHOT" not in os.environ, reason="makes the picture of the documentation")
def test_screenshot(open_page, bench):
    """SCREENSHOT=1 makes docs/images/console.png anew; nothing is compared."""
    device = bench.registered(endpoint="cold-store-7", objects="</1/0>,</3/0>,</5/0>,</3303/0>")
    page = open_page()
    to_device(page, device.endpoint)
    page.wait_for_selector(".instance")
    page.get_by_label("Read /3303/0", exact=True).click()
    values = {5700: 20.4, 5601: 18.2, 5602: 25.9, 5603: -40, 5604: 85}
    records = [{"n": str(key), "v": value} for key, value in values.items()]
    records[0]["bn"] = "/3303/0/"
    records += [{"n": "5701", "vs": "Cel"}, {"n": "5750", "vs": "Cold store, door"}]
    device.reply(device.expect(GET, "/3303/0"), "2.05", json.dumps(records), 110)
    request = observed(page, device)
    for number in range(2, 120):
        device.notify(request, number, f"{20.4 + math.sin(number / 9) + number % 5 / 20:.2f}")
        page.wait_for_timeout(250)
    page.mouse.move(0, 0)
    folder = ROOT / "docs" / "images"
    folder.mkdir(exist_ok=True)
    page.screenshot(path=folder / "console.png")
