"""TLS with a server whose certificate must be for its host.

Twisted 26 accepts a certificate from which it can read no name, such as one without subjectAltName, for every
host, if its issuer is trusted; it only logs a traceback. Here, whatever cannot be verified is refused.
"""

from __future__ import annotations

from weakref import ref

from OpenSSL.crypto import X509
from OpenSSL.SSL import VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_PEER, Connection
from service_identity import VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
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
        is_address = isIPAddress(host) or isIPv6Address(host)
        self._verify = verify_certificate_ip_address if is_address else verify_certificate_hostname
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
            self._verify(certificate.to_cryptography(), self._host)
        except VerificationError:
            return f"its certificate is not for {self._host}"
        except Exception:  # whatever an extension has: OpenSSL would take an exception for success
            return "its certificate has no valid subjectAltName, and so is for no host"
        return None
