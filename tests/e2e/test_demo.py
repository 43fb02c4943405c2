"""`lwm2m-gateway demo`: what a newcomer sees first."""

import os
import pty
import subprocess

import pytest

from application import Application
from gateway import Process, binary, free_tcp_port, free_udp_port, wait_for

pytestmark = pytest.mark.standalone_only


@pytest.fixture
def demo(programs):
    """Starts the demo; returns its process and the address of its broker."""

    def start(**kwargs):
        mqtt = ("127.0.0.1", free_tcp_port())
        command = [binary(), "demo", "--udp", f"127.0.0.1:{free_udp_port()}", "--mqtt", "%s:%d" % mqtt]
        program = Process(command, **kwargs)
        programs.append(program)
        return program, mqtt

    return start


def shows(program, text, timeout=15):
    wait_for(lambda: text in program.log(), timeout, f"{text!r} in: {program.log()}")


def test_without_a_terminal_it_reads_a_value_by_itself(demo):
    program, mqtt = demo(stdin=subprocess.DEVNULL)
    shows(program, '"msgType":"register"')
    shows(program, '"content":[{"path":"/3/0/0","value":"Example Devices"}]')
    application = Application(mqtt)
    request_id = application.command("demo-0", "read", {"path": "/3/0/1"})
    content = application.result(request_id).data["content"]
    assert content == [{"path": "/3/0/1", "value": "Simulated sensor"}]
    application.close()
    assert program.stop() == 0


def test_typed_commands(demo):
    keyboard, terminal = pty.openpty()
    program, _ = demo(stdin=terminal)
    os.close(terminal)

    def type_in(line):
        os.write(keyboard, line.encode() + b"\n")

    shows(program, '"msgType":"register"')
    type_in("read /3/0/16")
    shows(program, '{"path":"/3/0/16","value":"U"}')
    type_in("write /3/0/14 +02:00")
    shows(program, '"code":"2.04"')
    type_in("read /3/0/14")
    shows(program, '{"path":"/3/0/14","value":"+02:00"}')
    type_in("discover /3/0")
    shows(program, "</3/0/9>")
    type_in("attr /3303/0/5700 pmax=1")
    type_in("observe /3303/0/5700")
    shows(program, '"msgType":"notify"')
    type_in("cancel /3303/0/5700")
    shows(program, '"msgType":"cancel-observe"')
    type_in("nonsense")
    shows(program, "nonsense")
    type_in("quit")
    assert program.process.wait(10) == 0
    os.close(keyboard)
