"""The command `psk`: files of pre-shared keys are edited safely."""

import re
import stat
import subprocess

import pytest

from gateway import binary

pytestmark = pytest.mark.standalone_only


def psk(command, file, *arguments, stdin=""):
    return subprocess.run(
        [binary(), "psk", command, "--file", str(file), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_add_makes_a_key_and_a_private_file(tmp_path):
    file = tmp_path / "psk"
    done = psk("add", file, "sn1")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"[0-9a-f]{32}\n", done.stdout)
    assert file.read_text() == f"sn1:{done.stdout}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    again = psk("add", file, "sn1")
    assert again.returncode == 1 and "line 1" in again.stderr and not again.stdout
    other = psk("add", file, "sn1", "--replace", "--generate")
    assert other.returncode == 0 and other.stdout != done.stdout


def test_comments_mode_and_other_lines_stay(tmp_path):
    file = tmp_path / "psk"
    file.write_bytes(b"# devices\r\nsn1:00112233445566778899aabbccddeeff\r\nbroken\r\n")
    file.chmod(0o640)
    key = "c0ffee00c0ffee00c0ffee00c0ffee00"
    done = psk("add", file, "urn:imei:1", "--key", "-", "--endpoints", "a,b*", stdin=key + "\n")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert file.read_bytes() == (
        b"# devices\r\nsn1:00112233445566778899aabbccddeeff\r\nbroken\r\n"
        b'"urn:imei:1":' + key.encode() + b":a,b*\r\n"
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o640

    listed = psk("list", file)
    assert listed.stdout == "sn1\t16 bytes\t\nurn:imei:1\t16 bytes\ta,b*\n"
    assert "line 3" in listed.stderr and "c0ffee" not in listed.stderr

    assert psk("remove", file, "sn1").returncode == 0
    assert file.read_bytes().startswith(b"# devices\r\nbroken\r\n")
    gone = psk("remove", file, "sn1")
    assert gone.returncode == 1 and "sn1" in gone.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["psk"]


@pytest.mark.parametrize(
    "key, reason",
    [("zz", "not hexadecimal"), ("001", "odd number"), ("", "empty"), ("00" * 257, "longer")],
)
def test_wrong_keys_change_nothing(tmp_path, key, reason):
    file = tmp_path / "psk"
    file.write_text("sn1:00112233445566778899aabbccddeeff\n")
    done = psk("add", file, "sn2", "--key", key)
    assert done.returncode == 1 and reason in done.stderr
    assert file.read_text() == "sn1:00112233445566778899aabbccddeeff\n"


def test_files_that_cannot_be_edited(tmp_path):
    for command in ("remove", "list"):
        arguments = ["sn1"] if command == "remove" else []
        done = psk(command, tmp_path / "missing", *arguments)
        assert done.returncode == 1 and "missing" in done.stderr
    assert psk("add", tmp_path, "sn1").returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_editors_do_not_lose_each_others_lines(tmp_path):
    file = tmp_path / "psk"
    editors = [
        subprocess.Popen(
            [binary(), "psk", "add", "--file", str(file), f"sn{index}"],
            stdout=subprocess.DEVNULL,
        )
        for index in range(20)
    ]
    assert [editor.wait(60) for editor in editors] == [0] * 20
    assert len(file.read_text().splitlines()) == 20


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_text("")
    (tmp_path / "link").symlink_to("real")
    assert psk("add", tmp_path / "link", "sn1").returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text().startswith("sn1:")
