"""What the package for Erlang says when its library does not fit the node."""

import subprocess

import pytest

from conftest import needs
from gateway import ROOT

pytestmark = pytest.mark.standalone_only


@needs("erlc")
def test_it_says_what_it_was_made_for(tmp_path):
    app = tmp_path / "lwm2m_gateway"
    for folder in ("ebin", "priv"):
        (app / folder).mkdir(parents=True)
    subprocess.run(
        ["erlc", "-o", app / "ebin", ROOT / "erlang_nif/src/lwm2m_gateway_nif.erl"], check=True
    )
    # No library at all, which fails as one for another C library does.
    (app / "priv" / "lwm2m_gateway_nif.so").write_text("")
    (app / "priv" / "made_for").write_text("OTP 99 or later and glibc 9.9 or later")
    node = subprocess.Popen(
        ["erl", "-noshell", "-pa", app / "ebin", "-eval",
         "{error, on_load_failure} = code:ensure_loaded(lwm2m_gateway_nif),"
         "timer:sleep(60000), halt()."],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
        cwd=tmp_path,
    )
    said = ""
    try:
        # It goes on until there is a line with its last words, or the node has ended.
        for line in node.stdout:
            said += line
            if "this node has OTP" in line:
                break
    finally:
        node.kill()
        node.wait()
    assert "made for OTP 99 or later and glibc 9.9 or later; this node has OTP" in said
