"""Brokers of other makers. Each has `address`, `start` and `stop`, and keeps its sessions over both."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

from gateway import Process, accepts_tcp, free_tcp_port

RABBITMQ = pathlib.Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Mosquitto:
    """Debian's, which speaks MQTT 5; without the plugin."""

    def __init__(self, folder, programs):
        self.address = ("127.0.0.1", free_tcp_port())
        self.programs = programs
        self.file = folder / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        self.file.write_text(
            f"listener {self.address[1]} 127.0.0.1\nallow_anonymous true\n{user}"
            f"persistence true\npersistence_location {folder}/\nmax_queued_messages 10000\n"
            "log_type all\n"
        )

    def bridge(self, other, filters):
        """These topics go to another one and come from there, with QoS 1."""
        lines = [
            "connection other",
            "address %s:%d" % other.address,
            "restart_timeout 1",
            *(f"topic {topic} both 1" for topic in filters),
        ]
        with self.file.open("a") as file:
            file.write("\n".join(lines) + "\n")

    def start(self):
        self.process = Process(["mosquitto", "-c", self.file])
        self.programs.append(self.process)
        self.process.wait_ready(lambda: accepts_tcp(self.address))

    def stop(self):
        self.process.stop()


class RabbitMQ:
    """Debian's 3.10, which speaks MQTT 3.1.1 only and hangs up on MQTT 5."""

    def __init__(self, folder, programs):
        self.folder = folder
        self.address = ("127.0.0.1", free_tcp_port())
        self.programs = programs
        (folder / "rabbitmq.conf").write_text(
            "listeners.tcp = none\nmqtt.allow_anonymous = true\n"
            f"mqtt.listeners.tcp.default = 127.0.0.1:{self.address[1]}\n"
        )
        (folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        (folder / "home").mkdir()
        # A name server of its own, which ends with it.
        self.epmd = str(free_tcp_port())
        self.environment = {
            **os.environ,
            "HOME": str(folder / "home"),
            "ERL_EPMD_PORT": self.epmd,
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(free_tcp_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_NODENAME": "lwm2m@localhost",
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }

    def start(self):
        # Where it may leave what it writes when it is killed.
        self.process = Broker(
            [RABBITMQ], env=self.environment, cwd=self.folder, start_new_session=True
        )
        self.process.epmd = self.epmd
        self.programs.append(self.process)
        self.process.wait_ready(lambda: accepts_tcp(self.address), 120)

    def stop(self):
        self.process.stop(timeout=60)


class Broker(Process):
    """A program that starts a name server of Erlang."""

    def stop(self, *args, **kwargs):
        try:
            code = super().stop(*args, **kwargs)
        finally:
            # The node is a child of a script, and would outlive it if that is killed.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        subprocess.run(
            ["epmd", "-port", self.epmd, "-kill"], stdout=subprocess.DEVNULL, timeout=20, check=False
        )
        return code


AEDES = """
const net = require('net')
const aedes = require('aedes')()
net.createServer(aedes.handle).listen(Number(process.argv[2]), '127.0.0.1')
"""


class Aedes:
    """From npm; it speaks MQTT 3.1.1 only and says so to MQTT 5. Its sessions are in memory."""

    def __init__(self, folder, programs, modules):
        self.address = ("127.0.0.1", free_tcp_port())
        self.programs = programs
        self.modules = modules
        self.file = folder / "broker.js"
        self.file.write_text(AEDES)

    def start(self):
        environment = {**os.environ, "NODE_PATH": str(self.modules)}
        self.process = Process(["node", self.file, self.address[1]], env=environment)
        self.programs.append(self.process)
        self.process.wait_ready(lambda: accepts_tcp(self.address))

    def stop(self):
        self.process.stop()


def missing(kind, cache):
    """Why a broker cannot be had, or nothing."""
    if kind == "rabbitmq" and not RABBITMQ.exists():
        return "rabbitmq-server is not installed"
    if kind == "aedes" and not (cache / "node" / "node_modules" / "aedes").exists():
        return "aedes is not installed"
    if kind == "mosquitto" and not shutil.which("mosquitto"):
        return "mosquitto is not installed"
    return None


def broker(kind, folder, programs, cache):
    """A broker that is not started."""
    if kind == "aedes":
        return Aedes(folder, programs, cache / "node" / "node_modules")
    return {"rabbitmq": RabbitMQ, "mosquitto": Mosquitto}[kind](folder, programs)
