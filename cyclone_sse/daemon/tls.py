"""TLS for the second port: certificate, chain and key from PEM files.

Mistakes in the files are found at the start, and when the files are read again; each is one line.
Open connections keep the certificate that they have.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates

from cyclone_sse.daemon.tls_transport import TlsServer
from cyclone_sse.run_queue import RunQueue

T = TypeVar("T")

HANDSHAKES_A_TURN = 5
MAX_HANDSHAKES = 20  # that wait before the listener stops accepting: so few that none of them times out
EXPIRY_NOTICE = 14 * 86400  # seconds before the end of a certificate from which it is warned of

# For TLS 1.2, what RFC 9325, 4.2 recommends: forward secrecy, and encryption that authenticates.
# TLS 1.3 has nothing else.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def tls_context(cert: str, key: str) -> ssl.SSLContext:
    """Make the context of a listener for TLS 1.2 and up.

    cert: path of a PEM file with the certificate and after it the chain up to, not including,
    the root. key: path of a PEM file with its private key, not encrypted. Raises ValueError,
    which names the option, the file and the problem.
    """
    leaf = _read("--ssl-cert", cert, load_pem_x509_certificates, "a PEM certificate")[0]
    private = _read("--ssl-key", key, _load_key, "an unencrypted PEM private key")
    if _spki(leaf) != _spki(private):
        raise ValueError(f"--ssl-key={key} is not the private key of {cert}")
    # It issues and accepts session tickets, for TLS 1.2 and 1.3: a client that reconnects to the same
    # process needs no full handshake.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 1  # a second one is of use to clients with two connections only
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:  # a key that is too short, say
        raise ValueError(f"--ssl-cert={cert}: {error.reason}") from None
    return context


def expiry(cert: str) -> float:
    """The end of the certificate in this file, in seconds since the epoch. Raises ValueError."""
    leaf = _read("--ssl-cert", cert, load_pem_x509_certificates, "a PEM certificate")[0]
    return leaf.not_valid_after_utc.timestamp()


def expiry_warning(cert: str, now: float) -> list[str]:
    """One line if the certificate has expired or will do so soon. now: seconds since the epoch."""
    end = expiry(cert)
    if end - now > EXPIRY_NOTICE:
        return []
    what = "has expired" if end <= now else "expires"
    return [f"the certificate {cert} {what} on {datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M} UTC"]


class TlsTransports:
    """Makes the transports of a TLS port, with certificates that can be read again.

    cert, key: as for `tls_context`. Raises ValueError. expiry: the end of the certificate in use, in
    seconds since the epoch.
    """

    def __init__(self, cert: str, key: str) -> None:
        self._paths = cert, key
        self._context = tls_context(cert, key)
        self.expiry = expiry(cert)
        self._handshakes: RunQueue | None = None

    @property
    def is_busy(self) -> bool:
        """Whether so many handshakes wait that no more connections should be accepted."""
        return self._handshakes is not None and len(self._handshakes) >= MAX_HANDSHAKES

    def reload(self) -> None:
        """Read the files for new connections. Raises ValueError, and keeps the old certificate."""
        self._context = tls_context(*self._paths)
        self.expiry = expiry(self._paths[0])

    def warnings(self, now: float) -> list[str]:
        """One line if the certificate has expired or will do so soon. now: seconds since the epoch."""
        return expiry_warning(self._paths[0], now)

    def __call__(self, client: socket.socket, *parts: Any) -> TlsServer:
        """Make the transport of a connection that was just accepted.

        parts: what Twisted's transports are made of after their socket; the reactor comes last.
        """
        client.setblocking(False)
        secure = self._context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        if self._handshakes is None:
            self._handshakes = RunQueue(parts[-1], HANDSHAKES_A_TURN)
        transport = TlsServer(secure, *parts)
        transport.handshakes = self._handshakes
        return transport


def _load_key(pem: bytes) -> PrivateKeyTypes:
    return load_pem_private_key(pem, password=None)


def _spki(owner: Certificate | PrivateKeyTypes) -> bytes:
    return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(option: str, path: str, load: Callable[[bytes], T], what: str) -> T:
    try:
        return load(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{option}={path}: {error.strerror}") from None
    except (ValueError, TypeError):
        raise ValueError(f"{option}={path} does not contain {what}") from None
