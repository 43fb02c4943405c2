"""Devices with X.509 certificates: who is let in, as whom, and what happens when files change."""

import re
import shutil
import signal
import subprocess
import time

import pytest

from certificates import (
    RSA,
    WEAK_RSA,
    Authority,
    CertifiedDevice,
    is_refused,
    mbedtls_session,
    openssl,
    self_signed,
)
from conftest import needs
from dtls import Refused
from patience import patient
from gateway import binary, wait_for
from secure import Changes, Kept

# They read its counters and its log.
pytestmark = [pytest.mark.standalone_only, needs("openssl")]

SUITES = ("ECDHE-ECDSA-AES128-CCM8", "ECDHE-ECDSA-AES128-GCM-SHA256")
PAST = ("20200101000000Z", "20200201000000Z")
FUTURE = ("20900101000000Z", "20910101000000Z")


class Pki:
    """A root, a CA below it for devices, and the certificate of the gateway."""

    def __init__(self, directory):
        self.dir = directory
        self.root = Authority(directory, "test root")
        self.ca = Authority(directory, "test devices", self.root)
        self.server = self.root.issue("/CN=gateway.example", "extendedKeyUsage = serverAuth")

    def options(self, server=None, **more):
        server = server or self.server
        return {
            "dtls_options.certfile": str(server.certfile),
            "dtls_options.keyfile": str(server.keyfile),
            "dtls_options.cacertfile": str(self.root.certfile),
            "dtls_options.handshake_timeout": "3s",
            "dtls_options.max_failures": "0",
            **{key.replace("__", "."): value for key, value in more.items()},
        }


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def certified(secure, pki):
    """Starts a gateway with certificates; `bench.shows(certificate)` is a device."""

    def start(options=None, psk=None, settings=None, root=None):
        settings = {"log.interval": "0s", **(settings or {})}
        bench = secure(options or pki.options(), psk=psk, settings=settings)

        def shows(certificate, endpoint=None, **kwargs):
            cacertfile = (root or pki.root).certfile
            device = CertifiedDevice(bench.gateway, endpoint, certificate, cacertfile, **kwargs)
            bench.devices.append(device)
            return device

        bench.shows = shows
        return bench

    return start


def reasons(bench):
    """Why handshakes were refused, as the log has it."""
    lines = bench.gateway.log().splitlines()
    lines = [line for line in lines if "handshake with certificates failed" in line]
    return [re.search(r'reason="(.*?)"', line)[1] for line in lines]


def refused_for(bench, certificate, reason, cacertfile, **kwargs):
    """The device is refused, the log says why, and the counters count it."""
    changes = Changes(bench.gateway)
    is_refused(bench, certificate, cacertfile, **kwargs)
    changes.wait("dtls_handshakes_failed")
    assert changes["dtls_keys_failed"] == 1
    assert changes["dtls_handshakes_completed"] == 0
    return wait_for(lambda: [it for it in reasons(bench) if reason in it], 5, reason)[-1]


@pytest.mark.parametrize("suite", SUITES)
def test_a_device_with_a_certificate(certified, pki, suite):
    bench = certified()
    certificate = pki.root.issue(f"/CN=sn-{suite}/O=Example")
    device = bench.shows(certificate, f"sn-{suite}", suite=suite)
    assert device.sock.cipher == suite
    device.register()
    bench.app.report(device.endpoint)
    bench.read(device, "/3/0/0", "2.05", b"Example", content_format=0)


def test_keys_and_certificates_on_one_listener(certified, pki):
    bench = certified()
    by_key = bench.device()
    by_certificate = bench.shows(pki.root.issue("/CN=sn1"), "sn1")
    for device in (by_key, by_certificate):
        device.register()
    for device in (by_key, by_certificate):
        device.update()


def test_chains_and_fragments(certified, pki):
    """The device shows its chain of more than a datagram, and the gateway its own, each in
    datagrams within its MTU."""
    server = pki.ca.issue("/CN=gateway.example", "extendedKeyUsage = serverAuth")
    options = pki.options(server, dtls_options__mtu="400")
    bench = certified(options)
    note = "nsComment = " + "x" * 900
    certificate = pki.ca.issue("/CN=sn2", note)
    device = bench.shows(certificate, "sn2", arguments=("-mtu", "512"))
    device.register()
    assert bench.gateway.statistics()["dtls_handshakes_completed"] == 1


def test_mbedtls(certified, pki):
    """The same with another library, in small fragments that come in another order."""
    bench = certified(pki.options(dtls_options__mtu="400"))
    certificate = pki.ca.issue("/CN=sn3", "nsComment = " + "y" * 1500)
    seen = []

    def shuffled(datagrams):
        seen.extend(len(datagram) for datagram in datagrams)
        return datagrams[::-1]

    session = mbedtls_session(
        bench.gateway.dtls, certificate, pki.root, mtu=300, outgoing=shuffled
    )
    session.identity = "sn3"
    session.handshake()
    # It does not cut its hellos.
    assert len(seen) > 8 and max(seen[2:]) <= 300
    assert max(len(datagram) for datagram in session.received) <= 400
    assert "ECDHE-ECDSA" in session.suite
    device = bench.shows(None, "sn3", session=session)
    device.register()


def test_rsa(certified, pki):
    server = pki.root.issue("/CN=gateway.example", key=RSA)
    bench = certified(pki.options(server))
    suite = "ECDHE-RSA-AES128-GCM-SHA256"
    for name, key in (("rsa1", RSA), ("rsa2", None)):
        certificate = pki.root.issue(f"/CN={name}", **({"key": key} if key else {}))
        device = bench.shows(certificate, name, suite=suite)
        assert device.sock.cipher == suite
        device.register()


REFUSED = {
    "expired": dict(subject="/CN=sn", dates=PAST, reason="certificate has expired"),
    "not-yet": dict(subject="/CN=sn", dates=FUTURE, reason="certificate is not yet valid"),
    "purpose": dict(
        subject="/CN=sn", extensions="extendedKeyUsage = serverAuth", reason="certificate purpose"
    ),
    "no-name": dict(subject="/O=Example", reason="no common name"),
    "two-names": dict(subject="/CN=sn/CN=sm", reason="more than one common name"),
    "wildcard": dict(subject="/CN=*.example", reason="wildcard"),
    "control": dict(subject="/CN=a\nb", reason="control characters"),
    "weak": dict(subject="/CN=sn", key=WEAK_RSA, reason="key is too weak"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_certificates_that_are_refused(certified, pki, kind):
    case = dict(REFUSED[kind])
    reason = case.pop("reason")
    bench = certified()
    certificate = pki.root.issue(case.pop("subject"), **case)
    line = refused_for(bench, certificate, reason, pki.root.certfile)
    if "/CN=sn" in REFUSED[kind]["subject"]:
        assert "CN=sn" in line


def test_nobody_of_ours(certified, pki, tmp_path):
    bench = certified()
    other = Authority(tmp_path, "other CA").issue("/CN=sn1")
    refused_for(bench, other, "unable to get local issuer", pki.root.certfile)
    own = self_signed(tmp_path, "/CN=sn1")
    refused_for(bench, own, "self-signed certificate", pki.root.certfile)
    refused_for(bench, None, "did not return a certificate", pki.root.certfile)


def test_a_certificate_without_its_key(certified, pki):
    """Whoever has seen a certificate, which is no secret, is not its device."""
    bench = certified()
    certificate = pki.root.issue("/CN=sn1")
    session = mbedtls_session(bench.gateway.dtls, certificate, pki.root)
    session.identity = "sn1"

    def spoilt(datagrams):
        """The last byte of the CertificateVerify's signature is another one."""
        found = []
        for datagram in datagrams:
            if datagram[0] == 22 and datagram[3:5] == b"\0\0" and datagram[13] == 15:
                datagram = datagram[:-1] + bytes([datagram[-1] ^ 1])
            found.append(datagram)
        return found

    session.outgoing = spoilt
    with pytest.raises(Refused):
        session.handshake()
    assert wait_for(lambda: [it for it in reasons(bench) if "bad signature: sn1" in it], 5, "line")


def test_revoked(certified, pki, tmp_path):
    """A list that changes: devices that are connected go, others stay, and no handshake succeeds."""
    ca = Authority(tmp_path, "revoking CA")
    server = ca.issue("/CN=gateway.example")
    one, other = ca.issue("/CN=sn1"), ca.issue("/CN=sn2")
    bench = certified(
        {
            **pki.options(server),
            "dtls_options.cacertfile": str(ca.certfile),
            "dtls_options.crlfile": str(ca.revocations()),
        },
        root=ca,
    )
    gone, stays = bench.shows(one, "sn1"), bench.shows(other, "sn2")
    gone.register()
    stays.register()
    ca.revoke(one)
    ca.revocations()
    assert gone.sock.ended(20) == 0
    stays.update()
    refused_for(bench, one, "certificate revoked", ca.certfile)
    stays.update()


def test_a_chain_with_lists(certified, pki, tmp_path):
    """Only the CA that issues certificates of devices needs a list."""
    root = Authority(tmp_path, "root")
    ca = Authority(tmp_path, "ca", root)
    options = {
        **pki.options(root.issue("/CN=gateway")),
        "dtls_options.cacertfile": str(root.certfile),
        "dtls_options.crlfile": str(ca.revocations()),
    }
    bench = certified(options, root=root)
    bench.shows(ca.issue("/CN=sn1"), "sn1").register()
    # Nobody says what this one has revoked.
    silent = Authority(tmp_path, "silent", root).issue("/CN=sn2")
    refused_for(bench, silent, "unable to get certificate CRL", root.certfile)


def test_pinned(certified, pki, tmp_path):
    """Without any CA: those with this fingerprint, also by their identity."""
    one = self_signed(tmp_path, "/CN=whoever", name="one")
    other = self_signed(tmp_path, "/CN=whoever", name="other")
    options = pki.options(pinned_certificates=f'["{one.fingerprint}"]')
    del options["dtls_options.cacertfile"]
    options["certificate_identity"] = "fingerprint"
    bench = certified(options)
    bench.shows(one, one.fingerprint).register()
    refused_for(bench, other, "self-signed certificate", pki.root.certfile)


@pytest.mark.parametrize(
    ("names", "identity", "reason"),
    [
        ("DNS:dev1.example,URI:urn:dev:1,URI:https://example/1", "urn:dev:1", None),
        ("DNS:dev2.example,IP:192.0.2.1", "dev2.example", None),
        ("DNS:a.example,DNS:b.example", None, "more than one alternative name"),
        ("URI:urn:a,URI:urn:b", None, "more than one alternative name"),
        ("DNS:*.example", None, "wildcard"),
        ("email:a@example", None, "no alternative name that is"),
        (None, None, "no alternative name"),
    ],
)
def test_alternative_names(certified, pki, names, identity, reason):
    bench = certified(pki.options(certificate_identity="san"))
    extension = f"subjectAltName = {names}" if names else ""
    certificate = pki.root.issue("/CN=common", extension)
    if reason:
        refused_for(bench, certificate, reason, pki.root.certfile)
    else:
        bench.shows(certificate, identity).register()


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        ("owned", ["{}", "truck-{}-7"], ["unowned-{}", "pool-0000"]),
        ("equal", ["{}"], ["truck-{}-7", "{}#2"]),
        ("listed", ["truck-{}-7"], ["{}"]),
        ("any", ["unowned-{}"], []),
    ],
)
def test_endpoint_rules(certified, pki, rule, allowed, refused):
    """As those of pre-shared keys, but nobody has a name just because no key covers it."""
    name = f"of-{rule}"
    bench = certified(
        pki.options(
            endpoint_rule=rule,
            certificate_endpoints=f'{{ "{name}" = ["truck-{name}-*"] }}',
            identity_separator="#",
        )
    )
    certificate = pki.root.issue(f"/CN={name}")
    for endpoint in allowed:
        bench.shows(certificate, endpoint.format(name)).register()
    for endpoint in refused:
        bench.shows(certificate, endpoint.format(name)).register(expect="4.03")


def test_no_suffix_of_a_key(certified, pki):
    """A certificate with the name of somebody's key and a suffix is not that device."""
    bench = certified(pki.options(identity_separator="#", endpoint_rule="equal"))
    certificate = pki.root.issue("/CN=pool-0001#2")
    bench.shows(certificate, "pool-0001").register(expect="4.03")


def test_names_that_are_no_part_of_a_topic(certified, pki):
    """The name of a device goes into topics by `${username}`: what has a meaning there is refused."""
    bench = certified(
        pki.options(mountpoint="lwm2m/${username}/", endpoint_rule="any"),
    )
    for number, name in enumerate(("a\\+b", "#", "\\+")):
        device = bench.shows(pki.root.issue(f"/CN={name}"), f"innocent-{number}")
        device.register(expect="4.00")


def test_resumption(certified, pki, tmp_path):
    bench = certified()
    certificate = pki.ca.issue("/CN=sn1")
    file = str(tmp_path / "session")
    device = bench.shows(certificate, "sn1", arguments=("-sess_out", file))
    device.register()
    changes = Changes(bench.gateway)
    device.arguments = ("-sess_in", file)
    device.new_address()
    changes.wait("dtls_handshakes_resumed")
    device.update()


def test_sessions_survive_a_restart(programs, pki, tmp_path):
    """With their identity; but nobody comes back whose certificate was revoked meanwhile."""
    ca = Authority(tmp_path, "revoking CA")
    options = {
        **pki.options(ca.issue("/CN=gateway.example")),
        "dtls_options.cacertfile": str(ca.certfile),
        "dtls_options.crlfile": str(ca.revocations()),
        "endpoint_rule": "equal",
    }
    settings = {f"listeners.dtls.default.{name}": f'"{it}"' for name, it in options.items()}
    del settings["listeners.dtls.default.dtls_options.max_failures"]
    gateway = Kept(tmp_path / "store", settings)
    programs.append(gateway)
    certificates = [ca.issue(f"/CN=sn{number}") for number in (1, 2)]
    gone, stays = (
        CertifiedDevice(gateway, f"sn{number}", certificate, ca.certfile)
        for number, certificate in enumerate(certificates, 1)
    )
    for device in gone, stays:
        device.register()
    time.sleep(patient(1))  # longer than `store.sync`
    gateway.restart(signal.SIGKILL)
    for device in gone, stays:
        device.update()
    # It is still who it was.
    stays.endpoint = "sn1"
    stays.register(expect="4.03")
    stays.endpoint = "sn2"
    counts = gateway.statistics()
    assert counts["dtls_sessions_restored"] == 2 and counts["dtls_hellos"] == 0

    def revoke():
        ca.revoke(certificates[0])
        ca.revocations()

    gateway.restart(signal.SIGTERM, revoke)
    stays.update()
    counts = gateway.statistics()
    assert counts["dtls_sessions_restored"] == 1 and counts["dtls_hellos"] == 0
    with pytest.raises(AssertionError, match="did not come"):
        gone.update()
    assert gateway.statistics()["dtls_unknown_peer"] > 0
    for device in gone, stays:
        device.close()


def test_renewed_certificate(certified, pki, tmp_path):
    """The gateway gets a new certificate while devices are connected."""
    shown = tmp_path / "server.pem", tmp_path / "server.key"

    def show(certificate):
        for old, new in zip((certificate.certfile, certificate.keyfile), shown):
            shutil.copy(old, new.with_suffix(".new"))
            new.with_suffix(".new").rename(new)

    show(pki.server)
    options = pki.options()
    options["dtls_options.certfile"], options["dtls_options.keyfile"] = map(str, shown)
    bench = certified(options)
    device = bench.shows(pki.root.issue("/CN=sn1"), "sn1")
    device.register()
    by_key = bench.device()
    by_key.register()
    # A key that does not belong to it: the old ones stay.
    shutil.copy(pki.ca.issue("/CN=else").keyfile, shown[1])
    wait_for(lambda: "stay in use" in bench.gateway.log(), 20, "warning")
    other = bench.shows(pki.root.issue("/CN=sn2"), "sn2")
    other.register()
    show(pki.root.issue("/CN=gateway-2"))
    wait_for(lambda: "certificates reloaded" in bench.gateway.log(), 20, "the new certificate")
    third = bench.shows(pki.root.issue("/CN=sn3"), "sn3")
    assert "CN = gateway-2" in third.sock.log()
    third.register()
    for device in (device, by_key, other):
        device.update()


def test_a_huge_chain(certified, pki):
    """More than 16 kB of certificates: dropped, and nobody else notices."""
    bench = certified()
    certificate = pki.root.issue("/CN=big", "nsComment = " + "z" * 9_000)
    pem = certificate.certfile.read_text()
    certificate.certfile.write_text(pem * 2)
    changes = Changes(bench.gateway)
    is_refused(bench, certificate, pki.root.certfile, timeout=4)
    changes.wait("dtls_handshakes_timed_out")
    assert changes["dtls_records_dropped"] > 0
    assert changes["dtls_handshakes_completed"] == 0
    bench.shows(pki.root.issue("/CN=sn1"), "sn1").register()


def test_garbage_in_place_of_a_certificate(certified, pki):
    """Each byte that the device sends in the clear behind its hellos may be another one: the
    gateway goes on."""
    bench = certified()
    certificate = pki.root.issue("/CN=sn1")
    changes = Changes(bench.gateway)
    for number in range(40):
        session = mbedtls_session(bench.gateway.dtls, certificate, pki.root)
        session.identity = "sn1"

        def spoilt(datagrams, number=number):
            found = []
            for datagram in datagrams:
                if datagram[0] == 22 and datagram[3:5] == b"\0\0" and datagram[13] == 11:
                    at = 25 + number * (len(datagram) - 26) // 40
                    datagram = datagram[:at] + bytes([datagram[at] ^ 0x5A]) + datagram[at + 1 :]
                found.append(datagram)
            return found

        session.outgoing = spoilt
        with pytest.raises((Refused, TimeoutError)):
            session.handshake(5)
        session.close()
    changes.look()
    assert changes["dtls_handshakes_started"] == 40
    assert changes["dtls_handshakes_completed"] == 0
    bench.shows(certificate, "sn1").register()


def test_simulate(certified, pki, tmp_path):
    """A fleet with certificates, each its own."""
    bench = certified()
    for number in range(3):
        certificate = pki.ca.issue(f"/CN=fleet-{number}")
        shutil.copy(certificate.certfile, tmp_path / f"{number}.pem")
        shutil.copy(certificate.keyfile, tmp_path / f"{number}.key")

    def simulate(ca):
        done = subprocess.run(
            [
                *(binary(), "simulate", "--server", "coaps://%s:%d" % bench.gateway.dtls),
                *("--endpoint-prefix", "fleet-", "--devices", "3", "--duration", "3"),
                *("--cert", tmp_path / "{}.pem", "--key", tmp_path / "{}.key", "--ca", ca),
            ],
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stdout + done.stderr

    code, said = simulate(pki.root.certfile)
    assert code == 0 and "registered 3 of 3" in said, said
    # Whoever did not issue the gateway's.
    other = Authority(tmp_path, "another CA")
    code, said = simulate(other.certfile)
    assert code == 1 and "registered 0 of 3" in said, said
    code, said = simulate(tmp_path / "none.pem")
    assert code == 1 and "none.pem: No such file" in said, said


# Mistakes in a configuration, which `check-config` finds


@pytest.fixture
def check(pki, tmp_path):
    def run(**changes):
        options = {**pki.options(), **changes}
        lines = ["[listeners.dtls.default]", 'psk = {sn1 = "00112233445566778899aabbccddeeff"}']
        for key, value in options.items():
            if value is not None:
                value = value if str(value).startswith("[") else f'"{value}"'
                lines.append(f"{key} = {value}")
        file = tmp_path / "config.toml"
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o600)
        done = subprocess.run(
            [binary(), "check-config", file], capture_output=True, text=True, timeout=20
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_good_configuration(check):
    assert check() == (0, "ok\n")


def test_mistakes(check, pki, tmp_path):
    other = pki.root.issue("/CN=other")
    expired = pki.root.issue("/CN=gateway", dates=PAST)
    future = pki.root.issue("/CN=gateway", dates=FUTURE)
    weak = pki.root.issue("/CN=gateway", key=WEAK_RSA)
    soon = tmp_path / "soon.pem"
    openssl(
        *("req", "-x509", "-new", "-key", pki.server.keyfile, "-out", soon),
        *("-subj", "/CN=soon", "-days", "3"),
    )
    locked = tmp_path / "locked.key"
    openssl(
        *("pkcs8", "-topk8", "-in", pki.server.keyfile, "-out", locked),
        *("-passout", "pass:secret"),
    )
    locked.chmod(0o600)
    public = tmp_path / "public.pem"
    openssl("pkey", "-in", pki.server.keyfile, "-pubout", "-out", public)
    readable = tmp_path / "readable.key"
    shutil.copy(pki.server.keyfile, readable)
    readable.chmod(0o644)
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing\n")
    nothing.chmod(0o600)
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for key, value, expected in [
        ("keyfile", other.keyfile, "keyfile: the private key does not belong"),
        ("keyfile", "/no/such/file", "keyfile: /no/such/file: No such file"),
        ("keyfile", nothing, "keyfile: holds no private key in PEM"),
        ("keyfile", locked, "keyfile: the private key is encrypted and needs"),
        ("keyfile", readable, f"keyfile: {readable}: holds a private key, but every user of"),
        ("certfile", nothing, "certfile: holds no certificate in PEM"),
        ("certfile", garbage, "certfile: a certificate cannot be read"),
        ("certfile", pki.server.keyfile, "certfile: holds a private key but no certificate"),
        ("certfile", public, "certfile: holds a raw public key (RFC 7250), which is not supported"),
        ("certfile", None, "keyfile: needs dtls_options.certfile"),
        ("cacertfile", None, "certfile: needs dtls_options.cacertfile or pinned_certificates"),
        ("cacertfile", nothing, "cacertfile: holds no certificate in PEM"),
        ("crlfile", nothing, "crlfile: holds no revocation list in PEM"),
        ("ciphers", "PSK-AES128-CCM8", "ciphers: holds no suite with certificates"),
        ("depth", "x", "depth: expected a whole number"),
    ]:
        code, said = check(**{f"dtls_options.{key}": value})
        assert code == 1, (key, value)
        assert f"listeners.dtls.default.dtls_options.{expected}" in said, said
    for certificate, expected in [
        (expired, "has expired (Feb  1"),
        (future, "is not valid yet (from Jan"),
        (weak, "the key is too weak"),
    ]:
        files = {
            "dtls_options.certfile": certificate.certfile,
            "dtls_options.keyfile": certificate.keyfile,
        }
        code, said = check(**files)
        assert code == 1 and f"default.dtls_options.certfile: " in said, said
        assert expected in said, said
    # What is accepted, with or without a warning.
    keys = {"dtls_options.keyfile": locked, "dtls_options.password": "secret"}
    assert check(**keys) == (0, "ok\n")
    keys["dtls_options.password"] = "wrong"
    code, said = check(**keys)
    assert code == 1 and "dtls_options.password: is not the password of the private key" in said
    code, said = check(**{"dtls_options.certfile": soon})
    assert code == 0 and "expires soon" in said, said
    code, said = check(**{"dtls_options.verify": "verify_none"})
    assert code == 0 and "dtls_options.verify: with verify_none" in said, said


def test_an_encrypted_key(certified, pki, tmp_path):
    locked = tmp_path / "locked.key"
    openssl(
        *("pkcs8", "-topk8", "-in", pki.server.keyfile, "-out", locked),
        *("-passout", "pass:secret"),
    )
    locked.chmod(0o600)
    options = pki.options(dtls_options__password="secret")
    options["dtls_options.keyfile"] = str(locked)
    bench = certified(options)
    bench.shows(pki.root.issue("/CN=sn1"), "sn1").register()
