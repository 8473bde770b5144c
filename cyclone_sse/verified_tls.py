"""TLS with a server whose certificate must be for its host.

Twisted 26 accepts a certificate from which it can read no name, such as one without subjectAltName, for every
host, if its issuer is trusted; it only logs a traceback. Here, whatever cannot be verified is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from weakref import ref

from cryptography.x509 import Certificate, DNSName, IPAddress, SubjectAlternativeName
from OpenSSL.crypto import X509
from OpenSSL.SSL import VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_PEER, Connection
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import (
    DNS_ID,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    verify_service_identity,
)
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer


class WrongCertificate(Exception):
    """The certificate of the server is not for its host. The text is for the log, after the server's name."""


def wrap_tls(
    endpoint: IStreamClientEndpoint, host: str, creator: IOpenSSLClientConnectionCreator
) -> IStreamClientEndpoint:
    """The endpoint with TLS. host: the name or address that the certificate must have. creator: Twisted's."""
    wrapped: IStreamClientEndpoint = wrapClientTLS(VerifyingCreator(host, creator), endpoint)
    return wrapped


@implementer(IOpenSSLClientConnectionCreator)
class VerifyingCreator:
    """Makes the connections of a creator of Twisted's, and verifies their certificates itself."""

    def __init__(self, host: str, creator: IOpenSSLClientConnectionCreator) -> None:
        self._host = host
        self._is_address = isIPAddress(host) or isIPv6Address(host)
        self._creator = creator

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        connection: Connection = self._creator.clientConnectionForTLS(tlsProtocol)
        # Without the weak reference, no connection would be freed before the next full collection.
        protocol = ref(tlsProtocol)

        def verify(_: Connection, certificate: X509, error: int, depth: int, is_trusted: int) -> bool:
            if depth or not is_trusted:  # depth 0 is the server's own, which comes last
                return bool(is_trusted)
            reason, failing = self.problem(certificate), protocol()
            if reason and failing is not None:
                failing.failVerification(Failure(WrongCertificate(reason)))
            return reason is None

        connection.set_verify(VERIFY_PEER | VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection

    def problem(self, certificate: X509) -> str | None:
        """Why the certificate is not for the host; None if it is."""
        try:
            wanted = IPAddress_ID(self._host) if self._is_address else DNS_ID(self._host)
            verify_service_identity(list(_names(certificate.to_cryptography())), [wanted], [])
        except VerificationError:
            return f"its certificate is not for {self._host}"
        except Exception:  # whatever an extension has: OpenSSL would take an exception for success
            return "its certificate has no valid subjectAltName, and so is for no host"
        return None


def _names(certificate: Certificate) -> Iterator[DNSPattern | IPAddressPattern]:
    """The hosts that the certificate is for. Raises errors of cryptography if it has no readable names."""
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    for address in names.get_values_for_type(IPAddress):
        yield IPAddressPattern(address)  # type: ignore[arg-type]  # networks are only in other extensions
    for name in names.get_values_for_type(DNSName):
        # Without this, one that cannot be used would make the others useless, such as "*", or the address
        # that a script adds for old clients ("DNS:10.0.0.1").
        with suppress(CertificateError):
            yield DNSPattern.from_bytes(name.encode())
