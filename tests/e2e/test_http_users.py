"""Users of the HTTP API: their roles on every route, their passwords, what guards them."""

import base64
import json
import os
import re
import subprocess

import pytest

from api import Api
from gateway import ROOT, Standalone, accepts_tcp, binary, free_tcp_port, free_udp_port, wait_for

pytestmark = [pytest.mark.standalone_only, pytest.mark.udp_only]

TOKEN = "correct-horse-battery"
ROLES = ["read", "command", "admin"]


def user_line(name, role, password=None):
    """A line of the file, as the command line makes it."""
    done = subprocess.run(
        [binary(), "http-user", name, "--role", role],
        input=f"{password or 'password of ' + name}\n", capture_output=True, text=True, timeout=20,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def basic(name, password=None):
    text = f"{name}:{password or 'password of ' + name}"
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


class Served:
    """A gateway with users, and its files."""

    def __init__(self, folder, **settings):
        self.users, self.token = folder / "users", folder / "token"
        self.users.write_text("# ours\n" + "".join(user_line(role, role) for role in ROLES))
        self.token.write_text(TOKEN + "\n")
        for file in (self.users, self.token):
            file.chmod(0o600)
        self.address = ("127.0.0.1", free_tcp_port())
        self.settings = {
            "http.bind": "%s:%d" % self.address,
            "http.users_file": self.users,
            "http.token_file": self.token,
            "http.leshan_api": "true",
            **settings,
        }
        self.gateway = Standalone(self.settings)
        wait_for(lambda: accepts_tcp(self.address), 10, "the API")
        self.api = Api(self.address)

    def ask(self, method, path, headers, body=None):
        connection = self.api.connection()
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            # A stream does not end.
            stream = answer.headers["Content-Type"] == "text/event-stream"
            return answer.status, "" if stream else answer.read().decode()
        finally:
            connection.close()

    def stop(self):
        assert self.gateway.stop() == 0
        log = self.gateway.log()
        assert "panicked" not in log and TOKEN not in log and "password of" not in log
        assert "argon2" not in log


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    served = Served(tmp_path_factory.mktemp("users"))
    yield served
    served.stop()


def routes():
    """Method, path and need of every route, as the gateway's table has them."""
    text = (ROOT / "src/http/roles.rs").read_text()
    found = re.findall(r'^    \("(\w+)", "(.+?)", ([\w:]+)\),$', text, re.M)
    assert len(found) >= 20 and len(found) == text.count('    ("'), "the table is read in full"
    return found


NEEDS = {"READ": "read", "COMMAND": "command", "ADMIN": "admin", "Need::Metrics": "read"}


@pytest.mark.parametrize("method, path, need", routes())
def test_every_route_has_its_role(served, method, path, need):
    path = re.sub(r"\{\*?(\w+)\}", lambda it: {"file": "main.js", "id": "3", "path": "3/0/0"}.get(it[1], "x"), path)
    body = {} if method in ("POST", "PUT") else None
    if need == "ANYBODY":
        assert served.ask(method, path, {}, body)[0] == 200
        return
    for headers in ({}, {"Authorization": "Bearer wrong-token"}):
        status, text = served.ask(method, path, headers, body)
        assert status == 401 and '"unauthorized"' in text
    for role in ROLES:
        status, text = served.ask(method, path, basic(role), body)
        if ROLES.index(role) < ROLES.index(NEEDS[need]):
            assert status == 403 and '"forbidden"' in text, (role, text)
        else:
            assert status not in (401, 405) and '"forbidden"' not in text, (role, status, text)
    status, text = served.ask(method, path, {"Authorization": f"Bearer {TOKEN}"}, body)
    assert status not in (401, 403, 405)


def test_no_route_is_served_without_a_role():
    """Who adds a route finds it in the table or gets 404; this finds those that were forgotten."""
    table = {path for _, path, _ in routes()}
    below = {prefix: path for path in table for prefix in [path.split("/")[1]]}
    for file in (ROOT / "src/http").glob("*.rs"):
        for path in re.findall(r'\.route\(\s*"(.+?)"', file.read_text()):
            known = {path} | {f"/{prefix}{path}" for prefix in below}
            assert known & table, f"{file.name}: {path} is not in src/http/roles.rs"


def test_a_trace_needs_command(served):
    path = "/v1/events?kinds=coap&endpoint=x"
    assert served.ask("GET", path, basic("read"))[0] == 403


def test_each_change_is_a_line_of_the_log(served):
    served.ask("DELETE", "/v1/devices/audited", basic("admin"))
    served.ask("POST", "/v1/devices/audited/commands", basic("command"), {"msgType": "read"})
    served.ask("DELETE", "/v1/devices/audited", basic("read"))

    def lines():
        return [it for it in served.gateway.log().splitlines() if "audited" in it or "needs=" in it]

    wait_for(lambda: len(lines()) >= 3, 5, "the lines")
    log = "\n".join(lines())
    assert re.search(r'by="admin" from=127.0.0.1 method=DELETE path="/v1/devices/audited" status=404', log)
    assert re.search(r'by="command" .*method=POST path="/v1/devices/audited/commands" status=404', log)
    assert re.search(r'by="read" from=127.0.0.1 role="read" needs="admin"', log)


def test_a_login_is_a_token_for_a_while(served):
    opened = served.api.json("POST", "/v1/session", status=201, headers=basic("command"))
    assert opened["role"] == "command" and opened["name"] == "command"
    headers = {"Authorization": f"Bearer {opened['token']}"}
    assert served.api.json("GET", "/v1/about", headers=headers)["role"] == "command"
    assert served.ask("GET", "/v1/keys", headers)[0] == 403
    # It does not live for ever by itself.
    error = served.api.json("POST", "/v1/session", status=403, headers=headers)
    assert error["error"] == "session_token"
    assert served.ask("DELETE", "/v1/session", headers)[0] == 204
    assert served.ask("GET", "/v1/about", headers)[0] == 401


def test_a_page_of_another_site_gets_nothing(served):
    foreign = {**basic("admin"), "Sec-Fetch-Site": "cross-site"}
    for method, path in (("GET", "/v1/devices"), ("DELETE", "/v1/devices/x")):
        status, text = served.ask(method, path, foreign)
        assert status == 403 and "foreign_origin" in text
    assert served.ask("GET", "/v1/devices", {**basic("admin"), "Sec-Fetch-Site": "same-origin"})[0] == 200
    # Browsers shall not ask for the password, and then send it along by themselves.
    status, headers, _ = served.api.request("GET", "/v1/about")
    assert status == 401 and headers["WWW-Authenticate"] == "Bearer"


def test_who_guesses_has_to_pause_and_stops_nobody(tmp_path):
    served = Served(tmp_path)
    try:
        assert served.ask("GET", "/v1/about", basic("read"))[0] == 200
        found = [served.ask("GET", "/v1/about", basic("read", f"guess {n}")) for n in range(6)]
        statuses = [status for status, _ in found]
        assert statuses[:3] == [401] * 3 and statuses[-1] == 429, found
        status, headers, _ = served.api.request("GET", "/v1/about", headers=basic("nobody"))
        assert status == 429 and 1 <= int(headers["Retry-After"]) <= 65
        # Those who came in before, and tokens, need no check.
        assert served.ask("GET", "/v1/about", basic("read"))[0] == 200
        assert served.ask("GET", "/v1/about", {"Authorization": f"Bearer {TOKEN}"})[0] == 200
    finally:
        served.stop()


def test_files_are_read_again(tmp_path):
    served = Served(tmp_path)
    try:
        headers = basic("read")
        opened = served.api.json("POST", "/v1/session", status=201, headers=headers)
        login = {"Authorization": f"Bearer {opened['token']}"}
        assert served.ask("GET", "/v1/about", login)[0] == 200
        # What cannot be used changes nothing.
        good = served.users.read_text()
        served.users.write_text(good + "broken\n")
        wait_for(lambda: "stay in use" in served.gateway.log(), 10, "the complaint")
        assert served.ask("GET", "/v1/about", login)[0] == 200
        served.users.write_text(good.replace("read:read:", "read:admin:"))
        wait_for(lambda: served.ask("GET", "/v1/keys", headers)[0] == 200, 10, "the other role")
        assert served.ask("GET", "/v1/about", login)[0] == 401
        done = subprocess.run(
            [binary(), "http-user", "read", "--remove", "--file", served.users],
            capture_output=True, text=True, timeout=20,
        )
        assert done.returncode == 0, done.stderr
        wait_for(lambda: served.ask("GET", "/v1/about", headers)[0] == 401, 10, "the end")
        assert served.users.read_text().startswith("# ours\ncommand:")
        served.token.write_text("another-token-now\n")
        old = {"Authorization": f"Bearer {TOKEN}"}
        wait_for(lambda: served.ask("GET", "/v1/about", old)[0] == 401, 10, "the other token")
    finally:
        served.stop()


@pytest.mark.parametrize(
    "text, mode, says",
    [
        ("ann:read:secret\n", 0o600, "line 1: the hash is not an argon2 hash"),
        ("", 0o600, "holds no users"),
        ("ann:read:secret\n", 0o644, "chmod 640"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, text, mode, says):
    file = tmp_path / "users"
    file.write_text(text)
    file.chmod(mode)
    command = [binary(), "run", "--udp", f"127.0.0.1:{free_udp_port()}", "--mqtt"]
    command += [f"127.0.0.1:{free_tcp_port()}", "--http", str(free_tcp_port())]
    command += ["--set", f"http.users_file={file}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "http.users_file" in done.stderr and says in done.stderr and "secret" not in done.stderr


def test_the_terminal_logs_in(served, tmp_path):
    def run(*arguments, **env):
        url = "http://%s:%d" % served.address
        return subprocess.run(
            [binary(), "devices", "--url", url, *arguments], stdin=subprocess.DEVNULL,
            env={**os.environ, **env}, capture_output=True, text=True, timeout=20,
        )

    password = tmp_path / "password"
    password.write_text("password of read\n")
    assert run("--user", "read", "--password-file", password).returncode == 0
    assert run("--user", "read", LWM2M_GATEWAY_HTTP_PASSWORD="password of read").returncode == 0
    done = run("--user", "read")
    assert done.returncode == 4 and "--password-file" in done.stderr
    done = run()
    assert done.returncode == 4 and "--user" in done.stderr
