"""docs/guide/getting-started.md, gone through in a clean Debian: each command and each file of it; and
the commands of operating.md and troubleshooting.md."""

import re

import pytest

from conftest import needs
from gateway import ROOT, wait_for
from machine import Machine, clean_tree
from test_packages import Subscriber, debs, packages  # noqa: F401: fixtures

pytestmark = pytest.mark.standalone_only

FOLDER = ROOT / "docs" / "guide"
GUIDE, OPERATING, TROUBLE = (
    (FOLDER / f"{name}.md").read_text()
    for name in ("getting-started", "operating", "troubleshooting")
)


@pytest.fixture
def machine(cache, tmp_path_factory):
    machine = Machine(clean_tree(cache), tmp_path_factory.mktemp("machine"))
    yield machine
    machine.close()


def section(title):
    """The text and the blocks below a heading: (what stands before the block, its kind, its lines)."""
    text = GUIDE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"((?:(?!```).)*?)```(\w*)\n(.*?)```", text, re.S)
    assert found, title
    return found


def commands(title):
    return [block for _, kind, block in section(title) if kind == "sh"]


def shell(machine, block):
    """Runs a block as root in /root, where the packages are."""
    return machine("cd /root; sudo() { \"$@\"; }\n" + block)


@needs("dpkg-deb")
@needs("coap-client-openssl")
def test_getting_started(debs, machine):  # noqa: F811
    for deb in debs:
        machine.put(deb)
    [install] = commands("Install")
    shell(machine, install.replace("apt install", "apt-get install -y"))

    for before, kind, block in section("A broker with users"):
        if kind == "sh":
            shell(machine, block)
        else:
            # The last file that the text names.
            file = re.findall(r"`(/etc/[^`]+)`", before)[-1]
            (machine.root / file[1:]).write_text(block)

    for before, kind, block in section("The gateway"):
        if kind == "toml":
            file = machine.root / re.findall(r"`(/etc/[^`]+)`", before)[-1][1:]
            head, _, _ = file.read_text().partition("[mqtt]\n")
            file.write_text(head + block)
        else:
            shell(machine, block)
            # The journal is written a moment later.
            journal = block.splitlines()[-1]
    wait_for(lambda: "listening dtls=0.0.0.0:5684" in shell(machine, journal), 20, "a line in the journal")
    wait_for(lambda: " connected broker=" in shell(machine, journal), 20, "the connection to the broker")

    subscribe, device, command = commands("The first device")
    options = re.search(r"mosquitto_sub (.*) -v", subscribe).group(1).split()
    subscriber = Subscriber(machine, *options)
    try:
        for line in device.replace("\\\n", " ").splitlines():
            if line.startswith("coap-client-openssl"):
                # The clean Debian has no libcoap: this system's, in the other one's network.
                done = machine.from_here("sh", "-c", line.replace("openssl -m", "openssl -B 10 -m"))
                assert not done.stdout and not done.stderr
            else:
                shell(machine, line)
        expected = [block for _, kind, block in section("The first device") if kind == ""]
        register, send = expected[0].splitlines()
        topic = register.split()[0]
        assert subscriber.message(topic)["data"]["ep"] == "sn-0002"
        topic = send.split()[0]
        assert subscriber.message(topic)["data"]["content"] == [
            {"path": "/3303/0/5700", "value": 21.5}
        ]
        shell(machine, command)
        assert subscriber.message("lwm2m/sn-0001/up/resp")["data"]["code"] == "4.04"
        [look] = commands("See it")
        for line in look.splitlines():
            assert "sn-0002" in shell(machine, line)
    finally:
        subscriber.close()

    operate(machine)
    for line in lines(TROUBLE):
        shell(machine, line.replace("mosquitto_pub", f"mosquitto_pub {' '.join(options)}"))

    # Instead of the service.
    [plugin] = commands("Inside Mosquitto")
    shell(machine, plugin.replace("apt install", "apt-get install -y"))
    log = "journalctl -u mosquitto; cat /var/log/mosquitto/mosquitto.log"
    wait_for(lambda: "listening dtls=0.0.0.0:5684" in machine(log), 20, "the plugin")
    assert "sn-0002:" in machine("cat /etc/mosquitto/lwm2m.psk")
    # Mosquitto would not start again.
    said = machine("apt-get purge -y lwm2m-gateway-mosquitto 2>&1")
    assert "/etc/mosquitto/conf.d/lwm2m.conf loads the plugin" in said


def lines(page):
    """The commands of a page, without what would wait for ever."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.S)
    found = [line for block in blocks for line in block.splitlines() if " -f " not in line]
    assert found
    return found


def operate(machine):
    """Each command of that page, in the state that it speaks of."""
    for line in lines(OPERATING):
        state = "stop" if " store " in line else "start"
        machine(f"systemctl {state} lwm2m-gateway")
        said = shell(machine, line)
        if " store info " in line:
            assert re.search(r"\b1\b.*device|device.*\b1\b", said), said
    machine("systemctl start lwm2m-gateway")


def test_the_files_that_the_guide_names_are_there():
    for page in (GUIDE, OPERATING, TROUBLE):
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page):
            assert (FOLDER / link).exists(), link
