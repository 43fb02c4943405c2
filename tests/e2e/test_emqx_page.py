"""The plugin's page in EMQX's dashboard, in a real browser: the files as EMQX serves them, in a frame of the
dashboard, with the console of a real gateway in a frame of theirs."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from gateway import ROOT, accepts_tcp, free_tcp_port, wait_for
from patience import patient
from test_console import CHROMIUM, HOSTILE, browser, sync_api  # noqa: F401 (a fixture)

pytestmark = [
    pytest.mark.standalone_only,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

FILES = ROOT / "erlang_nif/emqx/priv/ui"
PAGE = "/api/v5/plugin_api/lwm2m_gateway/ui"
TOKEN = "a-token-of-the-frames"


class Dashboard(BaseHTTPRequestHandler):
    """What EMQX's dashboard has of the plugin."""

    def do_GET(self):
        path, _, query = self.path.partition("?")
        console = self.server.console
        if path == "/":
            return self.answer("text/html", f'<iframe src="{PAGE}" width="1200" height="700"></iframe>')
        if path == PAGE:
            # As lwm2m_gateway_emqx_page says.
            policy = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
                      "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; frame-src "
                      + (console["url"] if console["ancestors"] else "'none'"))
            return self.answer("text/html", (FILES / "page.html").read_text(), policy)
        if path == PAGE + "/devices":
            self.server.queries.append(query)
            return self.answer("application/json", json.dumps(self.view()))
        kinds = {"page.js": "text/javascript", "page.css": "text/css"}
        name = path.rsplit("/", 1)[1]
        if path == f"{PAGE}/{name}" and name in kinds:
            return self.answer(kinds[name], (FILES / name).read_text())
        self.send_error(404)

    def view(self):
        device = {
            "endpoint": HOSTILE, "node": "emqx@one", "peer": "192.0.2.1:5683", "listener": "udp:default",
            "version": "1.1", "lifetime": 300, "idle_ms": 61000, "observations": 2, "queued": 1,
        }
        counters = {"registrations": 1234, "observations": 2, "dtls_sessions": 0}
        return {
            "nodes": [{"node": "emqx@one", "state": "running", "counters": counters},
                      {"node": "emqx@two", "state": "unreachable"}],
            "devices": [device], "more": True, "console": self.server.console,
        }

    def answer(self, kind, text, policy=None):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if policy:
            self.send_header("Content-Security-Policy", policy)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def dashboard():
    server = ThreadingHTTPServer(("127.0.0.1", free_tcp_port()), Dashboard)
    server.origin = "http://127.0.0.1:%d" % server.server_port
    server.queries = []
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def console(gateway, dashboard, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)

    def start(ancestors):
        address = ("127.0.0.1", free_tcp_port())
        gateway({"http.bind": "%s:%d" % address, "http.token_file": str(file),
                 "http.frame_ancestors": json.dumps(ancestors)})
        wait_for(lambda: accepts_tcp(address), 10, "the API")
        dashboard.console = {"state": "served", "url": "http://%s:%d/" % address, "ancestors": ancestors}

    return start


@pytest.fixture
def page(browser):  # noqa: F811
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(patient(30000))
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda line: page.problems.append(line.text) if "Content Security Policy" in line.text else None)
    yield page
    context.close()


def test_the_page_and_the_console_in_it(page, console, dashboard):
    console([dashboard.origin])
    page.goto(dashboard.origin)
    inside = page.frame_locator("iframe")
    # What a device calls itself is text.
    sync_api.expect(inside.locator("#devices tr td").first).to_have_text(HOSTILE)
    sync_api.expect(inside.locator("#nodes tr").first).to_contain_text("1234")
    sync_api.expect(inside.locator("#nodes tr").nth(1)).to_contain_text("does not answer")
    inside.locator("#search").fill("a&b=/ü")
    wait_for(lambda: "search=a%26b%3D%2F%C3%BC" in dashboard.queries, 30, "the search")
    inside.get_by_role("button", name="Console").click()
    there = inside.frame_locator("#console-view iframe")
    there.locator("input[name=token]").fill(TOKEN)
    there.locator("button[type=submit]").click()
    sync_api.expect(there.locator("nav.nav")).to_be_visible()
    inside.get_by_role("button", name="Devices").click()
    sync_api.expect(inside.locator("#devices tr")).to_have_count(1)
    assert not page.problems


def test_no_frame_without_being_asked(page, console, dashboard):
    console([])
    page.goto(dashboard.origin)
    inside = page.frame_locator("iframe")
    link = inside.get_by_role("link", name="Open the console of this node")
    sync_api.expect(link).to_have_attribute("href", dashboard.console["url"])
    sync_api.expect(inside.get_by_role("button", name="Console")).to_be_hidden()
    assert not page.problems
    # Nobody else gets it into a frame either, whatever its own page says.
    page.set_content(f'<iframe src="{dashboard.console["url"]}"></iframe>')
    wait_for(lambda: any("frame-ancestors 'none'" in it for it in page.problems) or page.wait_for_timeout(100), 30,
             "the refusal")
    assert page.frame_locator("iframe").locator("input[name=token]").count() == 0


def test_one_page_is_not_another(page, console, dashboard):
    console(["http://127.0.0.1:1"])
    page.goto(dashboard.origin)
    inside = page.frame_locator("iframe")
    sync_api.expect(inside.get_by_role("link", name="Open the console of this node")).to_be_visible()
    sync_api.expect(inside.get_by_role("button", name="Console")).to_be_hidden()
    page.set_content(f'<iframe src="{dashboard.console["url"]}"></iframe>')
    wait_for(lambda: any("frame-ancestors http://127.0.0.1:1" in it for it in page.problems) or page.wait_for_timeout(100),
             30, "the refusal")
