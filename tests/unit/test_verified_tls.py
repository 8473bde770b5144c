"""A certificate is accepted for the host that it names, and for no other."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_pem_x509_certificate
from cryptography.x509.oid import ExtensionOID, NameOID
from OpenSSL.crypto import X509
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from cyclone_sse.verified_tls import VerifyingCreator

DNS, MAIL = x509.DNSName, x509.RFC822Name
LOCAL = x509.IPAddress(ip_address("127.0.0.1"))
NO_NAME = "its certificate has no valid subjectAltName, and so is for no host"
MALFORMED = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x7f")


def certificate(*names: x509.GeneralName, extension: x509.ExtensionType | None = None) -> bytes:
    """A certificate for these names, whose common name is example.com, and its key, as PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.com")])
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
    if names or extension:
        builder = builder.add_extension(extension or x509.SubjectAlternativeName(names), critical=False)
    made = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made


class Server:
    """A server with this certificate and its key, which greets."""

    def __init__(self, pem: bytes, directory: Path) -> None:
        file = directory / "server.pem"
        file.write_bytes(pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        self._received, self._sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._sent, server_side=True)
        self._greeting = b"hello"

    def answer(self, data: bytes) -> bytes:
        """Its bytes in answer to these."""
        self._received.write(data)
        with suppress(ssl.SSLError):  # it wants more, or was refused
            self._tls.do_handshake()
            self._greeting = self._greeting[self._tls.write(self._greeting) :] if self._greeting else b""
        return self._sent.read()


class Listener(Protocol):
    """Notes what it hears, or why it ended."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data.decode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.heard.append(str(reason.value))


def heard(directory: Path, host: str, pem: bytes, trusted: bytes | None = None) -> list[str]:
    """What a client of this host hears from a server with this certificate. trusted: another one."""
    root = trustRootFromCertificates([Certificate.loadPEM(trusted or pem)])
    listener, transport, server = Listener(), StringTransport(), Server(pem, directory)
    factory = Factory.forProtocol(lambda: listener)
    creator = VerifyingCreator(host, optionsForClientTLS(host, root))
    client = TLSMemoryBIOFactory(creator, True, factory).buildProtocol(None)
    client.makeConnection(transport)
    while answer := server.answer(transport.value()):
        transport.clear()
        client.dataReceived(answer)
    if not listener.heard:
        client.connectionLost(Failure(ConnectionAborted()))
    return listener.heard


@pytest.mark.parametrize(
    ("host", "names", "reason"),
    [
        ("example.com", [DNS("example.com")], None),
        ("www.example.com", [DNS("other.example"), DNS("*.example.com")], None),
        ("127.0.0.1", [LOCAL], None),
        # As scripts make them for old clients; browsers and curl accept these.
        ("127.0.0.1", [DNS("127.0.0.1"), LOCAL], None),
        ("example.com", [DNS("*"), x509.UniformResourceIdentifier("urn:a"), DNS("example.com")], None),
        ("127.0.0.1", [DNS("127.0.0.1")], NO_NAME),
        ("::1", [x509.IPAddress(ip_address("::1"))], None),
        ("example.com", [DNS("other.example")], "its certificate is not for example.com"),
        ("127.0.0.1", [DNS("localhost")], "its certificate is not for 127.0.0.1"),
        ("example.com", [], NO_NAME),
        ("example.com", [MAIL("root@example.com")], NO_NAME),
    ],
)
def test_the_certificate_must_be_for_the_host(
    tmp_path: Path, host: str, names: list[x509.GeneralName], reason: str | None
) -> None:
    assert heard(tmp_path, host, certificate(*names)) == [reason or "hello"]


def test_names_that_cannot_be_read_are_none() -> None:
    creator = VerifyingCreator("example.com", optionsForClientTLS("example.com"))
    own = load_pem_x509_certificate(certificate(extension=MALFORMED))
    assert creator.problem(X509.from_cryptography(own)) == NO_NAME


@pytest.mark.parametrize("names", [[], [DNS("example.com")]])
def test_the_name_alone_proves_nothing(tmp_path: Path, names: list[x509.GeneralName]) -> None:
    trusted = certificate(DNS("example.com"))
    (reason,) = heard(tmp_path, "example.com", certificate(*names), trusted)
    assert "certificate verify failed" in reason
