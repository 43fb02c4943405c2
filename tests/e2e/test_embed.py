"""The example `embed`: a host in Rust that knows nothing but what the library shows."""

import json
import subprocess

import pytest

from coap import GET, TEXT
from device import Device
from gateway import Process, answers_ping, free_udp_port, newest, wait_for

pytestmark = [pytest.mark.standalone_only, pytest.mark.udp_only]


def example():
    """The newest build, which `cargo test` makes as well."""
    try:
        return newest("examples/embed")
    except AssertionError:
        pytest.skip("no example: `cargo build --example embed` makes it")


class Embed(Process):
    """Commands go to its standard input; what it prints is in its log."""

    def __init__(self):
        self.udp = ("127.0.0.1", free_udp_port())
        setting = "listeners.udp.default.bind=%s:%d" % self.udp
        super().__init__([example(), setting], stdin=subprocess.PIPE)
        self.wait_ready(lambda: answers_ping(self.udp))

    def send(self, topic, command):
        self.process.stdin.write(f"{topic} {json.dumps(command)}\n".encode())
        self.process.stdin.flush()

    def message(self, topic, **members):
        """The first message on `topic` that has these members."""

        def found():
            for line in self.log().splitlines():
                if line.startswith(f"{topic} "):
                    message = json.loads(line.removeprefix(f"{topic} "))
                    if members.items() <= message.items():
                        return message

        return wait_for(found, 10, f"{members} on {topic}")


def test_a_device_and_commands_from_standard_input(programs):
    embed = Embed()
    programs.append(embed)
    device = Device(embed)
    device.register()
    below = f"lwm2m/{device.endpoint}"
    assert embed.message(f"{below}/up/resp", msgType="register")["data"]["ep"] == device.endpoint

    data = {"path": "/3/0/0"}
    embed.send(f"{below}/dn", {"reqID": 7, "msgType": "read", "data": data})
    device.reply(device.expect(GET, "/3/0/0"), "2.05", "Example", TEXT)
    answer = embed.message(f"{below}/up/resp", reqID=7)
    assert answer["data"]["content"] == [{"path": "/3/0/0", "value": "Example"}]

    embed.send("lwm2m/nobody/dn", {"reqID": 8, "msgType": "read", "data": data})
    assert embed.message("lwm2m/nobody/up/resp", reqID=8)["data"]["code"] == "4.04"
    device.close()

    # The end of the input is its end.
    embed.process.stdin.close()
    assert embed.process.wait(15) == 0


def test_a_mistake_in_a_setting_is_named():
    done = subprocess.run([example(), "coap.nstrat=1"], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0 and "coap.nstrat" in done.stderr
