"""The HTTP API follows the configuration while the gateway runs."""

import signal

import pytest

from api import Api
from gateway import Standalone, accepts_tcp, free_tcp_port, wait_for

pytestmark = [pytest.mark.standalone_only, pytest.mark.udp_only]

FIRST, SECOND = "correct-horse-battery", "staple-battery-horse"


class Reloaded:
    def __init__(self, folder):
        self.file, self.folder, self.gateway = folder / "gateway.toml", folder, None

    def token(self, text):
        file = self.folder / text
        file.write_text(text)
        file.chmod(0o600)
        return f"http.token_file = '{file}'"

    def write(self, *lines):
        self.file.write_text("\n".join(lines) + "\n")
        if not self.gateway:
            self.gateway = Standalone(arguments=["--config", self.file])
            return
        before = self.log().count("reload")
        self.gateway.send_signal(signal.SIGHUP)
        wait_for(lambda: self.log().count("reload") > before, 10, "the reload")

    def log(self):
        return self.gateway.log()


@pytest.fixture
def reloaded(tmp_path):
    reloaded = Reloaded(tmp_path)
    yield reloaded
    assert reloaded.gateway.stop() == 0
    log = reloaded.log()
    assert "panicked" not in log and FIRST not in log and SECOND not in log


def bind(port):
    return f"http.bind = '127.0.0.1:{port}'"


def there(port, token=None):
    def ask():
        try:
            return Api(("127.0.0.1", port), token).request("GET", "/v1/about")[0]
        except OSError:
            return None

    return ask


def test_everything_of_http_is_applied(reloaded):
    one, two = free_tcp_port(), free_tcp_port()
    reloaded.write("log.level = 'info'")
    assert not accepts_tcp(("127.0.0.1", one))
    # It begins.
    reloaded.write(bind(one), "http.max_body = '1KB'")
    wait_for(lambda: there(one)() == 200, 10, "the API")
    api = Api(("127.0.0.1", one))
    large = {"msgType": "read", "data": {"path": "/3", "x": "y" * 2000}}
    assert api.request("POST", "/v1/devices/x/commands", large)[0] == 413
    # Other bounds, and a token; a stream of those of before ends.
    connection = api.connection()
    connection.request("GET", "/v1/events")
    stream = connection.getresponse()
    assert stream.status == 200
    reloaded.write(bind(one), reloaded.token(FIRST))
    wait_for(lambda: there(one)() == 401, 10, "the token")
    assert there(one, FIRST)() == 200
    assert Api(("127.0.0.1", one), FIRST).request("POST", "/v1/devices/x/commands", large)[0] == 404
    while stream.readline():
        pass
    connection.close()
    # Another address, another token.
    reloaded.write(bind(two), reloaded.token(SECOND))
    wait_for(lambda: there(two, SECOND)() == 200, 10, "the other address")
    assert there(two, FIRST)() == 401 and not accepts_tcp(("127.0.0.1", one))
    # What cannot be done leaves all as it is.
    for wrong in (["http.bind = '0.0.0.0:%d'" % one], [bind(two), "http.token_file = '/nowhere'"]):
        reloaded.write(*wrong)
        assert there(two, SECOND)() == 200 and there(two)() == 401
    reloaded.write("http.bind = '0.0.0.0:%d'" % two, reloaded.token(SECOND))
    assert "the API has this port already" in reloaded.log() and there(two, SECOND)() == 200
    # It ends, and begins anew.
    reloaded.write("log.level = 'info'")
    wait_for(lambda: not accepts_tcp(("127.0.0.1", two)), 10, "the end")
    reloaded.write(bind(two))
    wait_for(lambda: there(two)() == 200, 10, "the API")
