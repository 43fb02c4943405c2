"""Records with connection ids (RFC 9146), computed by another implementation than ours: writes
rfc9146.json beside this file. Needs the package `cryptography`."""

import json
import pathlib

from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM

KEY = bytes(range(16))
SALT = bytes.fromhex("a0a1a2a3")
SUITES = {
    "ccm8": lambda: AESCCM(KEY, tag_length=8),
    "ccm": lambda: AESCCM(KEY, tag_length=16),
    "gcm": lambda: AESGCM(KEY),
}


def record(suite, cid, number, content_type, content, padding):
    """DTLSCiphertext of RFC 9146 §4, sealed as §5.3 says; epoch 1."""
    head = (1 << 48 | number).to_bytes(8, "big")
    inner = content + bytes([content_type]) + bytes(padding)
    additional = (
        b"\xff" * 8
        + bytes([25, len(cid), 25])
        + b"\xfe\xfd"
        + head
        + cid
        + len(inner).to_bytes(2, "big")
    )
    sealed = head + SUITES[suite]().encrypt(SALT + head, inner, additional)
    return b"\x19\xfe\xfd" + head + cid + len(sealed).to_bytes(2, "big") + sealed


def vectors():
    for suite in SUITES:
        for number in (1, 0x0102030405, (1 << 48) - 1):
            for content_type, content in ((23, b""), (23, b"\x40\x01\x00\x01"), (21, b"\x01\x00"), (22, bytes(30))):
                for padding in (0, 1, 16):
                    cid = bytes.fromhex("c1d2e3f405162738")
                    yield {
                        "suite": suite,
                        "id": cid.hex(),
                        "number": number,
                        "type": content_type,
                        "content": content.hex(),
                        "padding": padding,
                        "record": record(suite, cid, number, content_type, content, padding).hex(),
                    }


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(vector) for vector in vectors())
    target = pathlib.Path(__file__).with_suffix(".json")
    target.write_text(f'{{"key": "{KEY.hex()}", "salt": "{SALT.hex()}", "records": [\n{lines}\n]}}\n')
