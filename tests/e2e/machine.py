"""A clean Debian or Ubuntu that boots systemd in a container, for the packages: `systemd-nspawn` on an
overlay of a tree that mmdebstrap has made once. It has a network of its own, with the loopback alone."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import time
import urllib.request

import pytest

from patience import patient

DEBIAN_12, UBUNTU_24_04 = "bookworm", "noble"
PACKAGES = "systemd,systemd-sysv,dbus,mosquitto,mosquitto-clients"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

UBUNTU = "http://archive.ubuntu.com/ubuntu"
# The keys that sign Ubuntu's archive. Debian has no package of them; the digest says that these are
# the ones.
KEYRING = f"{UBUNTU}/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb"
KEYRING_SHA256 = "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8"


def clean_tree(cache, suite=DEBIAN_12):
    """The tree; skips where it cannot be made or used."""
    if os.geteuid() != 0:
        pytest.skip("not root: no container")
    for program in ("systemd-nspawn", "mmdebstrap", "nsenter"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    tree, new = cache / f"clean-{suite}", cache / f"clean-{suite}.new"
    if not tree.exists():
        shutil.rmtree(new, ignore_errors=True)
        options, mirror = debian() if suite == DEBIAN_12 else ubuntu(cache)
        made = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=apt", *options, suite, str(new), *mirror],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900,
        )
        if made.returncode != 0:
            shutil.rmtree(new, ignore_errors=True)
            pytest.skip(f"no clean {suite} can be had: {made.stderr[-300:]}")
        # A container has a /dev of its own; this link leads Cargo in circles when it looks for files.
        (new / "dev" / "fd").unlink(missing_ok=True)
        new.rename(tree)
    return tree


def debian():
    """Options and mirror of mmdebstrap."""
    return [f"--include={PACKAGES},libssl3"], []


def ubuntu(cache):
    """See `debian`. Mosquitto is in universe."""
    try:
        with urllib.request.urlopen(KEYRING, timeout=30) as answer:
            package = answer.read()
    except OSError as error:
        pytest.skip(f"no keys of Ubuntu can be had: {error}")
    assert hashlib.sha256(package).hexdigest() == KEYRING_SHA256
    file, folder = cache / "ubuntu-keyring.deb", cache / "ubuntu-keyring"
    file.write_bytes(package)
    subprocess.run(["dpkg-deb", "-x", str(file), str(folder)], check=True)
    keys = folder / "usr" / "share" / "keyrings" / "ubuntu-archive-keyring.gpg"
    return [
        f"--include={PACKAGES},libssl3t64", "--components=main,universe", f"--keyring={keys}",
    ], [UBUNTU]


class Machine:
    """A running container."""

    def __init__(self, tree, folder):
        self.root = pathlib.Path(folder) / "root"
        self.layers = [pathlib.Path(folder) / name for name in ("upper", "work")]
        for path in (self.root, *self.layers):
            path.mkdir()
        options = f"lowerdir={tree},upperdir={self.layers[0]},workdir={self.layers[1]}"
        mounted = subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)],
            capture_output=True, text=True,
        )
        if mounted.returncode != 0:
            pytest.skip(f"no overlay here: {mounted.stderr.strip()}")
        (self.root / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
        self.console = open(pathlib.Path(folder) / "console", "w+")
        # Nothing starts by itself but what every system has.
        self.process = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network",
             "--console=pipe", f"--directory={self.root}", "--boot", "systemd.unit=basic.target"],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=subprocess.STDOUT,
        )
        self.leader = None
        try:
            self.wait_until_booted()
        except BaseException:
            self.close()
            raise

    def wait_until_booted(self):
        end = time.monotonic() + patient(60)
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self.console.seek(0)
                pytest.skip(f"no container boots here: {self.console.read()[-300:]}")
            children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
            pids = pathlib.Path(children).read_text().split()
            if pids:
                self.leader = pids[0]
                state = self.run("systemctl is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.2)
        raise AssertionError("the container does not boot")

    def run(self, script, check=True):
        """Runs a shell script in the container."""
        return self.enter(
            ["--all", "--root", "--", "env", "-i", f"PATH={PATH}", "LC_ALL=C.UTF-8",
             "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "sh", "-ec", f"cd /; {script}"],
            check,
        )

    def __call__(self, script):
        return self.run(script).stdout

    def from_here(self, *command, check=True):
        """Runs a program of this system in the container's network."""
        return self.enter(["--net", "--", *map(str, command)], check)

    def enter(self, arguments, check):
        done = subprocess.run(
            ["nsenter", f"--target={self.leader}", *arguments],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
        )
        if check:
            assert done.returncode == 0, f"{arguments[-1]}: {done.stdout}{done.stderr}"
        return done

    def listen(self, *command):
        """Starts a program of the container, whose output is read later."""
        return subprocess.Popen(
            ["nsenter", f"--target={self.leader}", "--all", "--root", "--", *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )

    def put(self, file):
        """Copies a file into /root of the container. Returns its path there."""
        shutil.copy(file, self.root / "root")
        return f"/root/{pathlib.Path(file).name}"

    def close(self):
        # nspawn ends everything in it when it ends.
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.console.close()
        subprocess.run(["umount", "--lazy", str(self.root)], check=False)
        for layer in self.layers:
            shutil.rmtree(layer, ignore_errors=True)
