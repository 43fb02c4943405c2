"""`make install` into a directory of its own, and what a distribution or a C programmer does then."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from conftest import needs
from gateway import ROOT, binary, library

pytestmark = pytest.mark.standalone_only

PREFIX = "/opt/lwm2m"
COMMAND = 'lwm2m/nobody/dn/dm {"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}\n'


def run(*command, **kwargs):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120, **kwargs
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The root below which everything was installed."""
    root = tmp_path_factory.mktemp("root")
    run(
        "make", "-C", ROOT, "install", f"DESTDIR={root}", f"PREFIX={PREFIX}",
        f"LIBDIR={PREFIX}/lib/some-arch", f"LIBRARY={library()}", f"PROGRAM={binary()}",
    )
    return root


@pytest.fixture(scope="module")
def prefix(installed):
    return installed / PREFIX[1:]


def answers(program, prefix):
    """Runs the example host, which answers a command for nobody."""
    process = subprocess.Popen(
        [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(prefix / "lib" / "some-arch")},
        cwd=program.parent,
    )
    try:
        process.stdin.write(COMMAND)
        process.stdin.flush()
        topic, payload = process.stdout.readline().split(" ", 1)
        assert topic == "lwm2m/nobody/up/resp"
        assert json.loads(payload)["data"]["reason"] == "not_registered"
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


def test_files(prefix):
    lib = prefix / "lib" / "some-arch"
    names = sorted(path.name for path in lib.glob("liblwm2m_gateway.so*"))
    assert len(names) == 3 and re.fullmatch(r"liblwm2m_gateway\.so\.\d+\.\d+\.\d+", names[2])
    assert (lib / names[0]).resolve() == (lib / names[1]).resolve() == lib / names[2]
    soname = re.search(r"SONAME.*\[(.*)\]", run("readelf", "-d", lib / names[2])).group(1)
    assert names[1] == soname
    assert (prefix / "include" / "lwm2m_gateway.h").is_file()
    share = prefix / "share"
    assert len(list((share / "lwm2m-gateway" / "objects").glob("*.xml"))) == 8
    plugin = (share / "lwm2m-gateway" / "examples" / "mosquitto.conf").read_text()
    assert f"plugin {PREFIX}/lib/some-arch/{soname}" in plugin
    for file in prefix.rglob("*"):
        if file.is_file() and file.suffix in (".pc", ".cmake", ".conf"):
            assert "@" not in file.read_text(), file


def test_stripped(prefix):
    library = next((prefix / "lib" / "some-arch").glob("liblwm2m_gateway.so.*.*.*"))
    for file in (prefix / "bin" / "lwm2m-gateway", library):
        sections = run("readelf", "-SW", file)
        # `.debug_gdb_scripts`, which may stay, is loaded with the program.
        assert ".text" in sections
        assert ".debug_info" not in sections and ".debug_line" not in sections
        assert ".symtab" not in sections


def test_documents_licences_and_unit(prefix):
    documents = prefix / "share" / "doc" / "lwm2m-gateway"
    for name in ("README.md", "LICENSE-MIT", "LICENSE-APACHE", "docs/configuration.md"):
        assert (documents / name).is_file()
    unit = (prefix / "lib" / "systemd" / "system" / "lwm2m-gateway.service").read_text()
    assert f"ExecStart={PREFIX}/bin/lwm2m-gateway run" in unit
    assert f"file://{PREFIX}/share/doc/lwm2m-gateway/" in unit
    assert (prefix / "lib" / "sysusers.d" / "lwm2m-gateway.conf").is_file()


def test_nothing_outside_of_the_prefix(installed, prefix):
    files = [path for path in installed.rglob("*") if path.is_file()]
    assert files and all(prefix in path.parents for path in files)


def test_program(prefix):
    program = prefix / "bin" / "lwm2m-gateway"
    assert run(program, "--version") == run(binary(), "--version")
    share = prefix / "share" / "lwm2m-gateway"
    run(program, "check-config", share / "examples" / "gateway.toml")
    assert "LwM2M Server" in run(program, "objects", "--xml-dir", share / "objects")


@needs("pkg-config")
@pytest.mark.parametrize(
    "compiler", [["cc", "-std=c99", "-Wall", "-Wextra", "-Werror"], ["c++", "-Wall", "-x", "c++"]]
)
def test_pkg_config(installed, prefix, tmp_path, compiler):
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"{compiler[0]} is not installed")
    env = {
        **os.environ,
        "PKG_CONFIG_LIBDIR": str(prefix / "lib" / "some-arch" / "pkgconfig"),
        "PKG_CONFIG_SYSROOT_DIR": str(installed),
    }
    flags = run("pkg-config", "--cflags", "--libs", "lwm2m_gateway", env=env).split()
    source = prefix / "share" / "lwm2m-gateway" / "examples" / "host.c"
    run(*compiler, source, "-x", "none", *flags, "-o", tmp_path / "host")
    answers(tmp_path / "host", prefix)
    version = run("pkg-config", "--modversion", "lwm2m_gateway", env=env).strip()
    assert version in run(binary(), "--version")


CMAKE = """
cmake_minimum_required(VERSION 3.13)
project(host C)
find_package(lwm2m_gateway 0.1 REQUIRED)
add_executable(host "{source}")
target_link_libraries(host lwm2m_gateway::lwm2m_gateway)
"""


@needs("cmake")
def test_cmake(prefix, tmp_path):
    source = prefix / "share" / "lwm2m-gateway" / "examples" / "host.c"
    (tmp_path / "CMakeLists.txt").write_text(CMAKE.format(source=source))
    config = prefix / "lib" / "some-arch" / "cmake" / "lwm2m_gateway"
    run(
        "cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-Dlwm2m_gateway_DIR={config}",
        "-DCMAKE_C_FLAGS=-std=c99 -Werror",
    )
    run("cmake", "--build", tmp_path / "build")
    answers(tmp_path / "build" / "host", prefix)


def options(*command):
    return set(re.findall(r"(?<![\w-])--[a-z0-9-]+", run(binary(), *command, "--help")))


def test_the_manual_page_names_every_option():
    commands = set(re.findall(r"^  ([a-z-]+) ", run(binary(), "--help"), re.M)) - {"help"}
    page = (ROOT / "packaging" / "lwm2m-gateway.1").read_text().replace("\\-", "-")
    for command in commands:
        assert f".B {command}\n" in page, command
    known = set(re.findall(r"^\.(?:B|BI|BR)\b.*?(--[a-z0-9-]+)", page, re.M))
    real = options().union(*(options(command) for command in commands))
    real |= options("psk", "add")
    # Options that texts only speak of are options all the same.
    assert known == real


@needs("man")
def test_the_manual_page_is_well_formed(prefix):
    page = prefix / "share" / "man" / "man1" / "lwm2m-gateway.1"
    done = subprocess.run(
        ["man", "--warnings", "-l", page], capture_output=True, text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
    )
    assert done.returncode == 0 and not done.stderr
    assert "simulate" in done.stdout


def test_uninstall(installed, prefix):
    assert pathlib.Path(installed).is_dir()
    run("make", "-C", ROOT, "uninstall", f"DESTDIR={installed}", f"PREFIX={PREFIX}",
        f"LIBDIR={PREFIX}/lib/some-arch")
    assert not [path for path in installed.rglob("*") if path.is_file()]
