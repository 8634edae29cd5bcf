"""Certificates a client must accept and certificates it must refuse."""

import ssl
import warnings
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOOPBACK = ("127.0.0.1", "localhost")


class Certificates:
    """A throw-away authority and server contexts for its certificates, right and wrong.

    `ca_path` is the PEM file a client is told to trust (AWS_CA_BUNDLE, SSL_CERT_FILE).
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = trustme.CA()
        self.ca_path = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_path))

    def good(self, *names: str) -> ssl.SSLContext:
        """Signed by the authority for `names`, loopback where none are given."""
        return _serve(self._authority.issue_cert(*(names or LOOPBACK)))

    def wrong_host(self) -> ssl.SSLContext:
        """Signed by the authority, for a host that nobody here is."""
        return _serve(self._authority.issue_cert("elsewhere.example.test"))

    def expired(self, *names: str) -> ssl.SSLContext:
        """Signed by the authority, and over since yesterday."""
        now = datetime.now(UTC)
        leaf = self._authority.issue_cert(
            *(names or LOOPBACK),
            not_before=now - timedelta(days=30),
            not_after=now - timedelta(days=1),
        )
        return _serve(leaf)

    def unknown_authority(self, *names: str) -> ssl.SSLContext:
        """Right in every way, signed by an authority the client does not know."""
        return _serve(trustme.CA().issue_cert(*(names or LOOPBACK)))

    def self_signed(self) -> ssl.SSLContext:
        """Signed by its own key, for loopback."""
        path = self._directory / "self-signed.pem"
        path.write_bytes(_sign_self())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def old_protocol(self, *names: str) -> ssl.SSLContext:
        """A good certificate, but no TLS newer than 1.1."""
        context = self.good(*names)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        return context

    def client(self) -> ssl.SSLContext:
        """What a careful client that trusts the authority uses."""
        return ssl.create_default_context(cafile=str(self.ca_path))


def _serve(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def _sign_self() -> bytes:
    """Key and certificate, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(_alternative_names(), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)


def _alternative_names() -> x509.SubjectAlternativeName:
    address = x509.IPAddress(IPv4Address("127.0.0.1"))
    return x509.SubjectAlternativeName([x509.DNSName("localhost"), address])
