"""TLS for the second port: certificate, chain and key from PEM files.

Everything that may be wrong with the files is found at start, with one clear line.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates
from OpenSSL.crypto import X509, PKey
from twisted.internet.ssl import CertificateOptions, TLSVersion

T = TypeVar("T")


def tls_context(cert: str, key: str) -> CertificateOptions:
    """What a listener needs for TLS 1.2 and up.

    cert: path of a PEM file with the certificate and after it the chain up to, not including,
    the root. key: path of a PEM file with its private key, not encrypted. Raises ValueError
    with what is wrong with which file.
    """
    leaf, *chain = _read(cert, load_pem_x509_certificates, "a PEM certificate")
    private = _read(key, _load_key, "an unencrypted PEM private key")
    if _spki(leaf) != _spki(private):
        raise ValueError(f"{key} is not the private key of {cert}")
    return CertificateOptions(
        privateKey=PKey.from_cryptography_key(private),  # type: ignore[arg-type]
        certificate=X509.from_cryptography(leaf),
        extraCertChain=[X509.from_cryptography(link) for link in chain],
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableProtocols=[b"http/1.1"],
    )


def _load_key(pem: bytes) -> PrivateKeyTypes:
    return load_pem_private_key(pem, password=None)


def _spki(owner: Certificate | PrivateKeyTypes) -> bytes:
    return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(path: str, load: Callable[[bytes], T], what: str) -> T:
    try:
        return load(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError):
        raise ValueError(f"{path} does not hold {what}") from None
