"""Certificates for tests: a root, an intermediate, and a server's own for 127.0.0.1."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)

Owner = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def certify(name: str, issuer: Owner | None, authority: bool, has_names: bool = True) -> Owner:
    """A certificate and its key, signed by the issuer, or self-signed. has_names: it is for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    local = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        # What RFC 5280 asks for, and Python 3.13 with it.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer[1] if issuer else key).public_key()),
            critical=False,
        )
    )
    if authority:
        builder = builder.add_extension(SIGNS_CERTIFICATES, critical=True)
    elif has_names:
        builder = builder.add_extension(local, critical=False)
    return builder.sign(issuer[1] if issuer else key, SHA256()), key


def write_certificates(directory: Path) -> Path:
    """Write root.pem, chain.pem (leaf and intermediate), leaf.key and other.key; gives the directory."""
    root = certify("root", None, True)
    between = certify("intermediate", root, True)
    leaf = certify("leaf", between, False)
    pem = Encoding.PEM
    (directory / "root.pem").write_bytes(root[0].public_bytes(pem))
    (directory / "chain.pem").write_bytes(leaf[0].public_bytes(pem) + between[0].public_bytes(pem))
    for name, key in (("leaf", leaf[1]), ("other", between[1])):
        secret = key.private_bytes(pem, PrivateFormat.PKCS8, NoEncryption())
        (directory / f"{name}.key").write_bytes(secret)
    return directory


def tls_options(files: Path, key: str = "leaf.key") -> list[str]:
    return ["--use-ssl=1", f"--ssl-cert={files / 'chain.pem'}", f"--ssl-key={files / key}"]
