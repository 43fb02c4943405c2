"""Starts the gateway under test. One class a host; the tests know its addresses only."""

import functools
import itertools
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time

from coap import CON, RST, Message
from patience import patient

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Short timers, so that a test of a timeout takes seconds; within RFC 7252's rules all the same.
# Beside the built-in definitions of objects 0 to 7 there is one of object 3303.
DEFAULTS = {
    "xml_dir": f'"{ROOT}/tests/e2e/models"',
    "coap.ack_timeout": '"250ms"',
    "coap.max_retransmit": "2",
    "coap.response_timeout": '"3s"',
    "lifetime_min": '"1s"',
    # Devices move between them.
    "shards": "2",
}


def binary():
    """The program under test: `LWM2M_GATEWAY`, or the newest build."""
    return os.environ.get("LWM2M_GATEWAY") or newest("lwm2m-gateway")


def library():
    """The shared library under test: `LWM2M_GATEWAY_LIBRARY`, or the newest build."""
    return os.environ.get("LWM2M_GATEWAY_LIBRARY") or newest("liblwm2m_gateway.so")


def newest(name):
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    builds = [target / kind / name for kind in ("debug", "release")]
    builds = [path for path in builds if path.exists()]
    assert builds, f"no {name} below {target}: run `cargo build` first"
    return str(max(builds, key=lambda path: path.stat().st_mtime))


# Ports for servers, from a range that the system gives to nobody by itself; runs beside each other
# have a range each.
PORTS = itertools.cycle(range(int(os.environ.get("E2E_PORTS", "20000")), 32768)[:3000])


def free_port(kind):
    for port in itertools.islice(PORTS, 3000):
        with socket.socket(socket.AF_INET, kind) as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def free_udp_port():
    return free_port(socket.SOCK_DGRAM)


def free_tcp_port():
    return free_port(socket.SOCK_STREAM)


def answers_ping(address):
    """Whether a CoAP server is there: an empty CON is answered with a RST (RFC 7252 4.3)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        try:
            sock.connect(address)
            sock.send(Message(CON, 0, 0x7E57).encode())
            return Message.decode(sock.recv(64)).type == RST
        except (TimeoutError, ConnectionRefusedError):
            return False


def accepts_tcp(address):
    try:
        socket.create_connection(address, 0.5).close()
        return True
    except OSError:
        return False


def wait_for(check, timeout, what):
    timeout = patient(timeout)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        result = check()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {timeout} s")


class Process:
    """A program with its output in a file."""

    # Further arguments of `subprocess.Popen`.
    launch = {}

    def __init__(self, command, **kwargs):
        self.output = tempfile.NamedTemporaryFile("w+", prefix="lwm2m-e2e-", suffix=".log")
        self.command = [str(part) for part in command]
        if "--config" in self.command and "env" not in kwargs:
            # Where a store is by default.
            self.state = tempfile.TemporaryDirectory(prefix="lwm2m-e2e-state-")
            kwargs["env"] = {**os.environ, "STATE_DIRECTORY": self.state.name}
        self.process = subprocess.Popen(
            self.command,
            **{"stdout": self.output, "stderr": subprocess.STDOUT, **self.launch, **kwargs},
        )

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return pathlib.Path(self.output.name).read_text(errors="replace")

    def statistics(self):
        """The counters, which are logged on SIGUSR1."""

        def logged():
            return re.findall(r"counters=(\{.*?\})", self.log())

        before = len(logged())
        self.send_signal(signal.SIGUSR1)
        return json.loads(wait_for(lambda: logged()[before:], 10, "statistics")[-1])

    def memory(self):
        """Resident memory in bytes."""
        pages = pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def wait_ready(self, check, timeout=20):
        def ready():
            assert self.process.poll() is None, f"{self.command} ended: {self.log()}"
            return check()

        wait_for(ready, timeout, f"start of {self.command}")

    def send_signal(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM, timeout=15):
        """Ends the process; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(patient(timeout))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.command} did not end: {self.log()}") from None


class Standalone(Process):
    """`lwm2m-gateway run` with its embedded broker, at `mqtt`, or as a client of the one at `broker`."""

    def __init__(self, settings=None, broker=None, arguments=(), mqtt=None):
        self.udp = ("127.0.0.1", free_udp_port())
        self.mqtt = broker or mqtt or ("127.0.0.1", free_tcp_port())
        command = [binary(), "run", "--udp", "%s:%d" % self.udp]
        if broker:
            command += ["--broker", "mqtt://%s:%d" % broker]
        else:
            command += ["--mqtt", "%s:%d" % self.mqtt]
        for key, value in {**DEFAULTS, **(settings or {})}.items():
            command += ["--set", f"{key}={value}"]
        super().__init__([*command, *arguments])
        self.wait_ready(lambda: answers_ping(self.udp) and (broker or accepts_tcp(self.mqtt)))


def mosquitto():
    """The broker under test: `MOSQUITTO`, or the one that is installed."""
    return os.environ.get("MOSQUITTO", "mosquitto")


def mosquitto_conf(mqtt, options, lines=()):
    """A configuration of Mosquitto with the plugin and its `options`, keys and values."""
    lines = [
        *lines,
        "listener %d %s" % mqtt[::-1],
        "allow_anonymous true",
        # Root would become a user who may not read the build.
        *(["user root"] if os.geteuid() == 0 else []),
        "set_tcp_nodelay true",
        "max_queued_messages 0",
        "log_dest stderr",
        "log_type all",
        f"plugin {library()}",
        *(f"plugin_opt_{key} {value}" for key, value in options),
    ]
    return "\n".join(lines) + "\n"


class Mosquitto(Process):
    """Mosquitto with the library as its plugin; `again` starts one in the place of another."""

    def __init__(self, settings=None, lines=(), again=None, after=()):
        """`lines` are of the broker's own configuration, `after` those behind the plugin."""
        self.udp = again.udp if again else ("127.0.0.1", free_udp_port())
        self.mqtt = again.mqtt if again else ("127.0.0.1", free_tcp_port())
        self.folder = tempfile.TemporaryDirectory(prefix="lwm2m-e2e-")
        conf = pathlib.Path(self.folder.name) / "mosquitto.conf"
        listener = {"listeners.udp.default.bind": "%s:%d" % self.udp}
        # What reads the broker's memory is off unless it is asked for.
        own = {"sys_interval": "100ms", "message_expiry": "packet"}
        options = {**listener, **own, **DEFAULTS, **(settings or {})}
        text = mosquitto_conf(self.mqtt, options.items(), lines)
        conf.write_text("\n".join([text, *after]) + "\n")
        super().__init__([mosquitto(), "-c", conf])
        self.wait_ready(lambda: answers_ping(self.udp) and accepts_tcp(self.mqtt))

    def statistics(self):
        """The counters, which the broker has under $SYS."""
        from application import Application

        time.sleep(0.3)  # a tick and `sys_interval`
        reader = Application(self.mqtt, filters=("$SYS/broker/lwm2m/#",))
        known = 0
        while known < 10 or known < len(reader.messages):
            known = len(reader.messages)
            time.sleep(0.05)
        reader.close()
        return {m.topic.rpartition("/")[2]: m.json for m in reader.messages}

    def stop(self, *args, **kwargs):
        code = super().stop(*args, **kwargs)
        self.folder.cleanup()
        return code


class CHost(Process):
    """The broker in C of `tests/c`, which makes the gateway's callbacks on its own thread."""

    arguments = ()

    def __init__(self, settings=None, arguments=()):
        self.udp = ("127.0.0.1", free_udp_port())
        self.mqtt = ("127.0.0.1", free_tcp_port())
        self.folder = tempfile.TemporaryDirectory(prefix="lwm2m-e2e-")
        self.config = pathlib.Path(self.folder.name) / "gateway.toml"
        listener = {"listeners.udp.default.bind": '"%s:%d"' % self.udp}
        settings = {**listener, **DEFAULTS, **(settings or {})}
        self.config.write_text("".join(f"{k} = {v}\n" for k, v in settings.items()))
        arguments = (*self.arguments, *arguments, self.mqtt[1], self.config)
        super().__init__([self.program(), *arguments])
        self.wait_ready(lambda: answers_ping(self.udp) and accepts_tcp(self.mqtt))

    @staticmethod
    @functools.cache
    def program():
        out = pathlib.Path(library()).resolve().parent / "c"
        make = ["make", "-s", "-C", ROOT / "tests" / "c", f"LIBRARY={library()}", f"OUT={out}"]
        subprocess.run([*make, out / "host"], check=True)
        return out / "host"

    def stop(self, *args, **kwargs):
        code = super().stop(*args, **kwargs)
        self.folder.cleanup()
        return code


class CHostThreaded(CHost):
    """The same, with the gateway's threads making the callbacks."""

    arguments = ("--threaded",)


class Nif(Process):
    """An Erlang node with the NIF, which is a client of Mosquitto."""

    def __init__(self, settings=None):
        # First: nothing may be left running when it does not compile.
        erl = ["erl", "-noshell", "-pa", *self.code_path()]
        self.udp = ("127.0.0.1", free_udp_port())
        self.mqtt = ("127.0.0.1", free_tcp_port())
        self.folder = tempfile.TemporaryDirectory(prefix="lwm2m-e2e-")
        folder = pathlib.Path(self.folder.name)
        lines = [
            "listener %d %s" % self.mqtt[::-1],
            "allow_anonymous true",
            "set_tcp_nodelay true",
            "max_queued_messages 0",
        ]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self.broker = Process([mosquitto(), "-c", folder / "mosquitto.conf"])
        self.broker.wait_ready(lambda: accepts_tcp(self.mqtt))
        listener = {"listeners.udp.default.bind": '"%s:%d"' % self.udp}
        settings = {**listener, **DEFAULTS, **(settings or {})}
        config = folder / "gateway.toml"
        config.write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        super().__init__([*erl, "-s", "e2e_host", "start", self.mqtt[1], config])
        self.wait_ready(lambda: answers_ping(self.udp) and "subscribed" in self.log())

    @staticmethod
    @functools.cache
    def code_path():
        """Of the test build: `rebar3 as test compile`."""
        rebar3 = ["rebar3", "as", "test", "compile"]
        env = {"PROFILE": "dev", **os.environ}
        subprocess.run(rebar3, cwd=ROOT / "erlang_nif", env=env, check=True)
        lib = ROOT / "erlang_nif" / "_build" / "test" / "lib" / "lwm2m_gateway"
        return [lib / "ebin", lib / "test"]

    def stop(self, *args, **kwargs):
        code = super().stop(*args, **kwargs)
        self.broker.stop()
        self.folder.cleanup()
        return code


HOSTS = {
    "standalone": Standalone,
    "mosquitto": Mosquitto,
    "c": CHost,
    "c-threaded": CHostThreaded,
    "nif": Nif,
}
