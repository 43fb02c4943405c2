"""Dockerfiles and compose files: what they name is there, and what they set is right. They are built
where a container engine runs and the base images can be had, which is not asked for here."""

import fnmatch
import re

import pytest

from conftest import psk_file
from gateway import ROOT, binary
from test_packages import run

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

pytestmark = pytest.mark.standalone_only

FOLDER = ROOT / "packaging" / "container"
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "erlang_nif" / "emqx" / "Dockerfile"]
COMPOSE = sorted(FOLDER.glob("compose.*.yaml"))


def instructions(file):
    """(name, rest) of each, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", file.read_text()))
    return [line.split(None, 1) for line in text.splitlines() if line.strip()]


def sent():
    """What the builder gets of the tree: the patterns of .dockerignore that let in."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line[1:] for line in lines if line.startswith("!")]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_dockerfile_names(file):
    stages, workdir = set(), False
    for name, rest in instructions(file):
        if name == "FROM":
            words = rest.split()
            # An image with a version, or none.
            assert words[0] == "scratch" or re.search(r":[\w${}.-]+$", words[0]), rest
            stages.add(words[-1])
        elif name == "WORKDIR":
            workdir = True
        elif name == "COPY":
            *sources, target = rest.split()
            if sources[0].startswith("--from="):
                assert sources[0].split("=")[1] in stages, rest
            elif sources == ["."]:
                assert workdir
            else:
                for source in sources:
                    assert (ROOT / source).exists(), source
                    top = source.split("/")[0]
                    assert any(fnmatch.fnmatch(top, pattern) for pattern in sent()), source
        elif name == "RUN" and "apt-get install" in rest:
            assert "--no-install-recommends" in rest and "rm -rf /var/lib/apt/lists" in rest
    # The workspace is whole, or cargo refuses it.
    for path in ("Cargo.toml", "Cargo.lock", "build.rs", "src", "include", "priv", "erlang_nif", "benches"):
        assert path in sent() and (ROOT / path).exists()


def test_the_image():
    found = dict(instructions(ROOT / "Dockerfile"))
    assert found["USER"] == "900"
    assert "healthcheck" in found["HEALTHCHECK"]
    # Signals reach the program: no shell between.
    assert found["ENTRYPOINT"] == '["/usr/bin/lwm2m-gateway"]'


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.name)
def test_a_compose_file(file):
    composed = yaml.safe_load(file.read_text())
    made_by_hand = (FOLDER / ".gitignore").read_text().split()
    for name, service in composed["services"].items():
        assert set(service.get("depends_on", ())) <= set(composed["services"]), name
        for volume in service.get("volumes", ()):
            source, target = volume.split(":")[:2]
            assert target.startswith("/")
            if not source.startswith("./"):
                assert source in composed["volumes"], source
            elif not any(source[1:].startswith(path) for path in made_by_hand):
                assert (FOLDER / source).exists(), source
        if "build" in service:
            assert (FOLDER / service["build"]["context"] / "Dockerfile").exists()
        for port in service.get("ports", ()):
            assert re.fullmatch(r"\d+:\d+(/udp)?", port), port


@pytest.mark.parametrize("name", ["gateway.toml", "gateway.mosquitto.toml"])
def test_the_configurations(name, tmp_path):
    text = (FOLDER / name).read_text()
    keys = psk_file(tmp_path / "psk", [])
    text = text.replace('"/etc/lwm2m-gateway/psk"', f'"{keys}"')
    config = tmp_path / "gateway.toml"
    config.write_text(text)
    assert run(binary(), "check-config", config).splitlines()[-1] == "ok"
