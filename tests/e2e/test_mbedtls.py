"""Mbed TLS 3.6 as a client: connection ids (RFC 9146) with somebody else's code."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from secure import Changes, fresh_identity, key_of

pytestmark = pytest.mark.standalone_only  # they read its counters

ROOT = pathlib.Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "tests/mbedtls/Cargo.toml"
SUITES = [
    "TLS-PSK-WITH-AES-128-CCM-8",
    "TLS-PSK-WITH-AES-128-CCM",
    "TLS-PSK-WITH-AES-128-GCM-SHA256",
]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def mbedtls(cache):
    """The client, built once from the sources that the package brings along."""
    if not shutil.which("cmake"):
        pytest.skip("cmake is not installed")
    text = run("cargo", "metadata", "--locked", "--format-version=1", "--manifest-path", MANIFEST)
    packages = json.loads(text)["packages"]
    manifest = next(it["manifest_path"] for it in packages if it["name"] == "mbedtls-rs-sys")
    sources = pathlib.Path(manifest).parent / "mbedtls"
    built = cache / "mbedtls"
    library = built / "library/libmbedtls.a"
    if not library.exists():
        off = [f"-D{name}=OFF" for name in ("ENABLE_PROGRAMS", "ENABLE_TESTING", "GEN_FILES")]
        run("cmake", "-S", sources, "-B", built, "-DCMAKE_BUILD_TYPE=Release", *off)
        run("cmake", "--build", built, "-j", os.cpu_count() or 1)
    client = built / "client"
    libraries = [built / f"library/lib{name}.a" for name in ("mbedtls", "mbedx509", "mbedcrypto")]
    warnings = ["-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror"]
    include = ["-I", sources / "include", "-isystem", sources / "include"]
    code = ROOT / "tests/mbedtls/client.c"
    run("cc", *warnings, *include, code, "-o", client, *libraries)
    return client


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("own", [0, 6])
def test_it_moves_and_is_understood(secure, mbedtls, suite, own):
    """A CoAP ping from a new port twenty times, each answered there; one handshake."""
    bench, identity = secure(settings={"shards": 2}), fresh_identity()
    changes = Changes(bench.gateway)
    _, port = bench.gateway.dtls
    said = run(mbedtls, port, identity, key_of(identity).hex(), suite, own, 20, timeout=60)
    assert "ids agreed on, 8 bytes" in said and "answered 21 of 21" in said
    changes.wait("dtls_moves", 20)
    assert changes["dtls_handshakes_completed"] == 1


def test_without_ids_here(secure, mbedtls):
    bench, identity = secure({"connection_id.length": 0}), fresh_identity()
    command = [mbedtls, bench.gateway.dtls[1], identity, key_of(identity).hex(), SUITES[0], 0, 0]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
    assert "ids not agreed on" in done.stdout and "answered 1 of 1" in done.stdout
