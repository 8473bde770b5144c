"""TLS with a broker: the certificates that are trusted, and the certificate of this server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from OpenSSL.crypto import Error as OpenSSLError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)

from cyclone_sse.verified_tls import wrap_tls

_END = b"-----END CERTIFICATE-----"


class BrokerTls:
    """The certificates for connections to a broker.

    settings: broker-ca, broker-cert and broker-key, names of PEM files. Without a CA the certificates of the
    system are trusted, or those that SSL_CERT_FILE names. Raises ValueError if a file cannot be used.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        ca, cert, key = (settings[f"broker-{name}"] for name in ("ca", "cert", "key"))
        if bool(cert) != bool(key):
            raise ValueError("--broker-cert and --broker-key: set both or neither")
        self._trusted = None if ca is None else trustRootFromCertificates(_certificates("ca", ca))
        self._own = None if cert is None else _private_certificate(cert, key)
        # Without the intermediate certificates the broker could not verify ours.
        self._chain = [] if cert is None else [each.original for each in _certificates("cert", cert)[1:]]

    def wrap(self, endpoint: IStreamClientEndpoint, host: str) -> IStreamClientEndpoint:
        """The endpoint with TLS. host: the name or address that the broker's certificate must have."""
        chain = {"extraCertChain": self._chain} if self._chain else {}
        options = optionsForClientTLS(host, self._trusted, self._own, extraCertificateOptions=chain)
        return wrap_tls(endpoint, host, options)


def _certificates(option: str, path: str) -> list[Certificate]:
    try:
        pieces = _read(option, path).split(_END)[:-1]
        found = [Certificate.loadPEM(piece + _END) for piece in pieces]
    except OpenSSLError:
        found = []
    if not found:
        raise ValueError(f"--broker-{option}={path}: this is not a PEM certificate")
    return found


def _private_certificate(cert: str, key: str) -> PrivateCertificate:
    try:
        own: PrivateCertificate = PrivateCertificate.loadPEM(_read("key", key) + b"\n" + _read("cert", cert))
    except OpenSSLError:
        files = f"--broker-cert={cert}, --broker-key={key}"
        raise ValueError(f"{files}: expected a certificate and its key") from None
    return own


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"--broker-{option}={path}: {error.strerror}") from None
