"""Certificates made for a test by the `openssl` command, and devices that show them."""

import re
import socket
import subprocess
import tempfile
import time

from device import Device
from dtls import Session, tls
from secure import SClient

CONFIG = """
[ca]
default_ca = this
[this]
dir = {dir}
database = {dir}/index.txt
serial = {dir}/serial
crlnumber = {dir}/crlnumber
new_certs_dir = {dir}
certificate = {dir}/ca.pem
private_key = {dir}/ca.key
default_md = sha256
policy = any
unique_subject = no
email_in_dn = no
default_days = 30
default_crl_days = 30
[any]
commonName = optional
organizationName = optional
[req]
distinguished_name = dn
string_mask = utf8only
utf8 = yes
[dn]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""

CURVE = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
WEAK_RSA = ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024")


def openssl(*arguments, **kwargs):
    command = ["openssl", *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, **kwargs)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Certificate:
    """A certificate (with its chain, if any) and its key, each in a file."""

    def __init__(self, certfile, keyfile):
        self.certfile, self.keyfile = certfile, keyfile

    @property
    def fingerprint(self):
        shown = openssl("x509", "-in", self.certfile, "-noout", "-fingerprint", "-sha256")
        return shown.strip().split("=")[1].replace(":", "").lower()


class Authority:
    """A CA in a directory of its own; `parent` has issued its certificate."""

    def __init__(self, directory, name="test CA", parent=None):
        self.dir = directory / name.replace(" ", "-")
        self.dir.mkdir()
        self.parent, self.count = parent, 0
        self.config = self.dir / "ca.cnf"
        self.config.write_text(CONFIG.format(dir=self.dir))
        (self.dir / "index.txt").touch()
        (self.dir / "serial").write_text("1000\n")
        (self.dir / "crlnumber").write_text("01\n")
        self.certfile, self.keyfile = self.dir / "ca.pem", self.dir / "ca.key"
        openssl("genpkey", *CURVE, "-out", self.keyfile)
        if parent:
            parent.sign(self.keyfile, self.certfile, f"/CN={name}", extensions=None)
        else:
            openssl(
                *("req", "-x509", "-new", "-key", self.keyfile, "-out", self.certfile),
                *("-subj", f"/CN={name}", "-days", "30", "-config", self.config),
                *("-extensions", "authority"),
            )

    def sign(self, keyfile, certfile, subject, extensions="", dates=()):
        """`extensions` are lines of a section of OpenSSL's; None: those of a CA."""
        request = certfile.with_suffix(".csr")
        openssl(
            *("req", "-new", "-key", keyfile, "-out", request, "-subj", subject),
            *("-config", self.config),
        )
        issue = ["ca", "-batch", "-notext", "-config", self.config, "-in", request]
        if extensions is None:
            issue += ["-extensions", "authority"]
        else:
            file = certfile.with_suffix(".ext")
            file.write_text("[device]\nbasicConstraints = CA:false\n" + extensions + "\n")
            issue += ["-extfile", file, "-extensions", "device"]
        if dates:
            issue += ["-startdate", dates[0], "-enddate", dates[1]]
        openssl(*issue, "-out", certfile)

    def issue(self, subject, extensions="", dates=(), key=CURVE):
        """For a `subject` such as `/CN=sn1`, with the chain up to below the root."""
        self.count += 1
        certfile, keyfile = self.dir / f"{self.count}.pem", self.dir / f"{self.count}.key"
        openssl("genpkey", *key, "-out", keyfile)
        keyfile.chmod(0o600)
        self.sign(keyfile, certfile, subject, extensions, dates)
        issuer, chain = self, certfile.read_text()
        while issuer.parent:
            chain += issuer.certfile.read_text()
            issuer = issuer.parent
        certfile.write_text(chain)
        return Certificate(certfile, keyfile)

    def revoke(self, certificate):
        openssl("ca", "-config", self.config, "-revoke", certificate.certfile)

    def revocations(self, *options):
        """The file of a new list."""
        file = self.dir / "crl.pem"
        openssl("ca", "-config", self.config, "-gencrl", "-out", file, *options)
        return file


def self_signed(directory, subject, key=CURVE, name="self"):
    certfile, keyfile = directory / f"{name}.pem", directory / f"{name}.key"
    openssl("genpkey", *key, "-out", keyfile)
    keyfile.chmod(0o600)
    openssl(
        *("req", "-x509", "-new", "-key", keyfile, "-out", certfile, "-subj", subject),
        *("-days", "30"),
    )
    return Certificate(certfile, keyfile)


class CertifiedClient(SClient):
    """`openssl s_client` with a certificate; it checks that of the gateway."""

    def __init__(self, address, certificate, cacertfile, suite, arguments=()):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.messages = ours
        self.output = tempfile.NamedTemporaryFile("w+", prefix="lwm2m-e2e-", suffix=".log")
        command = [
            *("openssl", "s_client", "-dtls1_2", "-connect", "%s:%d" % address, "-brief"),
            *("-cipher", f"{suite}:@SECLEVEL=0", "-CAfile", str(cacertfile)),
            "-verify_return_error",
            *arguments,
        ]
        if certificate:
            command += ["-cert", str(certificate.certfile), "-key", str(certificate.keyfile)]
            command += ["-cert_chain", str(certificate.certfile)]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=self.output
        )
        theirs.close()


class CertifiedDevice(Device):
    """A scripted device that shows a certificate."""

    def __init__(
        self,
        gateway,
        endpoint=None,
        certificate=None,
        cacertfile=None,
        suite="ECDHE-ECDSA-AES128-CCM8",
        arguments=(),
        session=None,
    ):
        self.certificate, self.cacertfile = certificate, cacertfile
        self.suite, self.arguments, self.session = suite, arguments, session
        super().__init__(gateway, endpoint)

    def connect(self):
        if self.session:
            session, self.session = self.session, None
            return session
        return CertifiedClient(
            self.gateway.dtls, self.certificate, self.cacertfile, self.suite, self.arguments
        ).handshake()


def is_refused(
    bench, certificate, cacertfile, suite="ECDHE-ECDSA-AES128-CCM8", arguments=(), timeout=None
):
    """The gateway ends the handshake; returns what the client says. With a `timeout` it may just be
    silent."""
    client = CertifiedClient(bench.gateway.dtls, certificate, cacertfile, suite, arguments)
    end = time.monotonic() + (timeout or 10)
    while client.process.poll() is None:
        if time.monotonic() > end:
            assert timeout, "no end"
            client.process.kill()
            client.process.wait()
        # With a session it would wait for input.
        assert "CONNECTION ESTABLISHED" not in client.log(), client.log()
        time.sleep(0.02)
    client.messages.close()
    assert "CONNECTION ESTABLISHED" not in client.log(), client.log()
    return client.log()


def mbedtls_session(address, certificate, authority, mtu=None, chain=(), **options):
    """The same with `python-mbedtls`."""
    from mbedtls import pk, x509

    def key(path):
        pem = path.read_text()
        kind = pk.RSA if "RSA" in openssl("pkey", "-in", path, "-noout", "-text") else pk.ECC
        return kind.from_PEM(pem)

    def certificates(path):
        found = re.findall("-----BEGIN CERT.*?-----END CERTIFICATE-----\n", path.read_text(), re.S)
        return [x509.CRT.from_PEM(pem) for pem in found]

    own, *rest = certificates(certificate.certfile)
    trust = tls.TrustStore()
    for one in certificates(authority.certfile):
        trust.add(one)
    configuration = tls.DTLSConfiguration(
        validate_certificates=True,
        trust_store=trust,
        certificate_chain=([own, *rest, *chain], key(certificate.keyfile)),
        lowest_supported_version=tls.DTLSVersion.DTLSv1_2,
        handshake_timeout_min=0.5,
        handshake_timeout_max=4,
    )
    return Session(address, None, None, mtu=mtu, configuration=configuration, **options)
